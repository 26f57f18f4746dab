"""Print the plans of the golden file; runs with NumPy alone, on any supported version.

To renew the file on purpose (and raise FORMAT in mixlayers/_core/plan/plan.py):
    python tests/golden/write.py > tests/golden/plans.json
"""

import hashlib
import json
import sys

import numpy as np

from mixlayers import (
    DSU,
    Across,
    AlignMixup,
    Beside,
    CutMix,
    DropBlock,
    FMix,
    GMix,
    Halves,
    HMix,
    ManifoldMixup,
    MixStyle,
    Mixup,
    MoEx,
    NoisyFeatureMixup,
    OneOf,
    PatchUp,
    Remix,
    ResizeMix,
    Scheduled,
    SpecMix,
)

METHODS = [
    Mixup(0.2),
    Mixup(lam_per="sample", pairs="derangement"),
    Mixup(lam_per="pair"),
    CutMix(pairs="different_class"),
    CutMix(lam_per="sample", pairs="same_class"),
    ManifoldMixup(),
    PatchUp("hard"),
    PatchUp("soft", portion=0.3, block_size=4),
    Scheduled(OneOf({Mixup(): 1.0, CutMix(): 2.0}, prob=0.7), warmup=2),
    Mixup(fold=True, pairs=Halves()),
    Mixup(lam_per="sample", pairs=Across()),
    CutMix(axes=(-1,)),
    FMix(),
    FMix(max_soft=0.2),
    HMix(),
    GMix(lam_per="sample"),
    ResizeMix(),
    SpecMix(),
    Remix(PatchUp("soft"), (5, 100, 30, 1)),
    Beside(ManifoldMixup(20.0)),
    AlignMixup(),
    NoisyFeatureMixup(),
    MoEx(),
    MixStyle(),
    DSU(),
    DropBlock(every_place=True),
]
LABELS = np.array([0, 0, 1, 2, 2, 1, 0, 3])
DOMAINS = np.array([0, 1, 1, 0, 1, 0, 2, 2])
DRAWN = ("mask", "keep", "noise", "source")
"""What an act may hold that was drawn for the shape."""


def golden_plans() -> list[object]:
    told = []
    for method in METHODS:
        for step in (0, 1, 2, 10**6):
            plan = method.plan(
                step=step,
                batch_size=8,
                places=("input", "a", "b"),
                seed=2**40 + 1,
                rank=step % 3,
                labels=LABELS,
                near={"domain": DOMAINS},
            )
            how = plan.blend((8, 3, 10, 13))
            drawn = [part for name in DRAWN if isinstance(part := getattr(how, name, None), np.ndarray)]
            bits = [np.packbits(part) if part.dtype == np.bool_ else np.round(part, 4) for part in drawn]
            mask = (
                hashlib.sha256(b"".join(each.tobytes() for each in bits)).hexdigest()[:16] if drawn else None
            )
            told.append({**plan.to_dict(), "mask": mask, "s": np.asarray(how.s, dtype=np.float32).tolist()})
    return told


if __name__ == "__main__":
    json.dump(golden_plans(), sys.stdout, indent=0)
