"""Draw the pictures of the methods' cards, docs/pictures/mixup.png and the others.

    python docs/methods/draw_methods.py

The photographs are cut from scikit-learn's china.jpg, by danielbuechele, and flower.jpg, by vultilion, CC BY 2.0.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image

from mixlayers import (
    Across,
    AlignMixup,
    Beside,
    CutMix,
    FMix,
    GMix,
    HMix,
    Method,
    MixStyle,
    Mixup,
    MoEx,
    NoisyFeatureMixup,
    ResizeMix,
    SpecMix,
    view,
)
from mixlayers._core.plan.pairs import draw_pairs
from mixlayers._core.plan.relabel import Lopsided
from mixlayers.torch import IEBN2d, RBN2d

PICTURES = Path(__file__).parents[1] / "pictures"
GREY = "#7a7a7a"
"""Legible on white and on black."""
BOTH_THEMES = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), GREY
)
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
    for weight, style in ((0.0, "-"), (1.0, "--"), (-2.0, ":")):
        label = f"weight_readjust {weight:g}{' (the start)' if weight == 0.0 else ''}"
        axes.plot(*slopes(IEBN2d(1), {"weight_readjust": weight})[:2], style, label=label)
    axes.axhline(1.0, color="#888888", linewidth=1, label="BatchNorm")
    axes.set(xlabel="mean of the sample's channel", ylabel="scale", ylim=(0.0, 1.05))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def rbn() -> Figure:
    """RBN's slope and the mean of its output against the channel's mean, for a few values of its parameters."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for value, style in ((0.0, "-"), (0.5, "--"), (-0.5, ":")):
        label = f"{value:g}{' (the start)' if value == 0.0 else ''}"
        means, slope, _ = slopes(RBN2d(1), {"weight_readjust": 4 * value})
        left.plot(means, slope, style, label=f"weight_readjust {4 * value:g}")
        means, _, middle = slopes(RBN2d(1), {"weight_recenter": value})
        right.plot(means, middle, style, label=f"weight_recenter {label}")
    left.axhline(1.0, color="#888888", linewidth=1)
    right.plot(means, means, color="#888888", linewidth=1, label="BatchNorm")
    left.set(xlabel="mean of the sample's channel", ylabel="scale", ylim=(0.0, 1.05))
    right.set(xlabel="mean of the sample's channel", ylabel="mean of the output")
    for axes in (left, right):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8)
    return figure


def slopes(layer: torch.nn.Module, values: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of inputs to a new layer of one channel in eval mode, its slope at them, and the means of its outputs.

    Args:
        layer: IEBN2d or RBN2d.
        values: Its parameters' by name.
    """
    means = torch.linspace(-3.0, 3.0, 61)
    images = means.view(-1, 1, 1, 1) + torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).fill_(value)
        output = layer.eval()(images).numpy()
    return means.numpy(), np.diff(output, axis=-1).ravel() / 2.0, output.mean(axis=(1, 2, 3))


def bands() -> Figure:
    """SpecMix's masks of a few steps, and those of CutMix along time."""
    methods = {"SpecMix": SpecMix(), "CutMix along time": CutMix(axes=(-1,))}
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    for line, (title, method) in zip(figure.subplots(2, 4), methods.items(), strict=True):
        for step, axes in enumerate(line):
            how = method.plan(step=step, batch_size=2).blend((2, 1, 40, 100))
            axes.imshow(how.mask[0, 0], cmap="Blues", vmin=0.0, vmax=1.3, aspect="auto", origin="lower")
            axes.set(xticks=[], yticks=[], title=f"{how.s:.0%} the partner's")
            axes.title.set_fontsize(9)
        line[0].set_ylabel(f"{title}\nfrequency", fontsize=9)
        line[0].set_xlabel("time", fontsize=9)
    return figure


def remix() -> Figure:
    """The sample's own share of the label against that of the features."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    own = np.linspace(0.0, 1.0, 401)
    kinds = (
        (-1, "own class much rarer", "-"),
        (0, "about as frequent", "--"),
        (1, "partner's class much rarer", ":"),
    )
    for rarer, told, style in kinds:
        label = [1.0 - float(Lopsided((rarer,), 0.5).share(float(1.0 - lam))[0]) for lam in own]
        axes.plot(own, label, style, label=told)
    axes.set(xlabel="own share of the features", ylabel="own share of the label")
    axes.legend(frameon=False, fontsize=9)
    return figure


def lisa() -> Figure:
    """Two classes in two domains, and LISA's two ways to pair them."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    rng = np.random.default_rng(1)
    labels, domains = np.arange(16) % 2, np.arange(16) // 8
    at = np.stack([domains * 2.0 + rng.normal(0, 0.28, 16), labels * 1.6 + rng.normal(0, 0.22, 16)], 1)
    titles = {Across(): "other domain, same label", Across("same", "different"): "same domain, other label"}
    for axes, (pairs, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        perm = draw_pairs(np.random.default_rng(3), 16, pairs, labels, {"domain": domains})
        for one, other in zip(at, at[perm], strict=True):
            axes.plot(*np.stack([one, other], 1), color="#BBBBBB", linewidth=0.8, zorder=0)
        for label, marker in ((0, "o"), (1, "s")):
            chosen = labels == label
            axes.scatter(*at[chosen].T, c=np.array(["#0072B2", "#D55E00"])[domains[chosen]], marker=marker)
        axes.set(xticks=[], yticks=[], title=title, xlabel="domain", ylabel="label")
        axes.title.set_fontsize(10)
    return figure


def main() -> None:
    """Draw the pictures."""
    shown = photographs()
    batch = np.stack([np.asarray(image.resize((SIDE, SIDE))) for image in shown.values()])
    small = np.stack([np.asarray(image.resize((16, 16))) for image in shown.values()])
    unit = batch.astype(np.float32) / 255.0
    cards: dict[str, tuple[Method, np.ndarray]] = {
        "mixup": (Mixup(), batch),
        "cutmix": (CutMix(), batch),
        "fmix": (FMix(), batch),
        "hmix": (HMix(), batch),
        "gmix": (GMix(), batch),
        "resizemix": (ResizeMix(), batch),
        "mixstyle": (MixStyle(0.5, prob=1.0, pairs="derangement"), unit),
        "moex": (MoEx(over="space"), unit),
        "noisy_feature_mixup": (NoisyFeatureMixup(), unit),
        "alignmixup": (AlignMixup(eps=0.01), small.astype(np.float32) / 255.0),
        "regmixup": (Beside(Mixup(20.0)), np.concatenate([batch, batch])),
    }
    for name, (method, images) in cards.items():
        plan = method.plan(step=STEP, batch_size=len(images), places=("a layer",))
        names = list(shown) * (len(images) // len(shown))
        figure = view.batch(images, plan, labels=np.arange(len(images)), names=names, channel_dim=-1)
        figure.savefig(PICTURES / f"{name}.png", dpi=110)
    for name, drawn in (
        ("iebn", iebn()),
        ("rbn", rbn()),
        ("specmix", bands()),
        ("remix", remix()),
        ("lisa", lisa()),
    ):
        drawn.savefig(PICTURES / f"{name}.png", dpi=110)


if __name__ == "__main__":
    with matplotlib.rc_context(BOTH_THEMES):
        main()
