"""Segmentation: a label for each pixel
====================================

CutMix pastes a box of another image, and the labels of its pixels come with it. Manifold
Mixup blends the decoder of a U-Net. Both are tried on pages of handwritten digits.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, Method
from mixlayers.torch import get_mixer, mix, wrap

TRAIN, STEPS, SEEDS = 100, 80, 3
PAPER = 10

# %%
# Which digit does each pixel belong to, or is it paper? Four of scikit-learn's digits
# make a page of 16x16 pixels. A pixel is a digit's where there is ink.

digits = load_digits()


def pages(numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 16, 16) and the class of each pixel (N, 16, 16)."""
    four = digits.images[numbers].reshape(-1, 2, 2, 8, 8)
    ink = four.transpose(0, 1, 3, 2, 4).reshape(-1, 16, 16) / 16
    names = digits.target[numbers].reshape(-1, 2, 2).repeat(8, 1).repeat(8, 2)
    classes = np.where(ink > 0.25, names, PAPER)
    return torch.tensor(ink[:, None], dtype=torch.float32), torch.tensor(classes)


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pages and classes to train, and to test."""
    count = len(digits.target) // 4
    order = np.random.default_rng(seed).permutation(len(digits.target))[: 4 * count]
    x, y = pages(order)
    return x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:]


# %%
# Where a box was pasted, each pixel has the class that it had in its own page.

x, y, test_x, test_y = split(seed=0)
mixed, target = mix(x, y, CutMix(), step=0)
pasted = target.blend(lambda y: y.float(), dense=True).round().long()


def picture(rows: dict[str, Sequence[Tensor]]) -> Figure:
    figure = Figure(figsize=(6.4, 1.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 4)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, image in zip(line, images[:4], strict=True):
            classes = not image.is_floating_point()
            image = image.squeeze().numpy()
            image = np.ma.masked_equal(image, PAPER) if classes else image
            style = {"cmap": "tab10", "vmax": 9} if classes else {"cmap": "gray_r"}
            axes.imshow(image, vmin=0, **style)
            axes.set(xticks=[], yticks=[])
    return figure


picture({"page": x, "mixed": mixed, "classes": pasted})

# %%
# All that a pixel's class depends on passes through `join`, but not through the levels
# below it: the skip connections go round those. The audit would refuse `middle`.


class Block(nn.Sequential):
    """A convolution, a norm, a ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        convolution = nn.Conv2d(channels, width, 3, padding=1)
        super().__init__(convolution, nn.BatchNorm2d(width), nn.ReLU())


class UNet(nn.Module):
    """Two levels."""

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
        return self.head(
            self.join(torch.cat([high, F.interpolate(low, scale_factor=2.0)], 1))
        )


# %%
# A loss of your own returns a value for each pixel, and ``dense=True`` weighs each
# value by the mask at its pixel.


def fit(method: Method | None, layers: object, seed: int) -> nn.Module:
    x, y, *_ = split(seed)
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
            each = target.blend(
                lambda y, z=output: F.cross_entropy(z, y, reduction="none"),
                dense=True,
            )
            loss = each.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    return model.eval()


def score(model: nn.Module, seed: int) -> tuple[float, float]:
    """Test accuracy over all pixels, and over those of digits."""
    *_, test_x, test_y = split(seed)
    with torch.no_grad():
        right = model(test_x).argmax(1) == test_y
    return right.float().mean().item(), right[test_y != PAPER].float().mean().item()


# %%
# With so little training, neither of them helps here. The numbers only show that all of
# it trains; give CutMix the longer schedules that it was published with.

print(f"{TRAIN} pages to train; mean ± sd of {SEEDS} seeds")
print(f"{'':24} all pixels      digits' pixels")
runs = {
    "plain": (None, "auto"),
    "Manifold Mixup, decoder": (ManifoldMixup(1.0), ["input", "join"]),
    "CutMix": (CutMix(prob=1.0), "auto"),
}
worst = 1.0
for name, (method, layers) in runs.items():
    models = [fit(method, layers, seed) for seed in range(SEEDS)]
    scores = np.array([score(model, seed) for seed, model in enumerate(models)])
    (every, ink), (every_sd, ink_sd) = scores.mean(0), scores.std(0, ddof=1)
    worst = min(worst, ink)
    print(f"{name:24} {every:.3f} ± {every_sd:.3f}   {ink:.3f} ± {ink_sd:.3f}")
if worst < 0.5:
    raise SystemExit("fewer than half of the digits' pixels are named rightly")

# %%
# What the last network finds on pages that it has not seen.

*_, test_x, test_y = split(seed=SEEDS - 1)
with torch.no_grad():
    found = models[-1](test_x[:4]).argmax(1)
picture({"page": test_x, "classes": test_y, "found": found})
