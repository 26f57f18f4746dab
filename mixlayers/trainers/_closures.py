"""Optimizers that run a training step several times on one batch, such as LBFGS and SAM."""

from __future__ import annotations

from mixlayers.torch import Mixer


class Closures:
    """Has every run of a training step on one batch draw the plans of the first run.

    Each call of the closure would minimise another function otherwise. Plans are a function of their numbers, so it
    is enough to go back to the first run's; several forwards in a run keep plans of their own.

    Args:
        mixer: The mixer.
    """

    def __init__(self, mixer: Mixer) -> None:
        self._session = mixer._session
        self._first = self._next = mixer.step

    def begin(self) -> None:
        """A batch begins."""
        self._first = self._next = self._session.step

    def again(self) -> None:
        """The batch's next forward, if there is another, belongs to a new run."""
        self._next = max(self._next, self._session.step)
        self._session.step = self._first

    def end(self) -> None:
        """The batch is over."""
        self._session.step = max(self._next, self._session.step)
