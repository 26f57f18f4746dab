"""The table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from mixlayers.cli.methods import METHODS
from mixlayers.cli.results import MEASURES, SCALED, Results, beside_plain, best, summary, ties_with_best

_PER_CENT: Final = ("accuracy", "ece", "scaled_ece", "fgsm_accuracy")
_SCALED_HEADINGS: Final = ("temperature", "NLL ↓", "ECE % ↓")
_BESIDE_HEADINGS: Final = ("accuracy, points", "NLL after temperature")
_BEST: Final = "*"
_TIE: Final = "≈"


def show_table(console: Console, results: Results) -> None:
    """Print mean ± standard deviation of every method and measure, the best in bold, and how to read it.

    Then the same after temperature scaling, and what each method gains over plain training, seed by seed.
    """
    ties = {measure: ties_with_best(results, measure) for measure in (*MEASURES, *SCALED)}
    alone = len(results.methods) == 1
    scaled = _empty("After temperature scaling (fitted on validation images)", _SCALED_HEADINGS)
    table = _empty(_title(results), ("accuracy % ↑", "NLL ↓", "ECE % ↓", "FGSM acc. % ↑"))
    for name in results.methods:
        table.add_row(METHODS[name].title, *_cells(results, name, MEASURES, ties, alone))
        temperature = summary(results.of(name))["temperature"]["mean"] or 0.0
        cells = _cells(results, name, SCALED, ties, alone)
        scaled.add_row(METHODS[name].title, f"{temperature:.2f}", *cells)
    gains = beside_plain(results)
    beside = _empty("Beside plain, seed by seed: mean ± standard error, wins", _BESIDE_HEADINGS)
    for name, gaps in gains.items():
        cells = [gaps[measure].text(*_shown(measure)) for measure in ("accuracy", "scaled_nll")]
        beside.add_row(METHODS[name].title, *cells)
    console.print()
    for shown in (table, scaled, *([beside] if gains else [])):
        console.print(shown)
    for line in _notes(results, any(ties.values()), alone):
        console.print(line, highlight=False, soft_wrap=True)


def _empty(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(
    results: Results, name: str, measures: Sequence[str], ties: Mapping[str, set[str]], alone: bool
) -> list[str]:
    """A method's numbers, with the marks of the best one and of those that tie with it."""
    moments, cells = summary(results.of(name)), []
    for measure in measures:
        text = _number(measure, moments[measure]["mean"] or 0.0, moments[measure]["sd"])
        if best(results, measure) == name and not alone:
            cells.append(f"[bold]{text} {_BEST}[/bold]")
        else:
            cells.append(f"{text} {_TIE if name in ties[measure] else ' '}")
    return cells


def _number(measure: str, mean: float, sd: float | None) -> str:
    digits, factor = _shown(measure)
    text = f"{mean * factor:.{digits}f}"
    return text if sd is None else f"{text} ± {sd * factor:.{digits}f}"


def _shown(measure: str) -> tuple[int, float]:
    """How many digits of how many times the measure."""
    return (1, 100.0) if measure in _PER_CENT else (3, 1.0)


def _title(results: Results) -> str:
    config, data = results.config, results.data
    return (
        f"{data['title']}, {config['labels_per_class']} labels per class, {config['steps']} steps, "
        f"{data['test']} test images"
    )


def _notes(results: Results, tied: bool, alone: bool) -> list[str]:
    """Notes below the table: how to read it, and how far to trust it."""
    counts = {name: len(results.of(name)) for name in results.methods}
    notes = [
        "NLL: negative log-likelihood. ECE: calibration error, 15 bins. "
        f"FGSM: under attack, ε = {results.data['epsilon']:.3g}."
    ]
    if max(counts.values()) == 1:
        notes.append("One run per method: there is no spread, so small differences may well be chance.")
    else:
        notes.append(f"Mean ± standard deviation over {max(counts.values())} seeds.")
    if not alone:
        notes.append(
            f"{_BEST} best mean."
            + (f"  {_TIE} a tie: no further from it than the larger of the two spreads." if tied else "")
        )
    if len(set(counts.values())) > 1:
        notes.append(f"Runs so far: {', '.join(f'{METHODS[name].title} {n}' for name, n in counts.items())}.")
    if results.config["quick"]:
        notes.append("--quick trains briefly: a look at the demo, not a comparison of the methods.")
    return notes
