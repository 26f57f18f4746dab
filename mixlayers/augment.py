"""Augmentation policies for images, for any framework's data set."""

from mixlayers_pillow import AutoAugment as AutoAugment
from mixlayers_pillow import Compose as Compose
from mixlayers_pillow import Crop as Crop
from mixlayers_pillow import Cutout as Cutout
from mixlayers_pillow import Erase as Erase
from mixlayers_pillow import Normalize as Normalize
from mixlayers_pillow import Operation as Operation
from mixlayers_pillow import RandAugment as RandAugment
from mixlayers_pillow import RandomErasing as RandomErasing
from mixlayers_pillow import RandomHorizontalFlip as RandomHorizontalFlip
from mixlayers_pillow import RandomResizedCrop as RandomResizedCrop
from mixlayers_pillow import TrivialAugmentWide as TrivialAugmentWide
from mixlayers_pillow import __all__ as __all__
from mixlayers_pillow import apply as apply
