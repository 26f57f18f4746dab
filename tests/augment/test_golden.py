"""The same seed draws the same steps, on NumPy 1.26 as on 2.x, and the same steps make the same pixels.

That the pixels are torchvision's own is checked by tests/vision/test_policies.py, in `make test-vision`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
OLD_NUMPY = Path(sys.prefix) / "numpy-1.26"


@pytest.mark.parametrize(
    ("paths", "version", "parts"),
    [((), "2.", ["decisions", "pixels"]), ((OLD_NUMPY,), "1.26", ["decisions"])],
    ids=["numpy-2", "numpy-1.26"],
)
def test_policies_equal_the_golden_file(paths, version, parts):
    roots = map(str, (*paths, TESTS.parent, TESTS.parent / "backends"))
    script = f"import numpy, sys; assert numpy.__version__.startswith({version!r}), numpy.__version__; "
    script += f"sys.argv = {['write_policies.py', *parts]}; "
    script += f"exec(open({str(GOLDEN / 'write_policies.py')!r}).read())"
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told, golden = json.loads(run.stdout), json.loads((GOLDEN / "policies.json").read_text(encoding="utf-8"))
    for part in parts:
        assert told[part] == golden[part]
    assert len(golden["pixels"]) == 2 * 16 + 12
