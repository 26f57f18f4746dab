"""Print the policies' golden file: what was drawn (NumPy alone) and, with `pixels`, what became of the pixels.

To renew the file on purpose:
    python tests/golden/write_policies.py pixels > tests/golden/policies.json
"""

import hashlib
import json
import sys

import numpy as np

from mixlayers._core.augment.crop import RandomResizedCrop
from mixlayers._core.augment.erasing import Cutout, RandomErasing
from mixlayers._core.augment.operations import RANGES, Operation
from mixlayers._core.augment.policies import (
    AutoAugment,
    Compose,
    Normalize,
    RandAugment,
    RandomHorizontalFlip,
    TrivialAugmentWide,
)
from mixlayers._core.augment.policy import Policy
from mixlayers._core.augment.policy_tables import SIGNED, strength

POLICIES = [
    AutoAugment("imagenet"),
    AutoAugment("cifar10", fill=(120, 110, 100)),
    AutoAugment("svhn", interpolation="bilinear"),
    RandAugment(),
    RandAugment(3, 30, fill=128),
    TrivialAugmentWide(),
    RandomResizedCrop((16, 20)),
    RandomResizedCrop(12, (0.2, 0.6), (1.0, 1.0), "bicubic"),
    RandomErasing(1.0),
    RandomErasing(1.0, value="rand", count=(1, 3)),
    Cutout(8, value="pixel"),
    Compose(
        [
            RandomResizedCrop(24),
            RandomHorizontalFlip(),
            TrivialAugmentWide(),
            Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            RandomErasing(value="random"),
        ]
    ),
]
SIZE = (37, 53)


def decisions() -> dict[str, list[str]]:
    seed = 2**40 + 1
    return {
        repr(policy): [
            repr(policy.plan(SIZE, index=index, epoch=index % 3, seed=seed)) for index in (0, 1, 2, 10**6)
        ]
        for policy in POLICIES
    }


def picture(mode: str) -> np.ndarray:
    """Smooth and noisy parts, in some of the 256 values only."""
    rng = np.random.Generator(np.random.Philox(key=7))
    shape = (*SIZE, 3) if mode == "RGB" else SIZE
    smooth = np.arange(np.prod(shape)).reshape(shape) * 170 // np.prod(shape) + 20
    return (smooth + rng.integers(0, 40, shape)).astype(np.uint8)


def steps_of(name: str) -> list[Operation]:
    if RANGES[name] is None:
        return [Operation(name)]
    bins = 31
    found = [
        strength(name, level, bins, SIZE, wide=wide) for wide in (False, True) for level in (0, 4, 9, 17, 30)
    ]
    signed = [sign * one for one in found for sign in ((1, -1) if name in SIGNED else (1,))]
    return [Operation(name, one, 9) for one in signed]


def pixels() -> dict[str, str]:
    from mixlayers.augment import apply

    told = {}
    for mode in ("L", "RGB"):
        for name in RANGES:
            told[f"{name} {mode}"] = digest([apply(picture(mode), [step]) for step in steps_of(name)])
    for policy in POLICIES:
        told[repr(policy)] = digest([apply(picture("RGB"), steps) for steps in plans(policy)])
    return told


def plans(policy: Policy) -> list[tuple[object, ...]]:
    return [policy.plan(SIZE, index=index) for index in range(20)]


def digest(arrays: list[np.ndarray]) -> str:
    told = hashlib.sha256()
    for array in arrays:
        told.update(f"{array.shape} {array.dtype}".encode())
        told.update(np.ascontiguousarray(array).tobytes())
    return told.hexdigest()[:16]


if __name__ == "__main__":
    golden = {"decisions": decisions(), **({"pixels": pixels()} if "pixels" in sys.argv else {})}
    json.dump(golden, sys.stdout, indent=0)
