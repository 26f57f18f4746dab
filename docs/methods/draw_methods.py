"""Draw docs/pictures/mixup.png, cutmix.png and iebn.png, the pictures of three cards.

    python docs/methods/draw_methods.py

The photographs are cut from scikit-learn's china.jpg, by danielbuechele, and flower.jpg, by vultilion, CC BY 2.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from mixlayers import CutMix, Mixup, view
from mixlayers.torch import IEBN2d

PICTURES = Path(__file__).parents[1] / "pictures"
SIDE = 48
STEP = 28  # nobody is its own partner


def photographs() -> dict[str, Image.Image]:
    """Four squares by what they show."""
    china, flower = (Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower"))
    return {
        "tower": china.crop((0, 20, 400, 420)),
        "bloom": flower.crop((100, 0, 527, 427)),
        "lake": china.crop((365, 120, 565, 320)),
        "tree": china.crop((500, 120, 640, 260)),
    }


def iebn() -> Figure:
    """IEBN's slope, one for each sample and channel, against the channel's mean."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    means = torch.linspace(-3.0, 3.0, 61)
    images = means.view(-1, 1, 1, 1) + torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    for weight, style in ((0.0, "-"), (1.0, "--"), (-2.0, ":")):
        layer = IEBN2d(1).eval()
        with torch.no_grad():
            layer.weight_readjust.fill_(weight)
            output = layer(images)
        slope = np.diff(output.numpy(), axis=-1).ravel() / 2.0
        start = " (the start)" if weight == 0.0 else ""
        axes.plot(means.numpy(), slope, style, label=f"weight_readjust {weight:g}{start}")
    axes.axhline(1.0, color="#888888", linewidth=1, label="BatchNorm")
    axes.set(xlabel="mean of the sample's channel", ylabel="scale", ylim=(0.0, 1.05))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def main() -> None:
    """Draw the pictures."""
    shown = photographs()
    batch = np.stack([np.asarray(image.resize((SIDE, SIDE))) for image in shown.values()])
    for name, method in (("mixup.png", Mixup()), ("cutmix.png", CutMix())):
        plan = method.plan(step=STEP, batch_size=len(batch))
        figure = view.batch(batch, plan, labels=np.arange(len(batch)), names=list(shown), channel_dim=-1)
        figure.savefig(PICTURES / name, dpi=110)
    iebn().savefig(PICTURES / "iebn.png", dpi=110)


if __name__ == "__main__":
    main()
