"""Writing a method
================

CutMix pastes a box. This method cuts along a straight line instead, and takes thirty
lines. All that the library does with its own methods it then does with this one.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from mixlayers import view
from mixlayers.extend import MixingMethod
from mixlayers.testing import check
from mixlayers.torch import get_mixer, mix, wrap

# %%
# A recipe is a mask that is drawn once the shape is known, the input's or a layer's:
# True where the partner goes. It draws from the step's own stream and from nothing
# else, so that a step is always mixed alike. Axes of length 1 are left whole.


@dataclass(frozen=True)
class Line:
    """One side of a straight line, the same for all channels."""

    masked: ClassVar[bool] = True
    labels_stay: ClassVar[bool] = False

    def draw(self, rng, channels, spatial):
        direction = rng.normal(size=len(spatial))
        axes = [np.linspace(-1.0, 1.0, size) for size in spatial]
        height = sum(
            slope * along
            for slope, along in zip(
                direction, np.meshgrid(*axes, indexing="ij"), strict=True
            )
        )
        mask = height > rng.uniform(height.min(), height.max())
        return mask[None, None], None  # for all samples and channels


# %%
# A method draws lam and a recipe. Under the mask, lam is the share that a sample keeps
# of itself: 0 pastes the partner. The label's share is counted on the mask.


@dataclass(frozen=True, repr=False)
class LineMix(MixingMethod):
    """Paste what the partner has on one side of a random line."""

    hidden_layers: ClassVar[bool] = True
    partial: ClassVar[bool] = True

    def draw(self, rng, perm, place):
        return 0.0, Line()


# %%
# Look at it: a batch of digits, and masks of several shapes.

digits = load_digits()
x = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
plan = LineMix().plan(step=3, batch_size=64)
view.batch(x[:64], plan, labels=y[:64], samples=6)

# %%

view.masks(LineMix(), {"input": (64, 3, 32, 32), "layer1": (64, 16, 16, 16)})

# %%
# ``check`` mixes samples of one colour each, and asks whether each label has the share
# of its sample in the mixed image; whether what it was given is left alone, batches of
# 1 go through, and more.

report = check(lambda x, y: mix(x, y, LineMix()), array=torch.tensor)
print(report)

# %%
# Train with it, at the input and after the first stage.


def accuracy(mixed: bool, seed: int) -> float:
    order = torch.tensor(np.random.default_rng(seed).permutation(len(x)))
    train, test = order[:200], order[200:]
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 32, 3, 2, padding=1), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )
    if mixed:
        wrap(
            model, LineMix(prob=0.5), layers=["input", "0"], example=x[:4], seed=seed
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(200):
        batch = train[torch.randint(len(train), (64,))]
        output = (
            model(x[batch], target=y[batch]) if mixed else (model(x[batch]), y[batch])
        )
        loss = F.cross_entropy(*output)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if mixed and seed == 0:
        print(get_mixer(model).history)
    model.eval()
    with torch.no_grad():
        return (model(x[test]).argmax(1) == y[test]).float().mean().item()


for mixed in (False, True):
    scores = [accuracy(mixed, seed) for seed in range(3)]
    name = "LineMix" if mixed else "plain"
    print(f"{name:8} accuracy {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}")
if not report.ok:
    raise SystemExit("the method breaks a rule")
