"""Image augmentation by Pillow; `mixlayers.augment` is its face."""

import mixlayers_pillow._needs  # noqa: F401, I001  # first: it says the way out where PIL is missing

from mixlayers._core.augment.erasing import Erase as Erase
from mixlayers._core.augment.operations import Operation as Operation
from mixlayers._core.augment.crop import Crop as Crop
from mixlayers_pillow._apply import apply as apply
from mixlayers_pillow._transforms import AutoAugment as AutoAugment
from mixlayers_pillow._transforms import Compose as Compose
from mixlayers_pillow._transforms import Cutout as Cutout
from mixlayers_pillow._transforms import Normalize as Normalize
from mixlayers_pillow._transforms import RandAugment as RandAugment
from mixlayers_pillow._transforms import RandomErasing as RandomErasing
from mixlayers_pillow._transforms import RandomHorizontalFlip as RandomHorizontalFlip
from mixlayers_pillow._transforms import RandomResizedCrop as RandomResizedCrop
from mixlayers_pillow._transforms import TrivialAugmentWide as TrivialAugmentWide

__all__ = [
    "AutoAugment",
    "Compose",
    "Crop",
    "Cutout",
    "Erase",
    "Normalize",
    "Operation",
    "RandAugment",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "TrivialAugmentWide",
    "apply",
]
