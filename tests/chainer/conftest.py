import sys
from pathlib import Path

import mixlayers_chainer  # noqa: F401  # first: its shim lets the tests import Chainer

sys.path.insert(0, str(Path(__file__).parent))
