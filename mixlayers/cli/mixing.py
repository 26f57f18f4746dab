"""Pictures of what mixing does: to a batch of images, and to features inside the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from mixlayers import CutMix, ManifoldMixup, Method, MixPlan, Mixup, PatchUp
from mixlayers._core.plan.blends import Blend

if TYPE_CHECKING:
    from mixlayers.cli.data import DataSet, Images, Labels, Split
    from mixlayers.cli.sides import Side

_SAMPLES: Final = 8
_LAYER: Final = "layer1"
_CHANNELS: Final = 7
_KEPT_AND_REPLACED: Final = ListedColormap(["#EEEEEE", "#0072B2"])

Picture = npt.NDArray[np.floating[Any]]


def draw_batch(data: DataSet, rows: Split, side: Side) -> Figure:
    """Input level: samples, their partners, and what Mixup and CutMix make of them and of the labels."""
    images, labels = _samples(data, rows)
    methods = {"Mixup": Mixup(), "CutMix": CutMix()}
    step, plans = _telling_step(list(methods.values()), images.shape, "input", (0.3, 0.42))
    mixed = {title: side.mix_input(images, labels, method, step) for title, method in methods.items()}
    partners = plans[0].perm

    figure = Figure(figsize=(11.0, 6.6), layout="constrained")
    figure.suptitle(f"One batch of {data.title}, mixed at the input", x=0.01, ha="left", fontsize=13)
    grid = figure.subplots(2 + len(methods), _SAMPLES)
    own = [str(int(y)) for y in labels]
    theirs = [str(int(y)) for y in labels[partners]]
    _strip(grid[0], "sample", images, own)
    _strip(grid[1], "partner", images[partners], theirs)
    for row, (title, (batch, s)) in zip(grid[2:], mixed.items(), strict=True):
        _strip(
            row, title, batch, [f"{1 - s:.0%} {a} + {s:.0%} {b}" for a, b in zip(own, theirs, strict=True)]
        )
    return figure


def draw_hidden(data: DataSet, rows: Split, weights: Mapping[str, Any], side: Side) -> Figure:
    """Hidden level: some channels of one sample and its partner, the masks, and the mixed features."""
    images, labels = _samples(data, rows)
    clean = side.hidden(dict(weights), images, labels, None, 0)
    methods = {
        "Manifold\nMixup": ManifoldMixup(),
        "PatchUp\nhard": PatchUp("hard"),
        "PatchUp\nsoft": PatchUp("soft"),
    }
    step, plans = _telling_step(list(methods.values()), clean.shape, _LAYER, (0.3, 0.75))
    partner = int(plans[0].perm[0])

    lines: list[tuple[str, Picture, bool]] = []
    for (title, method), plan in zip(methods.items(), plans, strict=True):
        mixed = side.hidden(dict(weights), images, labels, method, step)[0]
        blend = plan.blend(clean.shape)
        if isinstance(blend, Blend) and blend.mask is not None:
            lines.append((f"{title}\nmask", blend.mask[0], True))
        lines.append((f"{title}\n{1 - blend.s:.0%} + {blend.s:.0%}", mixed, False))

    a, b = clean[0], clean[partner]
    lines = [("sample", a, False), ("partner", b, False), *lines]
    liveliest = np.argsort(-(a.std(axis=(1, 2)) + b.std(axis=(1, 2))))[:_CHANNELS]
    figure = Figure(figsize=(9.6, 8.3), layout="constrained")
    figure.suptitle(
        f"Features at the end of {_LAYER}, mixed there. Blue in the masks: the partner's",
        x=0.01,
        ha="left",
        fontsize=13,
    )
    grid = figure.subplots(len(lines), 1 + _CHANNELS)
    pictures = {"sample": images[0], "partner": images[partner]}
    for row, (title, maps, is_mask) in zip(grid, lines, strict=True):
        _bare(row[0])
        row[0].set_ylabel(title, fontsize=10, rotation=0, ha="right", va="center")
        if title in pictures:
            _show(row[0], pictures[title])
        else:
            row[0].spines[:].set_visible(False)
        for axes, channel in zip(row[1:], liveliest, strict=True):
            _bare(axes)
            top = 1.0 if is_mask else max(a[channel].max(), b[channel].max())
            axes.imshow(maps[channel], cmap=_KEPT_AND_REPLACED if is_mask else "cividis", vmin=0.0, vmax=top)
    grid[0][0].set_title("input", fontsize=10)
    for axes, channel in zip(grid[0][1:], liveliest, strict=True):
        axes.set_title(f"channel {channel}", fontsize=10)
    return figure


def _samples(data: DataSet, rows: Split) -> tuple[Images, Labels]:
    """One validation image of each of some classes."""
    labels = data.labels[rows.validation]
    chosen = np.array([rows.validation[labels == label][0] for label in (3, 7, 0, 5, 8, 2, 6, 4)])
    return data.take(chosen), data.labels[chosen]


def _telling_step(
    methods: Sequence[Method], shape: Sequence[int], place: str, shares: tuple[float, float]
) -> tuple[int, list[MixPlan]]:
    """The first step that shows something, and its plans: equal partners, nobody his own, middling shares."""
    for step in range(2000):
        plans = [method.plan(step=step, batch_size=shape[0], places=(place,)) for method in methods]
        perm = plans[0].perm
        if (perm == np.arange(shape[0])).any() or any((plan.perm != perm).any() for plan in plans):
            continue
        if all(shares[0] < float(plan.blend(shape).s) < shares[1] for plan in plans):
            return step, plans
    raise RuntimeError("no step in 2000 shows mixing well: the methods no longer draw equal partners.")


def _strip(row: Sequence[Axes], title: str, images: Images, captions: Sequence[str]) -> None:
    for axes, image, caption in zip(row, images, captions, strict=True):
        _bare(axes)
        _show(axes, image)
        axes.set_xlabel(caption, fontsize=10)
    row[0].set_ylabel(title, fontsize=11)


def _show(axes: Axes, image: Picture) -> None:
    """A picture (1, H, W) in grey, or (3, H, W) in colour."""
    axes.imshow(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2), cmap="gray", vmin=0.0, vmax=1.0)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#BBBBBB")
