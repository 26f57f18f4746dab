"""Draw docs/pictures/strip.png: one photograph under each method, on no ground, for a light page and a dark one.

python docs/methods/draw_strip.py
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from draw_methods import PICTURES, photographs
from matplotlib.figure import Figure

from mixlayers import CutMix, FMix, HMix, Method, MixStyle, Mixup, MoEx, PatchUp, ResizeMix
from mixlayers._core.batch.carry import carry_out
from mixlayers.extend import NumPy

SIDE = 160
GREY = "#808080"  # of letters, legible on white and on black
METHODS: dict[str, tuple[Method, int]] = {
    "Mixup": (Mixup(4.0), 0),
    "CutMix": (CutMix(4.0), 0),
    "FMix": (FMix(4.0), 0),
    "ResizeMix": (ResizeMix(), 4),
    "HMix": (HMix(4.0), 0),
    "PatchUp": (PatchUp("hard", block_size=41, portion=0.4), 0),
    "MoEx": (MoEx(over="space"), 0),
    "MixStyle": (MixStyle(4.0, prob=1.0), 0),
}
"""Each with the step whose plan is drawn."""


def main() -> None:
    """Draw the strip."""
    shown = photographs()
    pair = [np.asarray(shown[name].resize((SIDE, SIDE)), np.float32) / 255.0 for name in ("tower", "bloom")]
    x = np.stack(pair).transpose(0, 3, 1, 2)
    tiles = {"a photo": x[0], "its partner": x[1]}
    for name, (method, step) in METHODS.items():
        apart = replace(method, pairs="derangement")  # each is the other's partner
        plan = apart.plan(step=step, batch_size=2, places=("a layer",))
        tiles[name] = carry_out(NumPy(), x, plan.blend(x.shape), NumPy().partners(plan.perm))[0]
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    for axes, (name, image) in zip(figure.subplots(2, 5).flat, tiles.items(), strict=True):
        axes.imshow(image.clip(0.0, 1.0).transpose(1, 2, 0))
        axes.axis("off")
        axes.set_title(name, color=GREY, fontsize=11)
    figure.savefig(PICTURES / "strip.png", dpi=100, transparent=True)


if __name__ == "__main__":
    main()
