"""What a part is made of: cases, each of which holds, fails, is measured, or is left out, whatever the others do."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from device.machine import Device
from parts.timing import Row

HOLDS, MEASURED, FAILS, LEFT_OUT = "holds", "measured", "FAILS", "left out"


class LeftOut(Exception):
    """A case that this machine cannot run; the message says why."""


@dataclass(frozen=True)
class Case:
    """One thing to prove or to measure.

    Attributes:
        what: Said before its outcome.
        run: Raises where it does not hold; returns what there is to say, or rows of measurements.
    """

    what: str
    run: Callable[[], str | Sequence[Row] | None]


Part = Callable[[Device], Iterable[Case]]


@dataclass(frozen=True)
class Found:
    """What came of a case."""

    what: str
    outcome: str
    detail: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        said = f": {self.detail}" if self.detail else ""
        lines = [f"{self.outcome:8}  {self.what}{said}  ({self.seconds:.1f} s)"]
        for row in map(Row.from_dict, self.rows):
            beside = "".join(f"; {name} {spread}" for name, spread in row.rivals.items())
            lines.append(f"          {row.part}: {row.what}: {row.ours} {row.unit}{beside}")
        return "\n".join(lines)


def settle(case: Case) -> Found:
    """Run a case; nothing that it raises gets out, but for an interrupt."""
    begun = time.perf_counter()
    outcome, detail, rows = HOLDS, "", []
    try:
        result = case.run()
        if isinstance(result, str):
            detail = result
        elif result is not None:
            outcome, rows = MEASURED, [row.to_dict() for row in result]
    except LeftOut as why:
        outcome, detail = LEFT_OUT, str(why)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
        outcome, detail = FAILS, f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:1500]}"
    return Found(case.what, outcome, detail, rows, time.perf_counter() - begun)
