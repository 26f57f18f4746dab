"""The core's policies, made callable: each one is a `transform` for any framework's data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixlayers._core.augment import crop, erasing, policies
from mixlayers._core.augment.policy import Policy
from mixlayers_pillow._apply import Picture, apply, size_of


class Transform(Policy):
    """A policy that can be called on an image."""

    def __call__(self, image: Picture, *, index: int | None = None, epoch: int = 0, seed: int = 0) -> Any:
        """Draw the steps and do them.

        `transform(image)` draws from the operating system's entropy: different in every call, worker, process and
        run. `transform(image, index=i, epoch=e, seed=s)` is a pure function: the same in any number of workers and
        in every framework. No global generator has a part in either.

        Args:
            image: A PIL image, mode "L" or "RGB", or a uint8 array (H, W), (H, W, 1) or (H, W, 3); for erasing
                also a floating array (C, H, W), or with 1, 3 or 4 channels last, (H, W, C).
            index: What tells the image from others of the epoch, >= 0.
            epoch, seed: The epoch's number and the run's seed, >= 0.

        Returns:
            The same kind of image, which shares no memory with the input; after Normalize a float32 array
            (C, H, W).

        Raises:
            TypeError: If the image is of another kind.
            ValueError: If its mode, shape or dtype is not allowed; or there is an epoch or a seed, and no index.
        """
        size = size_of(image)
        if index is not None:
            return apply(image, self.plan(size, index=index, epoch=epoch, seed=seed))
        if epoch or seed:
            raise ValueError(
                f"epoch and seed need the image's index too, got epoch={epoch}, seed={seed}: pass index=, or "
                "none of them."
            )
        return apply(image, self.draw(np.random.default_rng(), size))


class AutoAugment(policies.AutoAugment, Transform):
    __doc__ = policies.AutoAugment.__doc__


class RandAugment(policies.RandAugment, Transform):
    __doc__ = policies.RandAugment.__doc__


class TrivialAugmentWide(policies.TrivialAugmentWide, Transform):
    __doc__ = policies.TrivialAugmentWide.__doc__


class RandomHorizontalFlip(policies.RandomHorizontalFlip, Transform):
    __doc__ = policies.RandomHorizontalFlip.__doc__


class Normalize(policies.Normalize, Transform):
    __doc__ = policies.Normalize.__doc__


class Compose(policies.Compose, Transform):
    __doc__ = policies.Compose.__doc__


class RandomResizedCrop(crop.RandomResizedCrop, Transform):
    __doc__ = crop.RandomResizedCrop.__doc__


class RandomErasing(erasing.RandomErasing, Transform):
    __doc__ = erasing.RandomErasing.__doc__


class Cutout(erasing.Cutout, Transform):
    __doc__ = erasing.Cutout.__doc__
