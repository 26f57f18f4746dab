"""Whose layers run now: in a model's forward, or in a part of it that runs again in backward.

Each recomputed segment keeps a notebook, the same in its forward and in backward. A mixer writes into it, in the
forward, which pass the segment's layers belong to and which forwards of the model begin in it; in backward it
reads that again. Nothing else connects the two: not the order of forwards, nor that a backward pass is running.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mixlayers._core.errors import refuse
from mixlayers._core.model.autograd import Segment
from mixlayers._core.model.passes import Pass, running

if TYPE_CHECKING:
    from mixlayers._core.model.session import Session


T = TypeVar("T")


class Remembered(Generic[T]):
    """What happened in a segment, in its order, for when it runs again."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._run: Any = None
        self._at = 0

    def add(self, item: T) -> None:
        """It happened once more."""
        self._items.append(item)

    def replay(self, run: Any) -> T | None:
        """The next of it, in a run of the segment; None if there is none."""
        if run != self._run:
            self._run, self._at = run, 0
        if not self._items:
            return None
        self._at += 1
        return self._items[(self._at - 1) % len(self._items)]


class Note:
    """What one segment remembers of one model.

    Attributes:
        owner: The pass that layers called in the segment belong to; None: to none.
        calls: The forwards of the whole model that begin in it.
        losses: The passes that its criteria found.
    """

    def __init__(self, owner: Pass | None) -> None:
        self.owner = owner
        self.calls: Remembered[Pass] = Remembered()
        self.losses: Remembered[list[Pass]] = Remembered()


Notebook = MutableMapping["Session", Note]


def inside(top: Pass | None, segments: Sequence[Segment]) -> list[Segment]:
    """The segments that began after a running forward did."""
    if top is None:
        return list(segments)
    return [segment for segment in segments if not any(segment.notebook is known for known in top.around)]


def original(session: Session, top: Pass | None, segments: Sequence[Segment]) -> Pass | None:
    """The pass that a call of the model runs again; None if it is a new one, or was not made in the forward.

    Args:
        session: The model's.
        top: The model's forward that is running.
        segments: Those inside it.
    """
    for segment in segments:
        if segment.again and session in segment.notebook:
            return segment.notebook[session].calls.replay(segment.run)
    return None if top is None or top.of is None else top.replay()


def note_call(session: Session, top: Pass | None, segments: Sequence[Segment], called: Pass) -> None:
    """Remember a call of the model, for when the code around it runs again."""
    owner(session, top, segments)
    for segment in segments:
        if not segment.again:
            segment.notebook[session].calls.add(called)
    if top is not None and top.of is None:
        top.nested.append(called)


def note_loss(session: Session, segments: Sequence[Segment], found: list[Pass]) -> list[Pass]:
    """Remember the passes that a criterion found; where it runs again, its output has another past: remember them."""
    for segment in segments:
        if segment.again and session in segment.notebook:
            return segment.notebook[session].losses.replay(segment.run) or found
    top = running(session)
    within = inside(top, segments)
    owner(session, top, within)
    for segment in within:
        if not segment.again:
            segment.notebook[session].losses.add(found)
    return found


def owner(session: Session, top: Pass | None, segments: Sequence[Segment]) -> tuple[Pass | None, bool]:
    """The pass that a call of a layer belongs to, and whether it runs again apart from the whole model.

    Raises:
        MixingError: If that cannot be known.
    """
    if not segments:
        return top, False
    again = any(segment.again for segment in segments)
    known = next((note for segment in segments if (note := segment.notebook.get(session))), None)
    if again and known is None and session.unseen:
        refuse(
            "a layer runs again in backward, in code that mixlayers could not follow in the forward, so that it "
            "cannot tell which forward's",
            "use torch.utils.checkpoint, or an autograd function whose forward takes ctx, or mix outside of it",
        )
    acting = top if not again else None if known is None else known.owner
    for segment in segments:
        note = segment.notebook.setdefault(session, Note(acting))
        if not again and note.owner is not acting:
            refuse(
                "one recomputed segment runs layers of two forwards, so its recomputation could not tell their plans "
                "apart",
                "recompute each forward, or parts of the model, in a segment of its own",
            )
    return acting, again


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
