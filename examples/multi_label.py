"""Several heads: one network, one mixed batch
===========================================

Which digit, and which of three things hold of it? The 1797 digits of 8x8 pixels come with scikit-learn. One head names
the digit; the other says, each for itself, whether it is odd, at least five, and a prime.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Method
from mixlayers.torch import get_mixer, wrap

TRAIN, STEPS, SEEDS = 300, 200, 3
x, y = load_digits(return_X_y=True)
images = torch.tensor(x / 16, dtype=torch.float32)
holds = np.stack([y % 2 == 1, y >= 5, np.isin(y, [2, 3, 5, 7])], 1)
labels = {"digit": torch.tensor(y), "holds": torch.tensor(holds, dtype=torch.float32)}


class Heads(nn.Module):
    """A trunk and two heads: a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            layer
            for width in ((64, 128), (128, 128))
            for layer in (nn.Linear(*width), nn.ReLU())
        ]
        self.trunk = nn.Sequential(*layers)
        self.digit, self.holds = nn.Linear(128, 10), nn.Linear(128, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {"digit": self.digit(features), "holds": self.holds(features)}


def loss_of(output: dict[str, Tensor], label: dict[str, Tensor]) -> Tensor:
    """Of both heads; `blend` calls it for the samples' labels and their partners'."""
    each = F.binary_cross_entropy_with_logits(output["holds"], label["holds"])
    return F.cross_entropy(output["digit"], label["digit"]) + each


def score(method: Method | None, seed: int) -> tuple[float, float]:
    """Test accuracy of the digit, and the share of digits with all three right."""
    train, test = torch.tensor(np.random.default_rng(seed).permutation(len(x))).split(
        [TRAIN, len(x) - TRAIN]
    )
    torch.manual_seed(seed)
    model = Heads()
    if method is not None:
        wrap(model, method, layers=["input", "trunk.1", "trunk"], seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        batch = train[torch.randperm(TRAIN)[:64]]
        label = {name: values[batch] for name, values in labels.items()}
        if method is None:
            loss = loss_of(model(images[batch]), label)
        else:
            output, target = model(images[batch], target=label)
            loss = target.blend(lambda label, output=output: loss_of(output, label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    with torch.no_grad():
        output = model.eval()(images[test])
    named = (output["digit"].argmax(1) == labels["digit"][test]).float().mean()
    said = (
        ((output["holds"] > 0) == (labels["holds"][test] > 0)).all(1).float().mean()
    )
    return named.item(), said.item()


print(
    f"{TRAIN} digits to train, {len(x) - TRAIN} to test; mean ± sd of {SEEDS} seeds\n"
    f"{'':15} digit           all three"
)
worst = 1.0
for name, method in {"plain": None, "Manifold Mixup": ManifoldMixup(1.0)}.items():
    scores = np.array([score(method, seed) for seed in range(SEEDS)])
    (named, said), (named_sd, said_sd) = scores.mean(0), scores.std(0, ddof=1)
    worst = min(worst, said)
    print(f"{name:15} {named:.3f} ± {named_sd:.3f}   {said:.3f} ± {said_sd:.3f}")
if worst < 0.8:
    raise SystemExit("fewer than 0.8 of the digits are described rightly")
