"""Whether the layers that a plan is for do run: noted on the host, while their model is called or traced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from mixlayers._core.errors import refuse


class Runs:
    """How often each place of one mixer has run. A trace that JAX has at hand runs no Python, and adds nothing."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._owed: set[str] = set()

    def note(self, place: str) -> None:
        """A place runs."""
        self._times[place] += 1

    @contextmanager
    def once(self, places: Iterable[str], apart: Collection[str]) -> Iterator[None]:
        """One call of a model.

        Args:
            places: Where features may be mixed in it.
            apart: Those of which JAX may have a trace at hand: they must have run at some time.

        Raises:
            MixingError: If one of the others did not run once.
        """
        before = self._times.copy()
        yield
        for place in places:
            times = self._times[place] - (0 if place in apart else before[place])
            if times == 0:
                _refuse_unrun(place)
            if times > 1 and place not in apart:
                refuse(
                    f"the layer {place!r} ran {times} times in one call of the model, and would be mixed each time",
                    "choose a layer that runs once, and give the mixer an example of such a call",
                )

    def owe(self, places: Iterable[str]) -> None:
        """A model is handed out that is to mix at some places."""
        self._owed.update(places)

    def check(self) -> None:
        """The step is over.

        Raises:
            MixingError: If a place that is owed has never run.
        """
        owed, self._owed = self._owed, set()
        for place in sorted(owed):
            if not self._times[place]:
                _refuse_unrun(place)


def _refuse_unrun(place: str) -> None:
    refuse(
        f"the planned layer {place!r} did not run when the model was called, so that only the labels would be mixed",
        "choose layers that always run, and give the mixer an example of such a call",
    )
