"""The operations of the policies by their papers' names, and what their magnitudes mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mixlayers._core.augment.policy import Step, check_interpolation
from mixlayers._core.checks import check_integer, keep

RANGES: Mapping[str, tuple[float, float] | None] = MappingProxyType(
    {
        "Identity": None,
        "ShearX": (-1.0, 1.0),
        "ShearY": (-1.0, 1.0),
        "TranslateX": (-65535.0, 65535.0),
        "TranslateY": (-65535.0, 65535.0),
        "Rotate": (-180.0, 180.0),
        "Brightness": (-1.0, 1.0),
        "Color": (-1.0, 1.0),
        "Contrast": (-1.0, 1.0),
        "Sharpness": (-1.0, 1.0),
        "Posterize": (1.0, 8.0),
        "Solarize": (0.0, 256.0),
        "AutoContrast": None,
        "Equalize": None,
        "Invert": None,
        "HorizontalFlip": None,
    }
)
"""Each operation's smallest and largest magnitude; None where it takes none."""

Fill = int | tuple[int, ...]
"""What fills the places that no pixel came to: one value, or one for each channel, in [0, 255]."""


@dataclass(frozen=True, repr=False)
class Operation(Step):
    """One operation on the pixels of an 8-bit image.

    Attributes:
        name: One of `RANGES`.
        magnitude: Shears: the tangent of the angle. Translations: pixels, cut to whole ones. Rotate: degrees,
            counter-clockwise. Brightness, Color, Contrast, Sharpness: the factor less one, so that -1 takes it
            away and 0 changes nothing. Posterize: bits kept, whole. Solarize: values from here on are inverted.
            The others take none: 0.
        fill: For shears, translations and rotations.
        interpolation: For the same: "nearest", "bilinear" or "bicubic".

    Raises:
        ValueError: If the name is unknown, or the magnitude, the fill or the interpolation is not allowed.
    """

    name: str
    magnitude: float = 0.0
    fill: Fill = 0
    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        if self.name not in RANGES:
            raise ValueError(f"the operation must be one of {', '.join(RANGES)}, got {self.name!r}.")
        allowed = RANGES[self.name]
        if allowed is None and self.magnitude:
            raise ValueError(f"{self.name} takes no magnitude, got {self.magnitude}: leave it out.")
        if allowed is not None and not allowed[0] <= self.magnitude <= allowed[1]:
            raise ValueError(
                f"the magnitude of {self.name} must be in [{allowed[0]:g}, {allowed[1]:g}], got {self.magnitude}: "
                "what it measures is in Operation's documentation."
            )
        if self.name == "Posterize" and self.magnitude % 1:
            raise ValueError(f"Posterize keeps a whole number of bits, 1 to 8, got {self.magnitude}.")
        keep(self, magnitude=float(self.magnitude))
        keep(self, fill=check_fill(self.fill))
        check_interpolation(self.interpolation)

    def __repr__(self) -> str:
        told = [repr(self.name)] + ([repr(self.magnitude)] if self.magnitude else [])
        told += [f"fill={self.fill}"] if self.fill else []
        told += [f"interpolation={self.interpolation!r}"] if self.interpolation != "nearest" else []
        return f"Operation({', '.join(told)})"


def check_fill(fill: int | Iterable[int]) -> Fill:
    """The fill as an integer or a tuple of integers in [0, 255]."""
    if isinstance(fill, Iterable):
        return tuple(check_integer("fill", value, 0, 255) for value in fill)
    return check_integer("fill", fill, 0, 255)
