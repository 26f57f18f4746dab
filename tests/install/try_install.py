"""Try the README's install lines in empty environments, from the checkout, without pip's cache.

    python tests/install/try_install.py core chainer augment view    # what CI runs, by cost
    python tests/install/try_install.py    # all that README has

Each extra is tried on every Python from 3.10 that is on PATH (python3.10, python3.11 ...), and then runs a step.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STEP = """
import numpy as np
from mixlayers import Mixup
plan = Mixup().plan(step=0, batch_size=4)
assert plan.blend((4, 3)).s == 1 - plan.lam
"""
CHECKS = {
    "core": STEP,
    "torch": "import mixlayers.torch as m, torch; from mixlayers import Mixup; "
    "o, t = m.mix(torch.zeros(4, 3), torch.arange(4), Mixup(), step=0); m.cross_entropy(torch.zeros(4, 4), t)",
    "paddle": "import mixlayers.paddle as m, paddle; from mixlayers import Mixup; "
    "o, t = m.mix(paddle.zeros([4, 3]), paddle.arange(4), Mixup(), step=0); m.cross_entropy(paddle.zeros([4, 4]), t)",
    "chainer": "import mixlayers.chainer as m, numpy as np; from mixlayers import Mixup; "
    "o, t = m.mix(np.zeros((4, 3), 'f'), np.arange(4), Mixup(), step=0); m.cross_entropy(np.zeros((4, 4), 'f'), t)",
    "jax": "import mixlayers.jax as m, numpy as np; import mixlayers.nnx, mixlayers.linen; "
    "from mixlayers import Mixup; o, t = m.mix(np.zeros((4, 3), 'f'), np.arange(4), Mixup(), step=0); "
    "m.cross_entropy(np.zeros((4, 4), 'f'), t)",
    "keras,jax": "import os; os.environ['KERAS_BACKEND'] = 'jax'; import mixlayers.keras as m, keras, numpy as np; "
    "net = m.wrap(keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(4)])); "
    "net.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True)); "
    "net.fit(np.zeros((4, 3), 'f'), np.arange(4), verbose=0)",
    "view": "import mixlayers.view",
    "augment": "import mixlayers.augment as a, numpy as np; a.RandAugment()(np.zeros((8, 8, 3), np.uint8))",
    "torch,demo": "import mixlayers.cli.app",
}


def lines(extra: str) -> list[str]:
    """The README's lines for an extra."""
    if extra == "core":
        return ["pip install ."]
    if extra != "chainer":
        return [f"pip install '.[{extra}]'"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    found = re.findall(r"`(pip install [^`]*)`", readme)
    return [line for line in found if "setuptools" in line or "chainer" in line]


def pythons() -> list[str]:
    """The Pythons that are there; this one at least."""
    found = [shutil.which(f"python3.{minor}") for minor in range(10, 15)]
    runs = [
        path
        for path in found
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode
    ]
    return runs or [sys.executable]


def attempt(python: str, extra: str) -> None:
    """Install one extra, and run what it is for.

    Raises:
        subprocess.CalledProcessError: If a line fails.
    """
    environment = {**os.environ, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        for line in lines(extra):
            command = line.replace("pip install", f"{folder}/bin/python -m pip install -q", 1)
            subprocess.run(["bash", "-c", command], check=True, cwd=ROOT, env=environment)
        subprocess.run([f"{folder}/bin/python", "-c", CHECKS[extra]], check=True, cwd=folder, env=environment)


def main() -> None:
    for extra in sys.argv[1:] or list(CHECKS):
        for python in pythons():
            attempt(python, extra)
            sys.stdout.write(f"{extra}: {python} installs and runs\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
