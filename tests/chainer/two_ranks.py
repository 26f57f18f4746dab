"""What test_training.py runs in two processes: data-parallel training under ChainerMN."""

import importlib
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = map(str, (ROOT, ROOT / "backends"))
warnings.simplefilter("ignore")

importlib.import_module("mixlayers.chainer")  # before chainer, which it helps to be imported

import chainer  # noqa: E402
import chainermn  # noqa: E402
import numpy as np  # noqa: E402

from mixlayers.chainer import Classifier  # noqa: E402
from tests.chainer.chainer_networks import Net  # noqa: E402

communicator = chainermn.create_communicator("naive")
model = Classifier(Net(), layers=["layer1", "layer2"])
optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.SGD(0.1), communicator).setup(model)
rng = np.random.default_rng(communicator.rank)
lams = []
for _ in range(4):
    x, y = rng.standard_normal((6, 3, 8, 8), dtype=np.float32), rng.integers(4, size=6)
    optimizer.update(model, x, y)
    lams.append(model.mixer.last.lam)
weights = communicator.gather_obj([p.array for p in model.params()])
plans = communicator.gather_obj(lams)
if communicator.rank == 0:
    if all(np.array_equal(p, q) for p, q in zip(*weights, strict=True)):
        sys.stdout.write("weights-equal\n")
    if len({*plans[0], *plans[1]}) == 2 * len(lams):
        sys.stdout.write("plans-differ\n")
