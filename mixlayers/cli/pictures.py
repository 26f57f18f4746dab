"""The pictures of a demo: learning curves and where each method mixed; those of mixing are in `mixing`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixlayers.cli.methods import METHODS
from mixlayers.cli.mixing import draw_batch, draw_hidden
from mixlayers.cli.sides import side
from mixlayers.cli.stop import Stop, cause

if TYPE_CHECKING:
    from mixlayers.cli.data import DataSet, Split
    from mixlayers.cli.results import Results

_PLACES: Final = {"input": "#56B4E9", "layer1": "#E69F00", "layer2": "#009E73", "none": "#BBBBBB"}
"""Colours of Okabe and Ito, and grey."""


def draw_all(
    results: Results, data: DataSet, rows: Split, weights: Mapping[str, Any], folder: Path
) -> list[str]:
    """Draw every picture into the folder; returns their file names.

    Raises:
        Stop: If a picture cannot be written.
    """
    drawn = side(results.config["framework"])
    figures = {
        "curves.png": draw_curves(results),
        "layers.png": draw_layers(results),
        "batch.png": draw_batch(data, rows, drawn),
        "hidden.png": draw_hidden(data, rows, weights, drawn),
    }
    for name, figure in figures.items():
        try:
            figure.savefig(folder / name, dpi=150, facecolor="white")
        except OSError as error:
            raise Stop(f"The picture {folder / name} cannot be written ({cause(error)}).") from error
    return list(figures)


def draw_curves(results: Results) -> Figure:
    """Validation NLL over the steps: the mean over the seeds, and the range of the seeds as a band."""
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    ends = {}
    for name in results.methods:
        runs, entry = results.of(name), METHODS[name]
        steps = runs[0].curve["step"]
        values = np.array([run.curve["nll"] for run in runs])
        mean = values.mean(axis=0)
        axes.plot(steps, mean, color=entry.colour, linestyle=entry.dashes, linewidth=2, label=entry.title)
        if len(runs) > 1:
            axes.fill_between(
                steps, values.min(axis=0), values.max(axis=0), color=entry.colour, alpha=0.10, linewidth=0
            )
        ends[entry.title] = mean[-1]
    axes.set_yscale("log")
    _plain_numbers(axes)
    axes.set_xlabel("training step")
    axes.set_ylabel("validation NLL (log scale)")
    seeds = len(results.config["seeds"])
    band = f"mean of {seeds} seeds, band from the lowest to the highest" if seeds > 1 else "one seed"
    axes.set_title(f"Learning curves on {results.data['title']}: {band}", loc="left", fontsize=11)
    axes.grid(True, which="both", color="#DDDDDD", linewidth=0.6)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -ends[labels[i]])
    axes.legend(
        [handles[i] for i in order],
        [f"{labels[i]}  {ends[labels[i]]:.3f}" for i in order],
        title="at the end, highest first",
        frameon=False,
        handlelength=3.5,
    )
    _open(axes)
    return figure


def _plain_numbers(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

    low, high = axes.get_ylim()
    ticks = [t for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0) if low <= t <= high]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(FixedLocator([]))


def draw_layers(results: Results) -> Figure:
    """Counts of mixed places, per method, over all seeds."""
    names = results.methods[::-1]
    figure = Figure(figsize=(8.0, 1.4 + 0.5 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for place, colour in _PLACES.items():
        counts = np.array([sum(run.layers.get(place, 0) for run in results.of(name)) for name in names])
        steps = np.array([sum(run.steps for run in results.of(name)) for name in names])
        shares = 100.0 * counts / steps
        if not counts.any():
            continue
        label = "not mixed" if place == "none" else place
        axes.barh(range(len(names)), shares, left=left, color=colour, edgecolor="white", label=label)
        for row, (count, share) in enumerate(zip(counts, shares, strict=True)):
            if share > 6.0:
                axes.text(left[row] + share / 2, row, f"{count}", ha="center", va="center", fontsize=9)
        left = left + shares
    axes.set_yticks(range(len(names)), [METHODS[name].title for name in names])
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel(
        "% of the training steps (in the bars: steps). Equal seeds draw equal layers for all methods."
    )
    axes.set_title("Where each method mixed", loc="left", fontsize=11)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(_PLACES), frameon=False, borderaxespad=0.2
    )
    _open(axes)
    return figure


def _open(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
