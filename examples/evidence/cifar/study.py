"""How a CIFAR-10 study is declared: what it varies, what it asks, what its two tiers are."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from evidence import Claim, Figure, Job, Record, Run, Study
from evidence.cifar.pictures import draw_along, draw_gains
from evidence.cifar.training import fingerprint, work
from evidence.compared import BRIEF, NOTE, comparison, having, shares
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
        along: One of the axes, of numbers, for a picture of what each row reaches along it; "": a bar for each gain.
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
    along: str = ""
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
                seeds = max(map(len, rows.values()))  # so far
                title = f"CIFAR-10, {self.words(group)}, {seeds} seed{'s' * (seeds > 1)}"
                found.append(comparison(title, self.axes[-1], rows, base))
                if self.also:
                    found.append(
                        shares(f"{title}: accuracy %, and its gain", self.axes[-1], rows, base, self.also)
                    )
        return "\n\n".join([*found, NOTE])

    def brief(self, record: Record) -> str:
        """The first table in fewer columns, for a page that has less room."""
        group = self.groups(record["settings"])[0]
        title = f"CIFAR-10, {self.words(group)}"
        base = self.title(self.axes[-1], self.base)
        return comparison(title, self.axes[-1], self.rows(record, group), base, BRIEF)

    def claims(self, record: Record) -> list[Claim]:
        """Nothing that was hoped for: the tables say what helps, what does not, and how surely."""
        runs = record["runs"]
        return [("Every network's numbers are finite.", all(np.isfinite(run["scaled_nll"]) for run in runs))]

    def draw(self, record: Record) -> Figure:
        """Each row's gain over the base, a bar a table; or what it reaches `along` an axis."""
        groups = [
            group for group in self.groups(record["settings"]) if any(self.rows(record, group).values())
        ]
        if not self.along:
            tables = {self.words(group): self.rows(record, group) for group in groups}
            return draw_gains(tables, self.title(self.axes[-1], self.base))
        joined: dict[str, dict[str, list[Run]]] = {}
        for group in groups:
            rest = {axis: value for axis, value in group.items() if axis != self.along}
            rows = joined.setdefault(self.words(rest), {})
            for name, runs in self.rows(record, group).items():
                rows.setdefault(name, []).extend(runs)
        return draw_along(self.along, joined, lambda value: self.title(self.along, value))

    def words(self, group: Job) -> str:
        return ", ".join(self.title(axis, value) for axis, value in group.items())


TITLES: Final[dict[str, Named]] = {
    "method": lambda name: METHODS[name].title,
    "labels": lambda n: f"{10 * n:,} labels",
    "noise": lambda share: f"{share:.0%} wrong labels",
    "epochs": lambda n: f"{n} epochs",
}
