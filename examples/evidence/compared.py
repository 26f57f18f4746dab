"""Methods beside plain training: every column with its standard deviation, every gain seed by seed."""

from collections.abc import Mapping, Sequence

from evidence import Run, spread, table
from mixlayers.cli.paired import Paired, paired

MEASURES = ("accuracy", "nll", "ece", "temperature", "scaled_nll", "scaled_ece")
HEADS = ("accuracy %", "gain", "NLL", "NLL at T", "gain", "ECE %", "ECE % at T", "T")
BRIEF = (0, 1, 3, 4, 5, 6)
"""Columns of a table that has less room."""
NOTE = (
    "Mean ± standard deviation over seeds. T: temperature, fitted on validation images. Gain: difference to the "
    "first row with the same seed, mean ± standard error, and in how many seeds it is for the better."
)


def having(runs: Sequence[Run], **which: object) -> list[Run]:
    """The runs that have these values, by seed."""
    found = [run for run in runs if all(run[key] == value for key, value in which.items())]
    return sorted(found, key=lambda run: run["seed"])


def gain(own: Sequence[Run], base: Sequence[Run], measure: str) -> Paired | None:
    """Of the seeds that both have; None if there is none."""
    before = {run["seed"]: run for run in base}
    pairs = [(run[measure], before[run["seed"]][measure]) for run in own if run["seed"] in before]
    return paired(*zip(*pairs, strict=True), smaller_is_better=is_smaller_better(measure)) if pairs else None


def is_sure(own: Sequence[Run], base: Sequence[Run], measure: str) -> bool:
    """Whether the mean gain is for the better, and at least two of its standard errors."""
    found = gain(own, base, measure)
    if found is None or found.error is None:
        return False
    better = -found.mean if is_smaller_better(measure) else found.mean
    return better >= 2.0 * found.error and better > 0.0


def is_smaller_better(measure: str) -> bool:
    return measure.endswith(("nll", "ece"))


def comparison(
    title: str,
    head: str,
    rows: Mapping[str, Sequence[Run]],
    base: str = "plain",
    columns: Sequence[int] = range(len(HEADS)),
) -> str:
    """A table of runs that have accuracy and what `mixlayers.cli.score.measured` says of likelihood.

    Args:
        head: Of the first column.
        rows: The runs of each row, by its title; rows without a finished run are left out.
        base: Title of the row that the others' gains are over.
        columns: Which of HEADS.
    """
    lines = []
    for name, runs in rows.items():
        if not runs:
            continue
        own = {key: [run[key] for run in runs] for key in MEASURES}
        gains = {
            key: "" if name == base or found is None else found.text(*shown)
            for key, shown in {"accuracy": (1, 100.0), "scaled_nll": (3, 1.0)}.items()
            for found in (gain(runs, rows[base], key),)
        }
        cells = (
            spread(own["accuracy"], 1, 100.0),
            gains["accuracy"],
            spread(own["nll"], 3),
            spread(own["scaled_nll"], 3),
            gains["scaled_nll"],
            spread(own["ece"], 1, 100.0),
            spread(own["scaled_ece"], 1, 100.0),
            spread(own["temperature"], 2),
        )
        lines.append([name, *(cells[column] for column in columns)])
    return table(title, [head, *(HEADS[column] for column in columns)], lines)


def shares(
    title: str, head: str, rows: Mapping[str, Sequence[Run]], base: str, measures: Sequence[str]
) -> str:
    """A table of further shares of right answers, each with its gain over the base."""
    lines = []
    for name, runs in rows.items():
        cells = []
        for key in measures if runs else ():
            found = None if name == base else gain(runs, rows[base], key)
            better = "" if found is None else f" ({found.text(1, 100.0)})"
            cells.append(spread([run[key] for run in runs], 1, 100.0) + better)
        lines += [[name, *cells]] if cells else []
    return table(title, [head, *measures], lines)
