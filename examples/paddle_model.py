"""paddle.Model, unchanged but for its loss
========================================

A callback logs what each step mixed.
"""

import warnings

import numpy as np
import paddle
from paddle import nn
from paddle.io import TensorDataset
from sklearn.datasets import load_digits

from mixlayers import ManifoldMixup
from mixlayers.paddle import Mixer


class LogMixing(paddle.callbacks.Callback):
    """The layer and lam of every step, and how often each layer was mixed."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer
        self.steps: list[tuple[str, float]] = []

    def on_train_batch_end(self, step: int, logs: dict | None = None) -> None:
        self.steps.append((self.mixer.last.place, float(self.mixer.last.lam)))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        place, lam = self.steps[-1]
        if epoch % 5 == 4:
            print(
                f"epoch {epoch + 1:>2}: loss {logs['loss'][0]:.3f}, its last step "
                f"mixed {place!r} with lam {lam:.2f}"
            )


paddle.seed(0)
np.random.seed(0)  # noqa: NPY002 - paddle.io shuffles by it
warnings.filterwarnings(
    "ignore", "To copy construct from a tensor"
)  # what paddle.Model says of its own labels
features, labels = load_digits(return_X_y=True)
x, y = paddle.to_tensor((features / 16).astype("float32")), paddle.to_tensor(labels)
training, test = (
    TensorDataset([x[:1437], y[:1437]]),
    TensorDataset([x[1437:], y[1437:]]),
)
network = nn.Sequential(
    nn.Sequential(nn.Linear(64, 128), nn.ReLU()),
    nn.Sequential(nn.Linear(128, 128), nn.ReLU()),
    nn.Linear(128, 10),
)
mixer = Mixer(network, ManifoldMixup(alpha=2.0), layers=["input", "0"])

model = paddle.Model(network)
optimizer = paddle.optimizer.Adam(2e-3, parameters=network.parameters())
model.prepare(optimizer, mixer.loss(nn.CrossEntropyLoss()), paddle.metric.Accuracy())
log = LogMixing(mixer)
model.fit(training, batch_size=64, epochs=15, verbose=0, callbacks=[log])

places = [place for place, _ in log.steps]
print(
    ", ".join(
        f"{places.count(place)} steps mixed {place!r}"
        for place in sorted(set(places))
    )
)
result = model.evaluate(
    test, batch_size=360, verbose=0
)  # nothing is mixed in evaluation
print(f"test loss {result['loss'][0]:.3f}, accuracy {result['acc']:.3f}")
