"""The shim first: it lets the tests import Chainer."""

import mixlayers_chainer  # noqa: F401
