"""The same seed draws the same plans: in every process, and on NumPy 1.26 as on 2.x."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[1]
OLD_NUMPY = Path(sys.prefix) / "numpy-1.26"


def drawn_by(*paths: Path, prints: str) -> list[object]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, HERE.parent]))}
    script = f"import numpy, sys; assert numpy.__version__.startswith({prints!r}), numpy.__version__; "
    script += f"sys.argv = ['write.py']; exec(open({str(HERE / 'golden' / 'write.py')!r}).read())"
    run = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("paths", "version"), [((), "2."), ((OLD_NUMPY,), "1.26")], ids=["numpy-2", "numpy-1.26"]
)
def test_plans_equal_the_golden_file(paths, version):
    expected = json.loads((HERE / "golden" / "plans.json").read_text())
    assert len(expected) > 30
    assert drawn_by(*paths, prints=version) == expected


def test_the_core_leaves_global_generators_alone():
    from mixlayers import PatchUp

    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002  # it is what must not move
    for step in range(5):
        PatchUp("soft").plan(step=step, batch_size=4, places=("a",)).blend((4, 3, 8, 8))
    assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002
