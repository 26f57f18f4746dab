"""The masks of a step, at each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mixlayers import Method, MixPlan
from mixlayers._core.plan.blends import Weigh
from mixlayers_matplotlib._values import Array, bare, title_of

_KEPT_TO_REPLACED: Final = LinearSegmentedColormap.from_list("mixlayers", ["#EEEEEE", "#0072B2"])
_STEPS_TRIED: Final = 1000


@dataclass(frozen=True)
class _Row:
    """A layer's masks: titled pictures, each (H, W), and the mean of the mask and of w over the feature."""

    place: str
    size: str
    aspect: Literal["auto", "equal"]
    plan: MixPlan
    pictures: list[tuple[str, Array]]
    covered: float
    s: float


def masks(
    method: Method | MixPlan,
    shapes: Mapping[str, Sequence[int]],
    *,
    step: int = 0,
    seed: int = 0,
    rank: int = 0,
    channel_dim: int = 1,
    maps: int = 5,
) -> Figure:
    """Draw what a step replaces at each layer: blue is the partner's, light the sample's own.

    Args:
        method: A method, of which the first plan from `step` on that mixes at the layer is drawn; or one plan,
            whose mask is drawn at every shape.
        shapes: Layer -> shape of its feature, batch axis first: (N, C, H, W) or (N, C, L). "input" is a layer;
            `{name: audit[name].shape for name in audit.chosen if name != "input"}` has the others.
        step, seed, rank: Which plans of the method.
        channel_dim: 1 or -1, as the mixer has it.
        maps: How many channels to show at most, beside their mean; or samples, where each has its own mask.

    Raises:
        ValueError: If there is no shape, one is not of these forms, or the method never mixes at its layer.
    """
    if not shapes:
        raise ValueError('shapes is empty: give at least one layer, such as {"input": (8, 3, 32, 32)}.')
    rows = []
    for place, shape in shapes.items():
        if len(shape) not in (3, 4):
            raise ValueError(
                f"{place!r}: a mask is drawn for (N, C, H, W) or (N, C, L), got {tuple(shape)}: "
                "give the batch axis too, and leave out layers without one or two spatial axes."
            )
        plan = method if isinstance(method, MixPlan) else _plan_at(method, place, shape[0], step, seed, rank)
        rows.append(_row(place, shape, plan, channel_dim, maps))

    columns = max(len(row.pictures) for row in rows)
    figure = Figure(figsize=(max(7.0, 2.0 + 1.5 * columns), 0.6 + 1.9 * len(rows)), layout="constrained")
    told = {title_of(row.plan.method) for row in rows}
    figure.suptitle(
        f"{' and '.join(sorted(told))}: what becomes the partner's, in blue", x=0.01, ha="left", fontsize=11
    )
    for line, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axes in line[len(row.pictures) :]:
            axes.set_visible(False)
        for axes, (title, picture) in zip(line, row.pictures, strict=False):
            bare(axes)
            axes.imshow(
                picture,
                cmap=_KEPT_TO_REPLACED,
                vmin=0.0,
                vmax=1.0,
                aspect=row.aspect,
                interpolation="nearest",
            )
            axes.set_title(title, fontsize=9)
        line[0].set_ylabel(
            f"{row.place}\n{row.size}\nstep {row.plan.step}\nmask {row.covered:.0%}\ns {row.s:.0%}",
            fontsize=9,
            rotation=0,
            ha="right",
            va="center",
        )
    return figure


def _plan_at(method: Method, place: str, size: int, step: int, seed: int, rank: int) -> MixPlan:
    """The first plan from a step on that mixes at the place."""
    for number in range(step, step + _STEPS_TRIED):
        plan = method.plan(step=number, batch_size=size, places=(place,), seed=seed, rank=rank)
        if plan.place == place:
            return plan
    raise ValueError(
        f"{method!r} mixes nothing at {place!r} in steps {step} to {step + _STEPS_TRIED - 1}: "
        "Mixup and CutMix mix the input alone; a schedule may need a later step=."
    )


def _row(place: str, shape: Sequence[int], plan: MixPlan, channel_dim: int, maps: int) -> _Row:
    how = plan.blend((plan.batch_size, *shape[1:]), channel_dim)
    spatial = shape[2:] if channel_dim == 1 else shape[1:-1]
    where = 1.0 - how.keep if isinstance(how, Weigh) else getattr(how, "mask", None)
    mask = np.ones((1, 1, *spatial)) if where is None else np.moveaxis(where, channel_dim, 1) * 1.0
    covered, s = (0.0 if plan.place is None else float(mask.mean())), float(np.mean(how.s))
    pictures: list[tuple[str, Array]]
    if plan.place is None:
        pictures = [("clean step", 0.0 * mask[0, 0].reshape(-1, spatial[-1]))]
    elif len(spatial) == 1:
        every = mask.reshape(-1, spatial[0])
        pictures = [("each sample" if len(mask) > 1 else "each channel" if len(every) > 1 else "all", every)]
    elif len(mask) > 1:
        pictures = [(f"sample {at}", mask[at, 0]) for at in range(min(maps, len(mask)))]
    elif mask.shape[1] > 1:
        pictures = [(f"channel {at}", mask[0, at]) for at in range(min(maps, mask.shape[1]))]
        pictures.append(("mean of all", mask[0].mean(axis=0)))
    else:
        pictures = [("all channels", mask[0, 0])]
    size = "x".join(map(str, shape[1:]))
    return _Row(place, size, "equal" if len(spatial) == 2 else "auto", plan, pictures, covered, s)
