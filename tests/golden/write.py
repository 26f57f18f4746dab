"""Print the plans of the golden file; runs with NumPy alone, on any supported version.

To renew the file on purpose (and raise FORMAT in mixlayers/_core/plan/plan.py):
    python tests/golden/write.py > tests/golden/plans.json
"""

import hashlib
import json
import sys

import numpy as np

from mixlayers import CutMix, ManifoldMixup, Mixup, OneOf, PatchUp, Scheduled

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
]
LABELS = np.array([0, 0, 1, 2, 2, 1, 0, 3])


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
            )
            how = plan.blend((8, 3, 10, 13))
            mask = (
                None if how.mask is None else hashlib.sha256(np.packbits(how.mask).tobytes()).hexdigest()[:16]
            )
            told.append({**plan.to_dict(), "mask": mask, "s": np.asarray(how.s, dtype=np.float32).tolist()})
    return told


if __name__ == "__main__":
    json.dump(golden_plans(), sys.stdout, indent=0)
