"""Segmentation: labels for each pixel
===================================

Mix the decoder of a small U-Net, or paste a box of image and label alike. Which digit does each pixel belong to, or is
it paper? The 1797 digits of 8x8 pixels come with scikit-learn; four of them make a page of 16x16. A pixel is a digit's
where there is ink.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, Method
from mixlayers.torch import get_mixer, wrap

TRAIN, STEPS, SEEDS = 100, 80, 3
PAPER = 10
digits = load_digits()


def pages(numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 16, 16) and the class of each pixel (N, 16, 16), four digits a page."""
    ink = digits.images[numbers].reshape(-1, 2, 2, 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 16) / 16
    names = digits.target[numbers].reshape(-1, 2, 2).repeat(8, 1).repeat(8, 2)
    return torch.tensor(ink[:, None], dtype=torch.float32), torch.tensor(np.where(ink > 0.25, names, PAPER))


class Block(nn.Sequential):
    """A convolution, a norm, a ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class UNet(nn.Module):
    """Two levels. All that a pixel's class depends on passes through `join`, not through the levels below it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down, self.deep = Block(1, 16), Block(16, 32), Block(32, 32)
        self.middle, self.join = Block(64, 32), Block(48, 24)
        self.head = nn.Conv2d(24, 11, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.enter(x)
        low = self.down(F.max_pool2d(high, 2))
        deep = self.deep(F.max_pool2d(low, 2))
        low = self.middle(torch.cat([low, F.interpolate(deep, scale_factor=2.0)], 1))
        return self.head(self.join(torch.cat([high, F.interpolate(low, scale_factor=2.0)], 1)))


def score(method: Method | None, layers: object, seed: int) -> tuple[float, float]:
    """Test accuracy over all pixels, and over those of digits."""
    count = len(digits.target) // 4
    order = np.random.default_rng(seed).permutation(len(digits.target))[: 4 * count]
    x, y = pages(order)
    (x, test_x), (y, test_y) = (part.split([TRAIN, count - TRAIN]) for part in (x, y))
    torch.manual_seed(seed)
    model = UNet()
    if method is not None:
        wrap(model, method, layers, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        batch = torch.randperm(TRAIN)[:16]
        if method is None:
            loss = F.cross_entropy(model(x[batch]), y[batch])
        else:
            output, target = model(x[batch], target=y[batch])
            # dense: where a box was pasted, each pixel gets the label of where it came from
            each = target.blend(
                lambda label, z=output: F.cross_entropy(z, label, reduction="none"), dense=True
            )
            loss = each.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    with torch.no_grad():
        right = model.eval()(test_x).argmax(1) == test_y
    return right.float().mean().item(), right[test_y != PAPER].float().mean().item()


print(f"{TRAIN} pages to train, {len(digits.target) // 4 - TRAIN} to test; mean ± sd of {SEEDS} seeds")
print(f"{'':24} all pixels      digits' pixels")
runs = {
    "plain": (None, "auto"),
    "Manifold Mixup, decoder": (ManifoldMixup(1.0), ["input", "join"]),
    "CutMix": (CutMix(prob=1.0), "auto"),
}
worst = 1.0
for name, (method, layers) in runs.items():
    scores = np.array([score(method, layers, seed) for seed in range(SEEDS)])
    (every, ink), (every_sd, ink_sd) = scores.mean(0), scores.std(0, ddof=1)
    worst = min(worst, ink)
    print(f"{name:24} {every:.3f} ± {every_sd:.3f}   {ink:.3f} ± {ink_sd:.3f}")
if worst < 0.5:
    raise SystemExit("fewer than half of the digits' pixels are named rightly: 0.1 is guessing")
