"""A mixer's history as pictures: where it mixed, and how much."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from mixlayers import History
from mixlayers_matplotlib._mixers import mixer_of

_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's, without yellow and black, which white and black paper swallow."""

_CLEAN: Final = "clean"


def history(history: History | Any) -> Figure:
    """Draw how often each layer was mixed, the original's share over the steps, and how it is distributed.

    The counts are of the whole run; the shares, `1 - s`, of the records that the history has kept.

    Args:
        history: A history; or a mixer, or a wrapped model, for its history.

    Raises:
        ValueError: If nothing has happened yet.
        TypeError: If it has no history.
    """
    if not isinstance(history, History):
        mixer = mixer_of(history)
        if mixer is None:
            raise TypeError(
                f"view.history draws a mixer's history, got {type(history).__name__}: give mixer.history, the mixer, "
                "or the wrapped model."
            )
        history = mixer.history
    if not history.steps:
        raise ValueError(
            "the history is empty: draw it after at least one training step that was to be mixed."
        )
    layers = sorted(layer for layer in history.counts if layer is not None)
    colours = {layer: _COLOURS[at % len(_COLOURS)] for at, layer in enumerate(layers)}
    columns = history.as_arrays()

    figure = Figure(figsize=(11.0, max(3.2, 1.6 + 0.28 * len(history.counts))), layout="constrained")
    means = f", the original's share {1.0 - history.mean_s:.2f} on average" if history.mixed else ""
    figure.suptitle(
        f"{history.steps:,} steps, {history.mixed:,} mixed{means}", x=0.01, ha="left", fontsize=11
    )
    where, over, spread = figure.subplots(1, 3, width_ratios=(1.0, 1.5, 1.0))

    names = [*layers, *([_CLEAN] if None in history.counts else [])]
    counts = [
        *(history.counts[layer] for layer in layers),
        *([history.counts[None]] if None in history.counts else []),
    ]
    bars = where.barh(names, counts, color=[colours.get(name, "#999999") for name in names])
    where.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
    where.set_xlim(0, max(counts) * 1.2)
    where.invert_yaxis()
    where.set_xlabel("steps of the whole run")
    where.set_title("Where", loc="left", fontsize=10)

    for layer, colour in colours.items():
        at = columns["layer"] == layer
        over.scatter(columns["step"][at], 1.0 - columns["s"][at], s=10, color=colour, alpha=0.6, linewidths=0)
    over.set_ylim(-0.03, 1.03)
    over.set_xlabel("step" if len(history) == history.steps else f"step, the last {len(history):,}")
    over.set_ylabel("share of the original, 1 - s")
    over.set_title("Over the steps", loc="left", fontsize=10)

    shares = [1.0 - columns["s"][columns["layer"] == layer] for layer in layers]
    if layers:
        spread.hist(
            shares, bins=np.linspace(0.0, 1.0, 21).tolist(), stacked=True, color=list(colours.values())
        )
    spread.set_xlabel("share of the original, 1 - s")
    spread.set_ylabel("steps")
    spread.set_title("Distribution", loc="left", fontsize=10)
    for axes in (where, over, spread):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
