"""The table at the end."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from mixlayers.cli.methods import METHODS
from mixlayers.cli.results import MEASURES, Results, best, summary, ties_with_best

_PER_CENT: Final = ("accuracy", "ece", "fgsm_accuracy")
_BEST: Final = "*"
_TIE: Final = "≈"


def show_table(console: Console, results: Results) -> None:
    """Print mean ± standard deviation of every method and measure, the best in bold, and how to read it."""
    table = Table(
        title=_title(results), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("method", no_wrap=True)
    for heading in ("accuracy % ↑", "NLL ↓", "ECE % ↓", "FGSM acc. % ↑"):
        table.add_column(heading, justify="right", no_wrap=True)
    winners = {measure: best(results, measure) for measure in MEASURES}
    ties = {measure: ties_with_best(results, measure) for measure in MEASURES}
    alone = len(results.methods) == 1
    for name in results.methods:
        cells = []
        for measure, moments in summary(results.of(name)).items():
            text = _number(measure, moments["mean"] or 0.0, moments["sd"])
            if winners[measure] == name and not alone:
                cells.append(f"[bold]{text} {_BEST}[/bold]")
            else:
                cells.append(f"{text} {_TIE if name in ties[measure] else ' '}")
        table.add_row(METHODS[name].title, *cells)
    console.print()
    console.print(table)
    for line in _notes(results, any(ties.values()), alone):
        console.print(line, highlight=False, soft_wrap=True)


def _number(measure: str, mean: float, sd: float | None) -> str:
    factor, digits = (100.0, 1) if measure in _PER_CENT else (1.0, 3)
    text = f"{mean * factor:.{digits}f}"
    return text if sd is None else f"{text} ± {sd * factor:.{digits}f}"


def _title(results: Results) -> str:
    config, data = results.config, results.data
    return (
        f"{data['title']}, {config['labels_per_class']} labels per class, {config['steps']} steps, "
        f"{data['test']} test images"
    )


def _notes(results: Results, tied: bool, alone: bool) -> list[str]:
    """How to read the table, and how far to trust it."""
    counts = {name: len(results.of(name)) for name in results.methods}
    notes = [
        "NLL: negative log-likelihood. ECE: calibration error, 15 bins. "
        f"FGSM: under attack, ε = {results.data['epsilon']:g}."
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
