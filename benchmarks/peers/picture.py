"""The race as a picture: how much longer each rival takes than ours, what memory it needs, how it scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

COLOURS = {
    "ours": "#1a1a1a",
    "formula": "#8c8c8c",
    "timm": "#d1495b",
    "torchvision": "#edae49",
    "kornia": "#00798c",
    "Keras": "#7a5195",
    "fastai": "#5b8e3e",
    "mixup": "#b06c3b",
    "torchbearer": "#4f7cc4",
}


def draw(parts: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the parts that are there."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    _dots(
        axes[0, 0],
        _rows(parts, "operation"),
        "time of one mixing, over ours (right of the line: ours is faster)",
    )
    _dots(axes[0, 1], _rows(parts, "memory"), "peak memory of one mixing, in batches", ours=True)
    _scaling(axes[1, 0], _rows(parts, "scaling"))
    _imports(axes[1, 1], _rows(parts, "import"))
    names = [name for name in COLOURS if name in _seen(parts)]
    handles = [plt.Line2D([], [], color=COLOURS[name], marker="o", linestyle="") for name in names]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _rows(parts: dict[str, dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in parts.get(part, {"rows": []})["rows"] if row["part"] == part]


def _seen(parts: dict[str, dict[str, Any]]) -> set[str]:
    rows = _rows(parts, "operation") + _rows(parts, "memory")
    return {"ours"} | {name.partition(" ")[0] for row in rows for name in row["rivals"]}


def _dots(axes: Axes, rows: list[dict[str, Any]], title: str, ours: bool = False) -> None:
    for y, row in enumerate(reversed(rows)):
        if ours:
            axes.plot(row["ours"]["median"], y, "o", color=COLOURS["ours"], zorder=3)
        for name, spread in row["rivals"].items():
            colour = COLOURS.get(name.partition(" ")[0], "#000000")
            axes.plot([spread["low"], spread["high"]], [y, y], color=colour, alpha=0.5)
            marker = {"pair": "s", "elem": "D"}.get(name.rpartition(", ")[2], "o")
            axes.plot(spread["median"], y, marker, color=colour, alpha=0.9, markersize=6)
    axes.set_yticks(range(len(rows)), [row["what"].replace(", lam per ", ", ") for row in reversed(rows)])
    if not ours:
        axes.axvline(1.0, color=COLOURS["ours"], linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(axis="y", alpha=0.2)


def _scaling(axes: Axes, rows: list[dict[str, Any]]) -> None:
    points = []
    for row in rows:
        size = 1.0
        for side in row["what"].removeprefix("Mixup of ").split("x"):
            size *= int(side)
        points.append(
            (size, row["ours"]["median"], row["ours"]["median"] * row["rivals"]["formula"]["median"])
        )
    points.sort()
    if points:
        size, ours, formula = zip(*points, strict=True)
        axes.plot(size, ours, "o-", color=COLOURS["ours"])
        axes.plot(size, formula, "o-", color=COLOURS["formula"])
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlabel("elements of the feature")
    axes.set_title("Mixup of a hidden feature, ms", fontsize=10, loc="left")
    axes.grid(alpha=0.2)


def _imports(axes: Axes, rows: list[dict[str, Any]]) -> None:
    bars: dict[str, float] = {}
    for row in rows:
        bars[row["what"]] = row["ours"]["median"]
        for name, spread in row["rivals"].items():
            bars[name] = row["ours"]["median"] * spread["median"]
    names = sorted(bars, key=lambda name: -bars[name])
    colours = [COLOURS["ours" if name.startswith("mixlayers") else "formula"] for name in names]
    axes.barh(names, [bars[name] for name in names], color=colours)
    axes.set_title("import in a new process, s", fontsize=10, loc="left")
