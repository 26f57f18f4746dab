"""Do the drawn steps, on a PIL image or an array; the input is never written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mixlayers._core.augment.crop import Crop
from mixlayers._core.augment.erasing import Erase, channels_last
from mixlayers._core.augment.operations import Operation
from mixlayers._core.augment.policies import Normalize
from mixlayers._core.augment.policy import Size, Step
from mixlayers_pillow._operations import OPERATIONS, crop

Picture = Image.Image | npt.NDArray[Any]

MODES = ("L", "RGB")


def apply(image: Picture, steps: Sequence[Step]) -> Any:
    """Do the steps one after another.

    Args:
        image: A PIL image of mode "L" or "RGB"; a uint8 array of shape (H, W), (H, W, 1) or (H, W, 3); or, for
            erasing alone, a floating array (C, H, W).
        steps: What a policy's `draw` or `plan` returned.

    Returns:
        The same kind of image, which shares no memory with the input; after Normalize a float32 array (C, H, W).

    Raises:
        TypeError: If the image or a step is of another kind.
        ValueError: If the image's mode, shape or dtype is not allowed, or a box lies outside of it.
    """
    size_of(image)
    now: Any = image
    for step in steps:
        if isinstance(step, Operation):
            now = OPERATIONS[step.name](_as_image(now, step), step)
        elif isinstance(step, Crop):
            now = crop(_as_image(now, step), step)
        elif isinstance(step, Erase):
            now = step.on(_as_array(now))
        elif isinstance(step, Normalize):
            now = step.on(_eight_bits(_as_array(now), step))
        else:
            raise TypeError(f"a step must be what a policy draws, such as Operation('Invert'), got {step!r}.")
    return _like(image, now)


def size_of(image: Picture) -> Size:
    """The (height, width) of an image that `apply` takes.

    Raises:
        TypeError: If it is neither a PIL image nor an array.
        ValueError: If its mode, shape or dtype is not allowed.
    """
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise ValueError(
                f"a PIL image must be of mode 'L' or 'RGB', got {image.mode!r}: "
                + (
                    "convert() would cut off its range; scale it, Image.fromarray((np.asarray(image) / 256).astype("
                    "np.uint8)) where it goes to 65535."
                    if image.mode[0] in "IF"
                    else "use image.convert('RGB')."
                )
            )
        width, height = image.size
    elif not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image must be a PIL image or a NumPy array, got {type(image).__name__}: convert it first, "
            "for example by .permute(1, 2, 0).numpy()."
        )
    elif np.issubdtype(image.dtype, np.floating):
        if image.ndim != 3:
            raise ValueError(f"a floating image must be of shape (C, H, W), got {image.shape}.")
        height, width = image.shape[:2] if channels_last(image.shape) else image.shape[1:]
    elif image.dtype != np.uint8:
        raise ValueError(
            f"an array must be uint8, or floating after Normalize, got {image.dtype}: "
            + (
                "16-bit images keep their range as floats, image.astype(np.float32) / 65535, which erasing takes; "
                "the other policies have 8-bit images alone, (image >> 8).astype(np.uint8) where the range is full."
                if image.dtype == np.uint16
                else "convert it by its own range, which whole numbers do not tell; pixels from 0 to 255 "
                "by .astype(np.uint8)."
            )
        )
    elif image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(
            f"a uint8 array must be of shape (H, W), (H, W, 1) or (H, W, 3), got {image.shape}: channels come "
            "last, and transparency must be dropped."
        )
    else:
        height, width = image.shape[:2]
    if not height or not width:
        raise ValueError(f"an image must have a pixel at least, got height {height} and width {width}.")
    return height, width


def _as_image(image: Picture, step: Step) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    pixels = _eight_bits(image, step)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _as_array(image: Picture) -> npt.NDArray[Any]:
    return np.array(image) if isinstance(image, Image.Image) else image


def _eight_bits(image: npt.NDArray[Any], step: Step) -> npt.NDArray[np.uint8]:
    if image.dtype != np.uint8:
        raise ValueError(
            f"{step} needs an 8-bit image, got {image.dtype}: put Normalize last, or before erasing."
        )
    return image


def _like(given: Picture, image: Any) -> Any:
    """The image as the kind that was given, unless it was normalised."""
    if isinstance(given, Image.Image):
        if isinstance(image, Image.Image):
            return image.copy() if image is given else image
        return Image.fromarray(image) if image.dtype == np.uint8 else image
    array = np.array(image) if image is given or isinstance(image, Image.Image) else image
    return array[..., None] if array.dtype == np.uint8 and array.ndim < given.ndim else array
