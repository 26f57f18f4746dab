"""What Paddle's symbolic tracing, `to_static(full_graph=False)`, is to leave alone: the files of mixlayers.

It would translate every function that a hook calls, bytecode by bytecode, and not be done with the first step for
minutes. What they decide is another in each step, and so no part of any program.
"""

from __future__ import annotations

import os
from types import ModuleType

import mixlayers
import mixlayers_native


def leave_alone(*folders: str) -> bool:
    """Have the functions in some folders run as they are; returns whether this version of Paddle can."""
    try:
        from paddle.jit.sot.opcode_translator import skip_files

        known, tell = skip_files.skip_file_names, skip_files.setup_skip_files
    except (ImportError, AttributeError):
        return False
    known.update(os.path.join(folder, "") for folder in folders)
    tell()
    return True


def _folder(package: ModuleType) -> str:
    return os.path.dirname(str(package.__file__))


LEFT_ALONE = leave_alone(_folder(mixlayers), _folder(mixlayers_native), os.path.dirname(__file__))
"""Whether it does; a test asks."""
