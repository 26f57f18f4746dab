"""The report on a model's layers: where can all of it be mixed?"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from mixlayers._core.audit.dominators import separates
from mixlayers._core.audit.proof import Proof

UNSEEN: Final = "computed without gradients (a re-entrant checkpoint, no_grad): cannot be audited"
"""The reason that is no verdict: autograd has not seen the layer."""


_REPEATED: Final = 3
"""From so many equal layers on a long table shows one."""

_LONG: Final = 40
"""More rows than that are a long table."""

PARTIAL: Final = "part of the features goes round it (residual or parallel branch)"
UNREACHED: Final = "does not reach the output"
NO_AXIS: Final = "no batch axis"


@dataclass(frozen=True)
class Point:
    """One layer of an audited model.

    Attributes:
        name: The layer's name in the model.
        kind: Its class.
        shape: Shape of the feature that would be mixed; None if there is none.
        true: Whether it is a true mixing point: nothing of a sample reaches the output except through it.
        reason: Why not; empty if it is.
        weighted: Whether it holds weights (parameters of two or more axes; a norm holds none).
        leaf: Whether it holds no other layer.
        swap: What came of swapping samples there; None where that was not tried, since the graph refutes it.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    true: bool
    reason: str = ""
    weighted: bool = False
    leaf: bool = True
    swap: Proof | None = None


@dataclass(frozen=True)
class Reach:
    """The graph's verdict on outputs beside the logits.

    Attributes:
        below: The graph: node -> the nodes that it was computed from.
        sources: Where samples come in.
        beside: Those outputs' nodes, by name.
        nodes: The layers' nodes.
    """

    below: Mapping[int, Sequence[int]]
    sources: Set[int]
    beside: Mapping[str, int]
    nodes: Mapping[str, Set[int]]

    def astray(self, place: str) -> tuple[str, ...]:
        """The outputs beside that samples reach round a layer."""
        cut = self.nodes.get(place, set())
        return tuple(
            name for name, head in self.beside.items() if not separates(self.below, cut, head, self.sources)
        )


@dataclass(frozen=True)
class Audit:
    """Every layer's verdict, in the order in which the layers finish; `print` shows the table, repeated blocks folded.

    Attributes:
        points: The layers.
        float_input: Whether the input itself can be mixed; token indices cannot.
        chosen: What layers="auto" picks; empty if it finds nothing.
        reach: Which other outputs go round a layer.
    """

    points: tuple[Point, ...]
    float_input: bool = True
    chosen: tuple[str, ...] = ()
    reach: Reach | None = field(default=None, repr=False, compare=False)

    @property
    def true(self) -> tuple[str, ...]:
        """Names of the true mixing points."""
        return tuple(point.name for point in self.points if point.true)

    def __getitem__(self, name: str) -> Point:
        for point in self.points:
            if point.name == name:
                return point
        raise KeyError(f"{name!r} is no layer of the audited model.")

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __str__(self) -> str:
        return self.table()

    def table(self, *, folded: bool = True) -> str:
        """The verdicts as text, and the places that auto picks as they are given to `wrap`.

        Args:
            folded: Whether, among more than 40 layers, those of repeated blocks with equal verdicts share a row, as
                encoder.layer.*.output (12).
        """
        rows = [("layer", "type", "feature", "graph", "swap", "mixes everything?")]
        rows += [
            (name, *self._row(point)[1:])
            for name, point in (
                self._folded()
                if folded and len(self.points) > _LONG
                else ((each.name, each) for each in self.points)
            )
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append(f"{len(self.true)} of {len(self.points)} layers are true mixing points.")
        if self.chosen:
            lines.append(f"layers=[{', '.join(map(_quoted, self.chosen))}]")
        return "\n".join(lines)

    def _folded(self) -> list[tuple[str, Point]]:
        """The layers with their names; of repeated blocks the first, named for all."""
        groups: dict[tuple[Hashable, ...], list[Point]] = {}
        for point in self.points:
            name = re.sub("[0-9]+", "*", point.name)
            many = name.strip("*.") and point.name not in self.chosen
            groups.setdefault((name if many else point.name, *self._row(point)[1:]), []).append(point)
        rows = []
        for (pattern, *_), points in groups.items():
            if len(points) < _REPEATED:
                rows += [(point.name, point) for point in points]
            else:
                rows.append((f"{pattern} ({len(points)})", points[0]))
        order = {point.name: at for at, point in enumerate(self.points)}
        return sorted(rows, key=lambda row: order[row[1].name])

    def _row(self, point: Point) -> tuple[str, str, str, str, str, str]:
        shape = "x".join(map(str, point.shape)) if point.shape else "-"
        chosen = ", chosen by auto" if point.name in self.chosen else ""
        graph = "yes" if point.true or point.swap is not None else "no"
        swap = "-" if point.swap is None else point.swap.verdict
        return point.name, point.kind, shape, graph, swap, f"yes{chosen}" if point.true else point.reason


def _quoted(name: str) -> str:
    return f'"{name}"'
