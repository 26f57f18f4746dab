"""python examples/evidence: print what the pages should say of the records; with --write, say it there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evidence.pages import main_of_all

main_of_all()
