"""A model on trial: what its graph says of each layer, and what the experiment says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy.typing as npt

from mixlayers._core.audit.experiment import Experiment
from mixlayers._core.audit.places import auto_layers, stage_ends
from mixlayers._core.audit.proof import Proof, culprits, prove
from mixlayers._core.audit.report import UNSEEN, Audit, Point
from mixlayers._core.plan.plan import INPUT

_BACKWARD: Final = 1e-2
"""Gradients that are off by more, as a share of the largest, are those of another step."""

EXTREMES: Final = (0.0, 1.0 - 1e-6)
"""The least and the largest uniform number: between them a layer that chance leaves out runs now and then."""


@dataclass
class Trial:
    """One call of a model, looked at in both ways.

    Attributes:
        graph: The layers by the graph alone; None if it cannot be read.
        unreadable: Why not.
        experiment: Runs the call with samples swapped.
        clean: The outputs of the forward that the graph was read from.
        chooses: Whether chance may decide which layers run.
        worst: The largest of a number over the processes that run the model together.
    """

    graph: Audit | None
    unreadable: str
    experiment: Experiment
    clean: Sequence[npt.NDArray[Any]]
    chooses: Callable[[], bool]
    worst: Callable[[float], float] = float
    proofs: dict[str, Proof] = field(default_factory=dict)

    def prove(self, places: Iterable[str]) -> dict[str, Proof]:
        """The experiment's verdicts at places, each asked for once; those that are refuted with their culprits."""
        asked = list(dict.fromkeys(places))
        new = self._in_order(place for place in asked if place not in self.proofs)
        few = self.experiment.few
        if new:
            found = prove(self.experiment, self.clean, new, few.size, few.batch_dim, self.worst)
            self.proofs.update(found)
            for place in new:
                if self._is_unseen(place) and self.proofs[place].verdict == "yes":
                    self._look_at_backward(place)
            if self.chooses():
                self._look_at_extremes(new)
        return {place: self.proofs[place] for place in asked}

    def explain(self, place: str) -> Proof:
        """A refuted place's proof, with the arguments that go round it."""
        proof, few = self.proofs[place], self.experiment.few
        if proof.verdict != "no" or proof.culprits:
            return proof
        arguments = self.experiment.arguments()
        found = culprits(self.experiment, self.clean, place, arguments, few.size, few.batch_dim, self.worst)
        self.proofs[place] = replace(proof, culprits=found)
        return self.proofs[place]

    def report(self) -> Audit:
        """The graph's report, with the experiment at every layer that the graph calls true.

        Raises:
            ValueError: If the graph cannot be read.
        """
        graph = self.readable()
        hidden = [point.name for point in graph if point.true]
        self.prove([*([INPUT] if graph.float_input else []), *hidden])
        return self.told()

    def told(self, *, lenient: bool = False) -> Audit:
        """The report by what is known so far.

        Args:
            lenient: Whether undecided places count as true.
        """
        graph = self.readable()
        points = tuple(self._judged(point, lenient=lenient) for point in graph)
        proof = self.proofs.get(INPUT)
        float_input = graph.float_input and (proof is None or _holds(proof, lenient=lenient))
        found = replace(graph, points=points, float_input=float_input, chosen=())
        return replace(found, chosen=auto_layers(found)) if stage_ends(points) else found

    def choose(self, rule: str, *, partners: bool = True) -> tuple[str, ...]:
        """The places that a rule picks among true ones, each of them proved.

        Where nothing can be proved since the model's outputs do not tell, those that are not refuted.

        Args:
            rule: See `auto_layers`.
            partners: Whether samples are mixed there; else nothing needs to be proved.

        Raises:
            ValueError: If there is none.
        """
        if not partners:
            return auto_layers(self.readable(), rule)
        while True:
            try:
                chosen = auto_layers(self.told(), rule)
            except ValueError:
                undecided = {place for place, proof in self.proofs.items() if proof.verdict == "undecided"}
                if not undecided - {INPUT}:
                    raise
                return auto_layers(self.told(lenient=True), rule)
            new = [place for place in chosen if place not in self.proofs]
            if not new:
                return chosen
            self.prove(new)

    def readable(self) -> Audit:
        """The graph's report; raises ValueError if there is none."""
        if self.graph is None:
            raise ValueError(self.unreadable)
        return self.graph

    def reason(self, place: str) -> str:
        """Why the graph refutes a place; empty where it does not, or cannot tell."""
        if place == INPUT or self.graph is None:
            return ""
        reason = self.graph[place].reason
        return "" if reason == UNSEEN else reason

    def _judged(self, point: Point, *, lenient: bool) -> Point:
        proof = self.proofs.get(point.name)
        if not point.true or proof is None or _holds(proof, lenient=lenient):
            return replace(point, swap=proof)
        proof = self.explain(point.name)
        reason = proof.reason if proof.verdict == "no" else f"undecided: {proof.reason}"
        return replace(point, true=False, reason=reason + ways_round(proof), swap=proof)

    def _in_order(self, places: Iterable[str]) -> list[str]:
        names = [INPUT, *(point.name for point in self.graph or ())]
        return sorted(places, key=lambda place: names.index(place) if place in names else len(names))

    def _is_unseen(self, place: str) -> bool:
        """Whether the graph has not seen a layer, which ran without gradients."""
        return place != INPUT and self.graph is not None and self.graph[place].reason == UNSEEN

    def _look_at_backward(self, place: str) -> None:
        """Refute a place whose swap a function's own backward does not follow."""
        try:
            off = self.worst(self.experiment.backward_off(place))
        except Exception:  # the step itself tells
            return
        if off > _BACKWARD:
            said = f"it runs in a function whose own backward does not follow the swap: gradients are off by {off:.2g}"
            self.proofs[place] = Proof("no", said, off)

    def _look_at_extremes(self, places: Sequence[str]) -> None:
        """Refute places that chance leaves out."""
        for uniform in EXTREMES:
            try:
                counts = self.experiment.calls(places, uniform)
            except Exception:  # the model's own code, with numbers that it hardly ever meets
                continue
            for place, count in counts.items():
                if count != 1 and place != INPUT:
                    said = f"chance decides how often it runs in a forward (also {count} times)"
                    self.proofs[place] = Proof("no", said)


def _holds(proof: Proof, *, lenient: bool) -> bool:
    return proof.verdict == "yes" or proof.blind or (lenient and proof.verdict == "undecided")


def ways_round(proof: Proof) -> str:
    """The culprits, as the end of a reason."""
    if not proof.culprits:
        return ""
    names = [name if name.startswith("number ") else repr(name) for name in proof.culprits]
    several = len(names) > 1
    reach = "reach" if several else "reaches"
    return f": argument{'s' * several} {' and '.join(names)} {reach} it another way"
