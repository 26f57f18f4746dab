"""Compile iebn.c, when a wheel or an editable install is made. Without a compiler there is no library: no error."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("iebn.c", "iebn_sums.h", "iebn_maps.h", "rbn.h")
LIBRARY = HERE / "iebn.bin"  # no name that Python would import

FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-shared", "-fopenmp-simd"),
    *("-fno-math-errno", "-fno-trapping-math"),  # of -ffast-math nothing that changes what is inf or NaN
)


def fingerprint() -> str:
    """The digest of the sources: a library made of others is not used."""
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:16]


def build(target: Path = LIBRARY, *, clones: bool = True) -> str:
    """Compile the library.

    Args:
        target: Where it goes.
        clones: Whether it also holds the code for processors with wide vectors, which picks itself.

    Returns:
        Why there is none; "" if there is one.
    """
    if os.name != "posix":
        return "only built on Linux and macOS"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    part = target.with_suffix(f".{os.getpid()}.part")
    command = [*compiler, *FLAGS, f'-DSOURCE="{fingerprint()}"', "iebn.c", "-lm", "-o", str(part)]
    said = ""
    for extra in (["-DCLONES"], []) if clones else ([],):  # some compilers and C libraries know no clones
        try:
            subprocess.run([*command, *extra], cwd=HERE, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            return f"no compiler {compiler[0]!r}"
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()[-1] if error.stderr.strip() else str(error)
        else:
            part.replace(target)
            return ""
    return said


if __name__ == "__main__":
    raise SystemExit(build() or None)
