"""The compiled library, or None."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from mixlayers_native._build import LIBRARY, fingerprint


@cache
def library() -> ctypes.CDLL | None:
    """The library, if it was built from these sources; MIXLAYERS_NATIVE=0 in the environment turns it off."""
    if os.environ.get("MIXLAYERS_NATIVE", "1") == "0" or not LIBRARY.exists():
        return None
    try:
        found = ctypes.CDLL(str(LIBRARY))
    except OSError:  # built for another machine
        return None
    found.iebn_source.restype = ctypes.c_char_p
    return found if found.iebn_source().decode() == fingerprint() else None
