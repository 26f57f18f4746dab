"""The import of Chainer, in processes of their own: on NumPy 1.26 and 2, first, and after a failure."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import chainer
import chainer.functions as F
import numpy as np
import pytest
from chainer import Variable

ROOT = Path(__file__).parents[2]
NUMPYS = {"numpy-1.26": [Path(sys.prefix) / "numpy-1.26"], "numpy-2": []}

WORKS = """
import mixlayers.chainer
import sys, numpy as np
assert np.__version__.startswith(sys.argv[1]), np.__version__
import chainer, chainer.functions as F, chainer.links as L
assert hasattr(np, "sctypes") == np.__version__.startswith("1."), "np.sctypes is lent for the import alone"
assert "Left out" not in str(vars(sys.modules.get("chainer._environment_check", sys)).get("__doc__"))
model = L.Classifier(chainer.Sequential(L.Linear(4, 8), F.relu, L.Linear(8, 3)))
optimizer = chainer.optimizers.MomentumSGD(0.1).setup(model)
x, y = np.ones((6, 4), np.float32), np.zeros(6, np.int32)
losses = []
for _ in range(3):
    optimizer.update(model, x, y)
    losses.append(float(model.loss.array))
assert losses[2] < losses[0]
mixed = mixlayers.chainer.Classifier(chainer.Sequential(L.Linear(4, 8), F.relu, L.Linear(8, 3)), layers=["0"])
mixed.cleargrads()
mixed(x, y).backward()
assert mixed.loss.dtype == np.float32 and mixed.mixer.last.place == "0"
print("works")
"""


def run(code, numpy="numpy-2"):
    path = os.pathsep.join(map(str, [*NUMPYS[numpy], ROOT, ROOT / "backends"]))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, numpy.removeprefix("numpy-")],
        env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("numpy", NUMPYS)
def test_chainer_imports_and_trains(numpy):
    done = run(WORKS, numpy)
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("numpy", NUMPYS)
def test_an_import_that_failed_before_is_forgotten(numpy):
    """With NumPy 1.26 it is a deprecation, an error in these processes, that stops Chainer."""
    failing = """
import sys
try:
    import chainer
except BaseException as error:
    assert any(name.startswith("chainer.") for name in sys.modules), "there is nothing to forget"
else:
    raise SystemExit("chainer imports by itself: the test has lost its point")
"""
    done = run(failing + WORKS, numpy)
    assert done.stdout == "works\n", done.stderr


def test_a_chainer_that_is_there_is_left_alone():
    done = run("""
import runpy, sys, types
sys.modules["chainer"] = whole = types.ModuleType("chainer")
runpy.run_path("backends/mixlayers_chainer/_shim.py")
assert sys.modules["chainer"] is whole and "chainer.links" not in sys.modules
print("left")
""")
    assert done.stdout == "left\n", done.stderr


def test_without_chainer_the_way_to_install_it_is_told():
    done = run("""
import sys
class Hides:
    def find_spec(name, path=None, target=None):
        if name == "chainer":
            raise ModuleNotFoundError("No module named 'chainer'", name="chainer")
sys.meta_path.insert(0, Hides)
import mixlayers.chainer
""")
    assert done.returncode == 1 and "pip install --no-build-isolation chainer==7.8.1" in done.stderr


def test_errors_of_other_packages_are_told_as_they_are():
    done = run("import sys; sys.modules['six'] = None; import mixlayers.chainer")
    assert done.returncode == 1 and "import of six halted" in done.stderr.splitlines()[-1]


def test_what_numpy_2_has_no_more_is_used_in_two_functions_alone():
    """The list in the docstring of mixlayers.chainer: any other file would have to be added there."""
    package = Path(chainer.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or hasattr(np, node.attr):
                continue
            if getattr(node.value, "id", None) in ("np", "numpy", "xp"):
                found.add((path.stem, node.attr))
    listed = {("resize_images", "float"), ("as_strided", "sctypes")}
    assert found - {("_environment_check", "distutils")} == listed  # the check is left out
    image = Variable(np.ones((1, 1, 2, 2), np.float32))
    with pytest.raises(AttributeError, match="float"):
        F.resize_images(image, (4, 4))
    strided = F.as_strided(image, (2,), (1,), 0)
    with pytest.raises(AttributeError, match="sctypes"):
        F.sum(strided).backward()
