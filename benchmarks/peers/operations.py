"""The parts of the race that time or weigh one mixing of one batch."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

from parts.timing import TINY, Row, Scale, Spread, interleave, ratio
from peers.work import batch, own_runs, runs

PAIRS = [(op, lam_per) for op in ("Mixup", "CutMix") for lam_per in ("batch", "sample")]
FASTER_THAN_TIMM = 1 / 1.5
STATUS = Path("/proc/self/status")


def sizes(scale: Scale) -> list[tuple[tuple[int, ...], int]]:
    """Shapes of batches, with their number of classes."""
    if scale is TINY:
        return [((4, 3, 16, 16), 10)]
    return [((64, 3, 224, 224), 1000), ((128, 3, 32, 32), 100)]


def operation_rows(scale: Scale) -> list[Row]:
    """Images and soft targets, everybody by turns."""
    rows = []
    for shape, classes in sizes(scale):
        x, y = batch(shape, classes)
        small = x.numel() < 1e6
        for op, lam_per in PAIRS:
            times = interleave(
                runs(op, lam_per, x, y, classes),
                scale.rounds * (2 if small else 1),
                repeat=10 if small and scale is not TINY else 1,
            )
            what = f"{op}, lam per {lam_per}, {'x'.join(map(str, shape))}"
            rows.append(compared("operation", what, times, "ms; rivals: x ours", 1e3))
            name = f"timm {op}, elem"
            if lam_per == "sample" and name in times:
                against = ratio(times["ours"], times[name])
                rows.append(Row("promise", what, "x timm's elem", against, limit=FASTER_THAN_TIMM))
    return rows


def compared(part: str, what: str, times: dict[str, list[float]], unit: str, scale: float) -> Row:
    """A row of times, the rivals' over ours."""
    return Row(
        part,
        what,
        unit,
        Spread.of([scale * one for one in times["ours"]]),
        {name: ratio(taken, times["ours"]) for name, taken in times.items() if name != "ours"},
    )


def memory_rows(scale: Scale) -> list[Row]:
    """The resident memory's peak during one call above what was there before, in batches; Linux alone tells it."""
    shape, classes = sizes(scale)[0]
    x, y = batch(shape, classes)
    rows = []
    for op, lam_per in PAIRS:
        work = runs(op, lam_per, x, y, classes)
        for run in work.values():
            run()
        gc.collect()
        taken: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(5):
            for name, run in work.items():
                peak = _peak(run)
                if peak is None:
                    return []
                taken[name].append(peak / (x.numel() * x.element_size()))
        rows.append(
            Row(
                "memory",
                f"{op}, lam per {lam_per}, {'x'.join(map(str, shape))}",
                "batches",
                Spread.of(taken["ours"]),
                {name: Spread.of(values) for name, values in taken.items() if name != "ours"},
            )
        )
    return rows


def _peak(run: Callable[[], object]) -> int | None:
    """Bytes; None where the kernel does not let us reset its high-water mark."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    run()
    return max(_status("VmHWM") - before, 0)


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{STATUS} has no {name}.")
    return 1024 * int(found[1])


def scaling_rows(scale: Scale) -> list[Row]:
    """Mixup with one lam of hidden features, ours and the formula, as the batch and the feature grow."""
    if scale is TINY:
        shapes = [(2, 4, 8, 8), (4, 4, 8, 8)]
    else:
        shapes = [(n, 64, 16, 16) for n in (8, 32, 128, 512)] + [
            (64, 64, side, side) for side in (4, 8, 32, 64)
        ]
    rows = []
    for shape in shapes:
        x, y = batch(shape, 10)
        work = own_runs("Mixup", "batch", x, y, 10)
        repeat = max(1, min(20, 10**7 // x.numel())) if scale is not TINY else 1
        times = interleave(work, scale.rounds, repeat)
        rows.append(
            compared("scaling", f"Mixup of {'x'.join(map(str, shape))}", times, "ms; rivals: x ours", 1e3)
        )
    return rows
