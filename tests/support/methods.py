"""One method of each kind of lam and mask."""

from mixlayers import CutMix, Mixup, PatchUp

METHODS = [
    Mixup(),
    Mixup(lam_per="sample"),
    CutMix(),
    CutMix(lam_per="sample"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", block_size=3),
    PatchUp("soft", block_size=3, lam_per="sample"),
]
