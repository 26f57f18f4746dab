"""The pictures of a CIFAR-10 study: each method's gain as a bar, or what it reaches along an axis such as epochs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from evidence import Figure, Run, figure
from evidence.compared import gain
from mixlayers.cli.methods import METHODS

PANELS: Final = (("accuracy", 100.0), ("scaled_nll", 1.0))
COLOURS: Final = {entry.title: (entry.colour, entry.dashes) for entry in METHODS.values()}
Rows = Mapping[str, Sequence[Run]]


def draw_gains(tables: Mapping[str, Rows], base: str) -> Figure:
    """Gain over the base of every seed, and their mean as a bar; left accuracy, right likelihood at T.

    Args:
        tables: By title, the runs of each row by its name; those of them that have a run.
    """
    lines = [1.0 + sum(bool(runs) for runs in rows.values()) for rows in tables.values()]
    fig = figure(10.0, 0.6 * len(tables) + 0.5 * sum(lines))
    grid = fig.subplots(len(tables), 2, squeeze=False, height_ratios=lines)
    for line, (title, rows) in zip(grid, tables.items(), strict=True):
        names = [name for name, runs in rows.items() if name != base and gain(runs, rows[base], "accuracy")]
        for axes, (measure, factor) in zip(line, PANELS, strict=True):
            bars(axes, names, [differences(rows[name], rows[base], measure, factor) for name in names])
        line[0].set_title(f"{title}: accuracy, points over {base}", loc="left", fontsize=11)
        line[1].set_title("NLL at T (below 0 is better)", loc="left", fontsize=11)
    return fig


def draw_along(axis: str, tables: Mapping[str, Rows], title: Callable[[Any], str]) -> Figure:
    """What each row reaches along an axis of numbers: the mean of the seeds as a line, every seed a point.

    Args:
        tables: By title, the runs of each row by its name, at all values of the axis.
        title: Of a value of the axis.
    """
    fig = figure(10.0, 3.6 * len(tables))
    grid = fig.subplots(len(tables), 2, squeeze=False)
    for line, (words, rows) in zip(grid, tables.items(), strict=True):
        for axes, (measure, factor) in zip(line, PANELS, strict=True):
            for name, runs in rows.items():
                reached(axes, axis, name, runs, measure, factor)
            values = sorted({run[axis] for runs in rows.values() for run in runs})
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xticks(values, [title(value) for value in values])
            axes.grid(color="#DDDDDD", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_title(f"{words}: accuracy %".removeprefix(": "), loc="left", fontsize=11)
        line[1].set_title("NLL at T (lower is better)", loc="left", fontsize=11)
        line[0].legend(frameon=False)
    return fig


def reached(axes: Any, axis: str, name: str, runs: Sequence[Run], measure: str, factor: float) -> None:
    colour, dashes = COLOURS[name]
    values = sorted({run[axis] for run in runs})
    means = [factor * np.mean([run[measure] for run in runs if run[axis] == value]) for value in values]
    axes.plot(values, means, color=colour, linestyle=dashes, label=name)
    axes.plot(
        [run[axis] for run in runs], [factor * run[measure] for run in runs], "o", color=colour, markersize=4
    )


def differences(own: Sequence[Run], base: Sequence[Run], measure: str, factor: float) -> list[float]:
    before = {run["seed"]: run[measure] for run in base}
    return [factor * (run[measure] - before[run["seed"]]) for run in own if run["seed"] in before]


def bars(axes: Any, names: Sequence[str], gaps: Sequence[Sequence[float]]) -> None:
    """The mean of each method's differences as a bar, every seed as a point."""
    for place, values in enumerate(gaps):
        axes.barh(place, np.mean(values), 0.7, color="#7FC9B3", edgecolor="#009E73")
        axes.plot(values, np.full(len(values), place), "o", color="#00513B", markersize=4)
    axes.axvline(0.0, color="#333333", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=10)
    axes.invert_yaxis()
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
