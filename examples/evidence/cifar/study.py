"""How a CIFAR-10 study is declared: what it varies, what it asks, what its two tiers are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from evidence import Claim, Figure, Job, Record, Run, Study, figure
from evidence.cifar.training import fingerprint, work
from evidence.compared import BRIEF, NOTE, comparison, gain, having, shares
from mixlayers.cli.methods import METHODS

QUICK: Final[Job] = {
    "data": "cifar10", "labels": [2], "network": "resnet", "width": 8, "stages": 2, "batch": 10, "epochs": 1,
    "epochs_at": 2, "validation": 20, "tested": 20, "device": "cpu", "seeds": 1,
}  # fmt: skip
FULL: Final[Job] = {
    "data": "cifar10", "labels": [100], "network": "resnet", "width": 16, "stages": 3, "batch": 100, "epochs": 120,
    "epochs_at": 100, "validation": 1000, "tested": 10000, "device": "cpu", "seeds": 3,
}  # fmt: skip
GPU: Final[Job] = {
    "data": "cifar10", "labels": [4500], "network": "resnet", "width": 64, "stages": 4, "batch": 128, "epochs": 30,
    "epochs_at": 4500, "validation": 5000, "tested": 10000, "device": "cuda", "seeds": 3,
}  # fmt: skip

Work = Callable[[Job, Job], Run]
Named = Callable[[Any], str]


@dataclass(frozen=True)
class Asked:
    """One study on CIFAR-10.

    Attributes:
        name: Typed after examples/cifar10.py; the record is docs/evidence/cifar_<name>.json.
        question: That it answers, for people.
        axes: Settings that are lists, of which every combination is a job; the last one makes the rows of a table, the
            others one table each.
        quick, full, gpu: What differs from QUICK, FULL and GPU; `gpu` None where there is no such tier.
        base: Value of the last axis that gains are over.
        titles: Of the axes' values, for tables: a function for an axis.
        work: Does one job.
        also: Further shares that `work` measures, which get a table of their own.
        fingerprint: Of what its runs depend on.
    """

    name: str
    question: str
    axes: tuple[str, ...]
    quick: Job
    full: Job
    gpu: Job | None
    base: Any = "plain"
    titles: tuple[tuple[str, Named], ...] = ()
    work: Work = work
    also: tuple[str, ...] = ()
    fingerprint: Callable[[], str] = fingerprint

    def study(self) -> Study:
        return Study(
            f"cifar_{self.name}",
            {**QUICK, **self.quick},
            {**FULL, **self.full},
            self.jobs,
            self.work,
            self.tables,
            self.claims,
            self.draw,
            None if self.gpu is None else {**GPU, **self.gpu},
            f"examples/cifar10.py {self.name}",
            self.fingerprint,
        )

    def jobs(self, settings: Job, seed: int) -> list[Job]:
        values = product(*(settings[axis] for axis in self.axes))
        return [dict(zip(self.axes, case, strict=True)) for case in values]

    def title(self, axis: str, value: Any) -> str:
        return {**TITLES, **dict(self.titles)}.get(axis, str)(value)

    def groups(self, settings: Job) -> list[Job]:
        """The values of all axes but the last: a table each."""
        return [dict(zip(self.axes, case)) for case in product(*(settings[axis] for axis in self.axes[:-1]))]  # noqa: B905

    def rows(self, record: Record, group: Job) -> dict[str, list[Run]]:
        """A table's rows: the runs of each value of the last axis, by title."""
        axis = self.axes[-1]
        return {
            self.title(axis, value): having(record["runs"], **group, **{axis: value})
            for value in record["settings"][axis]
        }

    def tables(self, record: Record) -> str:
        """Accuracy, likelihood and calibration, before and after temperature scaling, beside the base."""
        settings, base, found = record["settings"], self.title(self.axes[-1], self.base), []
        for group in self.groups(settings):
            rows = self.rows(record, group)
            if rows[base]:
                words = [self.title(axis, value) for axis, value in group.items()]
                seeds = max(map(len, rows.values()))  # so far
                title = ", ".join(["CIFAR-10", *words, f"{seeds} seed{'s' * (seeds > 1)}"])
                found.append(comparison(title, self.axes[-1], rows, base))
                if self.also:
                    found.append(
                        shares(f"{title}: accuracy %, and its gain", self.axes[-1], rows, base, self.also)
                    )
        return "\n\n".join([*found, NOTE])

    def brief(self, record: Record) -> str:
        """The first table in fewer columns, for a page that has less room."""
        group = self.groups(record["settings"])[0]
        title = "CIFAR-10, " + ", ".join(self.title(axis, value) for axis, value in group.items())
        base = self.title(self.axes[-1], self.base)
        return comparison(title, self.axes[-1], self.rows(record, group), base, BRIEF)

    def claims(self, record: Record) -> list[Claim]:
        """Nothing that was hoped for: the tables say what helps, what does not, and how surely."""
        runs = record["runs"]
        return [("Every network's numbers are finite.", all(np.isfinite(run["scaled_nll"]) for run in runs))]

    def draw(self, record: Record) -> Figure:
        """Gain over the base of every seed, and their mean as a bar; left accuracy, right likelihood at T."""
        groups = [
            group for group in self.groups(record["settings"]) if any(self.rows(record, group).values())
        ]
        base = self.title(self.axes[-1], self.base)
        lines = [1.0 + sum(bool(runs) for runs in self.rows(record, group).values()) for group in groups]
        fig = figure(10.0, 0.6 * len(groups) + 0.5 * sum(lines))
        grid = fig.subplots(len(groups), 2, squeeze=False, height_ratios=lines)
        for line, group in zip(grid, groups, strict=True):
            rows = self.rows(record, group)
            names = [
                name for name, runs in rows.items() if name != base and gain(runs, rows[base], "accuracy")
            ]
            for axes, measure, factor in zip(line, ("accuracy", "scaled_nll"), (100.0, 1.0), strict=True):
                bars(axes, names, [differences(rows[name], rows[base], measure, factor) for name in names])
            words = ", ".join(self.title(axis, value) for axis, value in group.items())
            line[0].set_title(f"{words}: accuracy, points over {base}", loc="left", fontsize=11)
            line[1].set_title("NLL at T (below 0 is better)", loc="left", fontsize=11)
        return fig


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


TITLES: Final[dict[str, Named]] = {
    "method": lambda name: METHODS[name].title,
    "labels": lambda n: f"{10 * n:,} labels",
    "noise": lambda share: f"{share:.0%} wrong labels",
    "epochs": lambda n: f"{n} epochs",
}
