"""The audit as a picture: where all of a sample can be mixed."""

from __future__ import annotations

from math import prod
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mixlayers._core.audit.report import Audit, Point

_CHOSEN, _TRUE, _UNTRUE = "chosen by auto", "true mixing point", "not one"
_COLOURS: Final = {_CHOSEN: "#0072B2", _TRUE: "#56B4E9", _UNTRUE: "#999999"}


def audit(report: Audit, *, most: int = 150) -> Figure:
    """Draw an audit, one bar a layer, from the first that finishes to the last.

    The bar's length is the number of values in the layer's output for the audited samples; its colour says whether
    the layer is a true mixing point, and beside it stand the output's shape, batch included, and why not.

    Args:
        report: What `audit(model, example)` returned.
        most: If there are more layers, only the true mixing points are drawn.

    Raises:
        ValueError: If the report has no layer.
    """
    points = list(report)
    if not points:
        raise ValueError("the audit has no layer: the model has no sub-layers to mix at.")
    left_out = 0
    if len(points) > most:
        points = [point for point in points if point.true]
        left_out = len(list(report)) - len(points)
    kinds = [_kind(point, report) for point in points]
    sizes = [prod(point.shape or (1,)) for point in points]
    rows = range(len(points))

    figure = Figure(figsize=(9.0, 1.3 + 0.21 * len(points)), layout="constrained")
    axes = figure.add_subplot()
    for kind, colour in _COLOURS.items():
        at = [row for row in rows if kinds[row] == kind]
        if at:
            axes.barh(at, [sizes[row] for row in at], color=colour, height=0.72, label=f"{kind} ({len(at)})")
    for row, point in zip(rows, points, strict=True):
        shape = "x".join(map(str, point.shape or ()))
        axes.annotate(
            "  ".join(filter(None, (shape, point.reason.partition(" (")[0]))),
            (sizes[row], row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
    axes.set_yticks(rows, [f"{point.name}  ({point.kind})" for point in points], fontsize=7.5)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(sizes) ** 1.8 * 100.0)  # the right half is for the texts
    axes.set_xticks([10**power for power in range(len(str(max(sizes))))])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("values in the output (log scale)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2, fontsize=9
    )
    hidden = f"; {left_out} that are not are left out" if left_out else ""
    figure.suptitle(
        f"{len(report.true)} of {len(list(report))} layers are true mixing points{hidden}",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def _kind(point: Point, report: Audit) -> str:
    if point.name in report.chosen:
        return _CHOSEN
    return _TRUE if point.true else _UNTRUE
