"""DropBlock and erasing as methods: parts of a batch or of hidden features are replaced, the labels stay."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from mixlayers._core.augment.erasing import RandomErasing
from mixlayers._core.checks import check_integer, keep
from mixlayers._core.methods.method import MixingMethod
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Recipe
from mixlayers._core.plan.replacements import DroppedBlocks, ErasedBoxes


class ReplacingMethod(MixingMethod):
    """A method without partners: it needs no labels and changes none."""

    hidden_layers: ClassVar[bool] = True
    has_partners: ClassVar[bool] = False
    labels_mix: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for one in fields(MixingMethod):
            if one.name != "prob" and getattr(self, one.name) != one.default:
                raise ValueError(
                    f"{type(self).__name__} has no partners, got {one.name}={getattr(self, one.name)!r}: leave "
                    f"{one.name} out."
                )


@dataclass(frozen=True, repr=False)
class DropBlock(ReplacingMethod):
    """Set blocks of a feature to zero, each sample and channel its own, and scale the rest up.

    Ghiasi et al., "DropBlock: A Regularization Method for Convolutional Networks", NeurIPS 2018.

    It needs no labels: a wrapped model applies it in each training forward, `model(x)`, with gradients on; a target
    that is given comes back as it was. Blocks fall with the paper's rate, drop * prod(f / (b * (f - b + 1))) over the
    spatial axes of sides f, wherever a block b fits, as in the paper; since they overlap, a little less than `drop` is
    set to zero. (timm and others let them reach over the border too, by the same rate: on a map of 7 x 7, drop=0.1
    then sets 0.9 of it to zero.) What is kept is multiplied by all / kept features, counted over the whole batch as in
    the authors' code. A feature (N, C) loses single features: dropout.

    A step drops at one of the layers, drawn uniformly, or with `every_place` at all of them. The authors do so after
    every norm of each bottleneck of the third and the fourth stage and on its shortcut, in the third at a quarter of
    the rate, and let `drop` rise linearly from 0, which `Scheduled(DropBlock(), warmup=steps)` does on average: it
    drops ever more often.

    Attributes:
        drop: 1 - keep_prob of the paper, in (0, 1). Published: 0.1.
        block_size: Side of a block, >= 1, clipped to the map. Published: 7.
        couple_channels: Whether the channels of a sample drop the same blocks.
        every_place: Whether a step drops at all listed layers, as published, or at one of them, drawn uniformly.
    """

    drop: float = 0.1
    block_size: int = 7
    couple_channels: bool = False
    every_place: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.drop < 1.0:
            raise ValueError(
                f"drop must be in (0, 1), got {self.drop}: it is the share to drop; leave the method out for 0."
            )
        keep(self, block_size=check_integer("block_size", self.block_size, 1, 2**31 - 1))

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        return 1.0, DroppedBlocks(self.drop, self.block_size, self.couple_channels)


@dataclass(frozen=True, repr=False)
class Erasing(ReplacingMethod):
    """Erase boxes of a batch of images, each image its own: `mix(images, labels, Erasing())`; the labels stay.

    The laws are those of `mixlayers.augment.RandomErasing` and, with `size`, of `Cutout`, which work on one image. At
    hidden layers each sample's maps lose the same box in all channels. `wrap(model, Erasing(), layers="input")` erases
    in each training forward, `model(x)`; it needs no labels.

    Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; DeVries, Taylor, arXiv:1708.04552 (Cutout).

    Attributes:
        p: Probability that an image is changed, in [0, 1]. Published for Cutout: 1.
        scale: Smallest and largest share of the image's area, in (0, 1].
        ratio: Smallest and largest height / width, > 0.
        value: A number, or one for each channel; "random" (torchvision's name) or "pixel" (timm's) for standard normal
            noise, "rand" for one random colour.
        count: Fewest and most boxes.
        size: The side of Cutout's squares, which are cut at the border; instead of scale and ratio.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] | str = 0.0
    count: tuple[int, int] = (1, 1)
    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        law = RandomErasing(self.p, self.scale, self.ratio, self.value, self.count)
        keep(self, **vars(law))
        if self.size is not None:
            keep(self, size=check_integer("size", self.size, 1, 2**31 - 1))

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        value: Any = self.value  # checked, when the method was made
        return 1.0, ErasedBoxes(self.p, self.scale, self.ratio, value, self.count, self.size, quantiles=True)
