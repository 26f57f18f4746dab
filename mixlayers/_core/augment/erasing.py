"""RandomErasing and Cutout: a box of one image is replaced by a constant or by noise; the label stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.augment.policy import Policy, Size, Step, check_interval, check_probability, check_size
from mixlayers._core.checks import check_integer, keep
from mixlayers._core.plan.masks import centred
from mixlayers._core.plan.rectangles import TRIES, draw_shape
from mixlayers._core.plan.replacements import constant_fill

NOISES = ("random", "rand", "pixel")
"""Noise for each pixel ("random" is torchvision's name for it, "pixel" timm's), or one colour ("rand", timm's)."""


@dataclass(frozen=True)
class Erase(Step):
    """Replace a box of the image.

    Attributes:
        top, left, height, width: The box, inside the image, in pixels; it may be empty.
        value: One number for each channel, or one for all; or "random" and "pixel" (noise for each pixel) or
            "rand" (one random colour).
        seed: Of the noise.
    """

    top: int
    left: int
    height: int
    width: int
    value: tuple[float, ...] | str = (0.0,)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "left", "height", "width"):
            keep(self, **{name: check_integer(name, getattr(self, name), 0, 2**31 - 1)})
        keep(self, value=_check_value(self.value))
        keep(self, seed=check_integer("seed", self.seed, 0, 2**64 - 1))

    def on(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The image with the box erased, a new array of the same dtype.

        Args:
            image: uint8, (H, W) or (H, W, C), whose noise is uniform in 0 to 255; or floating, (C, H, W), whose
                noise is standard normal, as what Normalize returns nearly is. Floating with 1, 3 or 4 channels last
                and not first, (H, W, C).

        Raises:
            ValueError: If the box is not inside, or the value does not fit the channels or the dtype.
        """
        floating = np.issubdtype(image.dtype, np.floating)
        erased: npt.NDArray[Any] = image.copy()
        last = not floating or channels_last(image.shape)
        planes = (erased[..., None] if erased.ndim == 2 else erased).transpose(2, 0, 1) if last else erased
        rows, columns = planes.shape[1:]
        if self.top + self.height > rows or self.left + self.width > columns:
            raise ValueError(
                f"the erased box must lie inside the image of size ({rows}, {columns}), got {self}: plan with the "
                "size that the image has at this step."
            )
        box = planes[:, self.top : self.top + self.height, self.left : self.left + self.width]
        box[...] = self.fill(box.shape, floating=floating)
        return erased

    def fill(self, shape: tuple[int, ...], *, floating: bool) -> npt.NDArray[Any]:
        """The values that replace the box, broadcastable to its shape (C, height, width)."""
        if isinstance(self.value, tuple):
            filled = constant_fill(self.value, shape[0])
            if not floating and not all(0 <= value <= 255 and value == int(value) for value in self.value):
                raise ValueError(
                    f"in an 8-bit image value must be whole and in [0, 255], got {self.value}: erase after "
                    "Normalize to use its units."
                )
            return filled[:, None, None]
        rng = np.random.Generator(np.random.Philox(key=self.seed))
        shape = (shape[0], 1, 1) if self.value == "rand" else shape
        return (
            rng.standard_normal(shape, dtype=np.float32)
            if floating
            else rng.integers(0, 256, shape, np.uint8)
        )


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a floating image (a, b, c) has its channels last: it has 1, 3 or 4 there and another number first."""
    return shape[-1] in (1, 3, 4) and shape[0] not in (1, 3, 4)


@dataclass(frozen=True)
class RandomErasing(Policy):
    """Erase boxes of random area and shape, each image with probability `p`; the label stays.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. The defaults are torchvision's. timm's are
    `RandomErasing(0.5, (0.02, 1 / 3), (0.3, 1 / 0.3), "const")`. In both the area is uniform in `scale`, the
    logarithm of height / width uniform in that of `ratio`, a box is smaller than the image in both directions, and
    one that is not found in ten draws is left out.

    Attributes:
        p: Probability that an image is changed, in [0, 1].
        scale: Smallest and largest share of the image's area, in (0, 1].
        ratio: Smallest and largest height / width, > 0.
        value: A number, one for each channel, or "const" (timm's name for 0); "random" (torchvision's name) or
            "pixel" (timm's) for noise in each pixel, "rand" (timm's) for one random colour. Noise is standard normal
            after Normalize, uniform in 0 to 255 before.
        count: Fewest and most boxes; each gets its part of the area, as in timm.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] | str = 0.0
    count: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        keep(self, p=check_probability(self.p))
        keep(self, scale=check_interval("scale", self.scale, 0.0, 1.0))
        keep(self, ratio=check_interval("ratio", self.ratio, 0.0, float("inf")))
        keep(self, value=_check_value(self.value))
        keep(self, count=_check_count(self.count))

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        rows, columns = check_size(size)
        if rng.random() >= self.p:
            return ()
        count = int(rng.integers(self.count[0], self.count[1] + 1))
        boxes = (self._box(rng, rows, columns, rows * columns / count) for _ in range(count))
        return tuple(box for box in boxes if box is not None)

    def _box(self, rng: np.random.Generator, rows: int, columns: int, area: float) -> Erase | None:
        for _ in range(TRIES):
            height, width = draw_shape(rng, area, self.scale, self.ratio)
            if height < rows and width < columns:
                top = int(rng.integers(rows - height + 1))
                left = int(rng.integers(columns - width + 1))
                value = _check_value(self.value)
                seed = int(rng.integers(2**63)) if isinstance(value, str) else 0
                return Erase(top, left, height, width, value, seed)
        return None


@dataclass(frozen=True)
class Cutout(Policy):
    """Erase squares around uniform centres, clipped at the border; the label stays.

    DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017: `size` 16 for
    CIFAR-10, 8 for CIFAR-100, 20 for SVHN, after Normalize, a square drawn for each image.

    Attributes:
        size: The squares' side; an odd one counts as the even one below, as in the authors' code.
        count: How many squares.
        value: As in RandomErasing. Published: 0.
    """

    size: int
    count: int = 1
    value: float | tuple[float, ...] | str = 0.0

    def __post_init__(self) -> None:
        keep(self, size=check_integer("size", self.size, 1, 2**31 - 1))
        keep(self, count=check_integer("count", self.count, 1, 1000))
        keep(self, value=_check_value(self.value))

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        rows, columns = check_size(size)
        half = np.full(self.count, self.size // 2)
        (top, bottom), (left, right) = centred(rng, half, rows), centred(rng, half, columns)
        value = _check_value(self.value)
        seeds = rng.integers(2**63, size=self.count) if isinstance(value, str) else np.zeros_like(half)
        return tuple(
            Erase(int(t), int(x), int(b - t), int(y - x), value, int(seed))
            for t, b, x, y, seed in zip(top, bottom, left, right, seeds, strict=True)
        )


def _check_value(value: float | Iterable[float] | str) -> tuple[float, ...] | str:
    if isinstance(value, str):
        if value not in ("const", *NOISES):
            raise ValueError(
                f"value must be a number, one for each channel, 'const' or one of {', '.join(map(repr, NOISES))}, "
                f"got {value!r}."
            )
        return (0.0,) if value == "const" else value
    numbers = tuple(float(number) for number in value) if isinstance(value, Iterable) else (float(value),)
    if not numbers or not np.isfinite(numbers).all():
        raise ValueError(f"value must be finite, one number or one for each channel, got {value}.")
    return numbers


def _check_count(count: tuple[int, int]) -> tuple[int, int]:
    fewest, most = (check_integer("count", number, 1, 1000) for number in count)
    if fewest > most:
        raise ValueError(f"count must be (fewest, most), got {count}.")
    return fewest, most
