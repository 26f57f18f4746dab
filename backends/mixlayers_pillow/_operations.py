"""The operations' pixels, by Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image, ImageEnhance, ImageOps

from mixlayers._core.augment.crop import Crop
from mixlayers._core.augment.operations import Operation

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def crop(image: Image.Image, step: Crop) -> Image.Image:
    """Cut the box out, then resize it."""
    if step.top + step.height > image.height or step.left + step.width > image.width:
        raise ValueError(
            f"the crop must lie inside the image of size ({image.height}, {image.width}), got {step}: plan with the "
            "size that the image has at this step."
        )
    box = (step.left, step.top, step.left + step.width, step.top + step.height)
    return image.crop(box).resize(step.size[::-1], INTERPOLATIONS[step.interpolation])


def _shear_x(image: Image.Image, step: Operation) -> Image.Image:
    angle = math.radians(math.degrees(math.atan(step.magnitude)))  # the last bit decides ties between pixels
    return _affine(image, step, (1.0, math.tan(angle), 0.0, 0.0, 1.0, 0.0))


def _shear_y(image: Image.Image, step: Operation) -> Image.Image:
    angle = math.radians(math.degrees(math.atan(step.magnitude)))
    return _affine(image, step, (1.0, 0.0, 0.0, math.sin(angle) / math.cos(angle), 1.0, 0.0))


def _translate_x(image: Image.Image, step: Operation) -> Image.Image:
    return _affine(image, step, (1.0, 0.0, -float(int(step.magnitude)), 0.0, 1.0, 0.0))


def _translate_y(image: Image.Image, step: Operation) -> Image.Image:
    return _affine(image, step, (1.0, 0.0, 0.0, 0.0, 1.0, -float(int(step.magnitude))))


def _affine(image: Image.Image, step: Operation, matrix: tuple[float, ...]) -> Image.Image:
    """Fetch each pixel (x, y) from (a x + b y + c, d x + e y + f)."""
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        INTERPOLATIONS[step.interpolation],
        fillcolor=_fill(image, step),
    )


def _rotate(image: Image.Image, step: Operation) -> Image.Image:
    how = INTERPOLATIONS[step.interpolation]
    return image.rotate(step.magnitude, how, fillcolor=_fill(image, step))


def _fill(image: Image.Image, step: Operation) -> int | tuple[int, ...]:
    channels = len(image.getbands())
    values = step.fill if isinstance(step.fill, tuple) else (step.fill,)
    if len(values) not in (1, channels):
        raise ValueError(f"fill must be one value, or {channels}, one a channel; got {step.fill}.")
    return values[0] if channels == 1 else values * (channels // len(values))


OPERATIONS: Mapping[str, Callable[[Image.Image, Operation], Image.Image]] = MappingProxyType(
    {
        "Identity": lambda image, step: image,
        "ShearX": _shear_x,
        "ShearY": _shear_y,
        "TranslateX": _translate_x,
        "TranslateY": _translate_y,
        "Rotate": _rotate,
        "Brightness": lambda image, step: ImageEnhance.Brightness(image).enhance(1.0 + step.magnitude),
        "Color": lambda image, step: ImageEnhance.Color(image).enhance(1.0 + step.magnitude),
        "Contrast": lambda image, step: ImageEnhance.Contrast(image).enhance(1.0 + step.magnitude),
        "Sharpness": lambda image, step: ImageEnhance.Sharpness(image).enhance(1.0 + step.magnitude),
        "Posterize": lambda image, step: ImageOps.posterize(image, int(step.magnitude)),
        "Solarize": lambda image, step: ImageOps.solarize(image, step.magnitude),  # type: ignore[arg-type]
        "AutoContrast": lambda image, step: ImageOps.autocontrast(image),
        "Equalize": lambda image, step: ImageOps.equalize(image),
        "Invert": lambda image, step: ImageOps.invert(image),
        "HorizontalFlip": lambda image, step: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
)
