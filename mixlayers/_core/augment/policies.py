"""AutoAugment, RandAugment, TrivialAugment, flips, normalisation, and how they follow one another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mixlayers._core.augment.operations import Fill, Operation, check_fill
from mixlayers._core.augment.policy import Policy, Size, Step, check_interpolation, check_probability
from mixlayers._core.augment.policy_tables import AUTO_AUGMENT, RAND_AUGMENT, SIGNED, strength, sub_policies
from mixlayers._core.checks import check_integer, keep


@dataclass(frozen=True, kw_only=True, repr=False)
class OperationPolicy(Policy):
    """The arguments that the policies made of operations share.

    Attributes:
        fill: For the places that no pixel came to: one value, or one for each channel, in [0, 255].
        interpolation: Of shears, translations and rotations: "nearest", "bilinear" or "bicubic".
    """

    fill: Fill = 0
    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        keep(self, fill=check_fill(self.fill))
        check_interpolation(self.interpolation)

    def __repr__(self) -> str:
        shared = {field.name: field.default for field in fields(OperationPolicy)}
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        own = [f"{name}={value!r}" for name, value in told.items() if name not in shared]
        changed = [f"{name}={told[name]!r}" for name, default in shared.items() if told[name] != default]
        return f"{type(self).__name__}({', '.join(own + changed)})"

    def _operation(self, name: str, how_strong: float, negative: bool) -> Operation:
        signed = -how_strong if negative and name in SIGNED else how_strong
        return Operation(name, signed, self.fill, self.interpolation)


@dataclass(frozen=True, repr=False)
class AutoAugment(OperationPolicy):
    """One of 25 pairs of operations, each with its own probability and strength, found by search.

    Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019.

    Attributes:
        policy: The data that the pairs were found on: "imagenet", "cifar10" or "svhn".
    """

    policy: str = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy not in AUTO_AUGMENT:
            raise ValueError(
                f"policy must be one of {', '.join(map(repr, AUTO_AUGMENT))}, got {self.policy!r}: for other "
                "data try TrivialAugmentWide(), which was not fitted to any."
            )

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        pairs = sub_policies(self.policy)
        pair = pairs[int(rng.integers(len(pairs)))]
        chances, signs = rng.random(2), rng.integers(2, size=2)
        return tuple(
            self._operation(name, strength(name, level or 0, 10, size), bool(sign))
            for (name, probability, level), chance, sign in zip(pair, chances, signs, strict=True)
            if chance < probability
        )


@dataclass(frozen=True, repr=False)
class RandAugment(OperationPolicy):
    """A few of 14 operations, drawn with replacement, all of one strength.

    Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2019.

    Attributes:
        num_ops: How many operations, >= 1. Published: 1 to 3, for ImageNet 2.
        magnitude: Their level, in [0, num_magnitude_bins). For ImageNet 9.
        num_magnitude_bins: How many levels there are from none to the strongest, >= 2.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = "leave the policy out to change nothing."
        keep(self, num_ops=check_integer("num_ops", self.num_ops, 1, 1000, hint))
        keep(self, num_magnitude_bins=check_integer("num_magnitude_bins", self.num_magnitude_bins, 2, 2**16))
        last, hint = self.num_magnitude_bins - 1, "raise num_magnitude_bins."
        keep(self, magnitude=check_integer("magnitude", self.magnitude, 0, last, hint))

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        steps = []
        for choice, sign in zip(
            rng.integers(len(RAND_AUGMENT), size=self.num_ops),
            rng.integers(2, size=self.num_ops),
            strict=True,
        ):
            name = RAND_AUGMENT[int(choice)]
            how_strong = strength(name, self.magnitude, self.num_magnitude_bins, size)
            steps.append(self._operation(name, how_strong, bool(sign)))
        return tuple(steps)


@dataclass(frozen=True, repr=False)
class TrivialAugmentWide(OperationPolicy):
    """One of RandAugment's 14 operations, of any strength up to far stronger ones: nothing to tune.

    Müller, Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021.

    Attributes:
        num_magnitude_bins: How many levels there are from none to the strongest, >= 2.
    """

    num_magnitude_bins: int = 31

    def __post_init__(self) -> None:
        super().__post_init__()
        keep(self, num_magnitude_bins=check_integer("num_magnitude_bins", self.num_magnitude_bins, 2, 2**16))

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        name = RAND_AUGMENT[int(rng.integers(len(RAND_AUGMENT)))]
        level, sign = int(rng.integers(self.num_magnitude_bins)), bool(rng.integers(2))
        return (self._operation(name, strength(name, level, self.num_magnitude_bins, size, wide=True), sign),)


@dataclass(frozen=True)
class RandomHorizontalFlip(Policy):
    """Left to right, with probability `p`.

    Attributes:
        p: In [0, 1].
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        keep(self, p=check_probability(self.p))

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        return (Operation("HorizontalFlip"),) if rng.random() < self.p else ()


@dataclass(frozen=True)
class Normalize(Policy, Step):
    """From 8-bit pixels to what a network reads: float32, channels first, (pixel / 255 - mean) / std.

    Attributes:
        mean: Of each channel, or one for all, for pixels in [0, 1].
        std: The same, > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            keep(self, **{name: tuple(float(value) for value in getattr(self, name))})
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"mean and std must have one value for each channel, got {len(self.mean)} and {len(self.std)}."
            )
        if not all(0.0 < value < float("inf") for value in self.std):
            raise ValueError(f"std must be positive, got {self.std}.")
        if not np.isfinite(self.mean).all():
            raise ValueError(f"mean must be finite, got {self.mean}.")

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        return (self,)

    def on(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalise a uint8 array (H, W) or (H, W, C); returns float32, (C, H, W)."""
        pixels = image[..., None] if image.ndim == 2 else image
        channels = pixels.shape[-1]
        if len(self.mean) not in (1, channels):
            raise ValueError(
                f"Normalize has {len(self.mean)} means for an image of {channels} channels: pass one for each, or one."
            )
        mean, std = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (self.mean, self.std))
        normal = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        normal /= np.float32(255.0)
        normal -= mean
        normal /= std
        return normal


@dataclass(frozen=True)
class Compose(Policy):
    """One policy after another; Normalize comes last, or before erasing.

    Attributes:
        policies: In their order.
    """

    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.policies, Iterable):
            raise TypeError(f"Compose takes a list of policies, got {self.policies!r}.")
        keep(self, policies=tuple(self.policies))
        for policy in self.policies:
            if not isinstance(policy, Policy):
                raise TypeError(
                    f"Compose takes policies of mixlayers.augment such as RandAugment(), got {policy!r}: call "
                    "anything else before or after it."
                )

    def draw(self, rng: np.random.Generator, size: Size) -> tuple[Step, ...]:
        steps: list[Step] = []
        for policy in self.policies:
            for step in policy.draw(rng, size):
                steps.append(step)
                size = step.size_after(size)
        return tuple(steps)
