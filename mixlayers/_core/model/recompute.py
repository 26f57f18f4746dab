"""The owner of a running layer: a model's forward, or a part of it that runs again in backward.

Each recomputed segment keeps a notebook, the same in its forward and in backward. A mixer writes into it, in the
forward, which pass the segment's layers belong to and which forwards of the model begin in it; in backward it
reads that again. Nothing else connects the two: not the order of forwards, nor that a backward pass is running.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mixlayers._core.errors import refuse
from mixlayers._core.model.autograd import Segment
from mixlayers._core.model.passes import Call, Owner, Pass, inside, living, running

T = TypeVar("T")


class Remembered(list[T]):
    """The events of a segment, in order, for when it runs again."""

    _run: Any = None
    _at = 0

    def replay(self, run: Any) -> T | None:
        """The next of it, in a run of the segment; None if there is none."""
        if run != self._run:
            self._run, self._at = run, 0
        self._at += 1
        return self[(self._at - 1) % len(self)] if self else None


@dataclass
class Note:
    """One model's events in one segment."""

    owner: Pass | None  # whose layers are called in it
    calls: Remembered[Pass] = field(
        default_factory=Remembered
    )  # forwards of the whole model that begin in it
    losses: Remembered[list[Pass]] = field(default_factory=Remembered)  # what its criteria found


def notes(session: Owner, segments: Sequence[Segment], *, again: bool) -> list[tuple[Segment, Note]]:
    """What segments remember of a model: those that run now for the first time, or those that run again."""
    return [
        (segment, segment.notebook[session])
        for segment in segments
        if segment.again is again and session in segment.notebook
    ]


def original(session: Owner, top: Call | None, segments: Sequence[Segment]) -> Pass | None:
    """The pass that a call of the model runs again; None if it is a new one, or was not made in the forward.

    Args:
        session: The model's.
        top: The model's forward that is running.
        segments: Those inside it.
    """
    for segment, note in notes(session, segments, again=True):
        return note.calls.replay(segment.run)
    return None if top is None or top.again is None else next(top.again, None)


def note_call(session: Owner, top: Call | None, segments: Sequence[Segment], called: Pass) -> None:
    """Remember a call of the model, for when the code around it runs again."""
    owner(session, top, segments)
    for _, note in notes(session, segments, again=False):
        note.calls.append(called)
    if top is not None and top.again is None:
        top.mixed.calls.append(called)


def note_loss(session: Owner, segments: Sequence[Segment], found: list[Pass]) -> list[Pass]:
    """Remember the passes that a criterion found; where it runs again, its output has another past: remember them."""
    for segment, note in notes(session, segments, again=True):
        return note.losses.replay(segment.run) or found
    top = running(session)
    within = inside(top, segments)
    owner(session, top, within)
    for _, note in notes(session, within, again=False):
        note.losses.append(found)
    return found


def owner(session: Owner, top: Call | None, segments: Sequence[Segment]) -> tuple[Pass | None, bool]:
    """The pass that a call of a layer belongs to, and whether it runs again apart from the whole model.

    Raises:
        MixingError: If that cannot be known.
    """
    mine = None if top is None else top.mixed
    again = any(segment.again for segment in segments)
    if again:
        known = [note for segment in segments if (note := segment.notebook.get(session)) is not None]
        if not known and any(lost.unseen and lost.session is session for lost in living()):
            refuse(
                "a layer runs again in backward, in code that mixlayers could not follow in the forward, so that it "
                "cannot tell which forward's",
                "use torch.utils.checkpoint, or an autograd function whose forward takes ctx, or mix outside of it",
            )
        mine = known[0].owner if known else None
    for segment in segments:
        note = segment.notebook.setdefault(session, Note(mine))
        if not again and note.owner is not mine:
            refuse(
                "one recomputed segment runs layers of two forwards, so its recomputation could not tell their plans "
                "apart",
                "recompute each forward, or parts of the model, in a segment of its own",
            )
    return mine, again


class Replayed:
    """After the backward of a node whose forward mixed without gradients: has it run the place again?"""

    def __init__(self, mixed: Pass) -> None:
        self.mixed, self._before = mixed, 0

    def __call__(self, *gradients: Any) -> None:
        """The node's backward is over.

        Raises:
            MixingError: If the place did not run again.
        """
        before, self._before = self._before, self.mixed.replays
        if self.mixed.replays == before and self.mixed.plan is not None:
            refuse(
                f"{self.mixed.plan.place!r} was mixed inside an autograd function that does not run it again in "
                "backward, so that its gradients would be those of an unmixed step",
                "mix outside of it: audit(model, example) lists other layers",
            )
