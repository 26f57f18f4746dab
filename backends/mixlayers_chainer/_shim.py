"""Import Chainer 7.8.1, the last there is, on today's Python, setuptools and NumPy.

Its import needs `np.sctypes`, which NumPy 2 has no more, and runs a check of installed versions that needs
numpy.distutils and pkg_resources, which setuptools 74 and 82 took away. For the time of the import, and only
then, `np.sctypes` is lent and the check left out. Where Chainer imports by itself nothing is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import numpy as np

_CHECK = "chainer._environment_check"
_KINDS = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
    "complex": [np.complex64, np.complex128],
    "others": [bool, object, bytes, str, np.void],
}
"""What NumPy 1 had as `np.sctypes`."""


def import_chainer() -> None:
    """Import Chainer, also after an `import chainer` that failed.

    Raises:
        ImportError: If Chainer is not installed, or does not import even with help.
    """
    if "chainer" in sys.modules:
        return
    _forget()
    if hasattr(np, "sctypes"):
        try:
            import_module("chainer")
            return
        except Exception:
            _forget()
    try:
        with _helped():
            import_module("chainer")
    except ModuleNotFoundError as error:
        _forget()
        if error.name != "chainer":
            raise
        raise ModuleNotFoundError(
            "mixlayers.chainer needs Chainer, which is not installed: pip install 'setuptools<82' wheel, then "
            "pip install --no-build-isolation chainer==7.8.1.",
            name="chainer",
        ) from error
    except BaseException:
        _forget()
        raise


@contextmanager
def _helped() -> Iterator[None]:
    """Lend what the import needs."""
    check = ModuleType(_CHECK, "Left out: it would need numpy.distutils and pkg_resources.")
    check.check = lambda: None  # type: ignore[attr-defined]
    sys.modules[_CHECK] = check
    lent = not hasattr(np, "sctypes")
    if lent:
        np.sctypes = _KINDS  # type: ignore[attr-defined]  # noqa: NPY201  # Chainer asks for it
    try:
        yield
    finally:
        sys.modules.pop(_CHECK, None)
        if lent:
            del np.sctypes  # type: ignore[attr-defined]  # noqa: NPY201


def _forget() -> None:
    """Drop the parts that a failed import leaves behind: Python would take them for whole."""
    for name in list(sys.modules):
        if name == "chainer" or name.startswith("chainer."):
            del sys.modules[name]


import_chainer()
