"""A trainer's watch on a mixer: what to log, and whether anything is mixed at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mixlayers import MixingError
from mixlayers.torch import Mixer

PATIENCE: Final = 10
"""Training batches that may pass before the first mixed forward."""


class Watch:
    """One fit's mixing, batch after batch.

    Args:
        mixer: The mixer.
        net: What should have been called, for the error.
        way_out: What to do about it, for the error.
    """

    def __init__(self, mixer: Mixer, net: str, way_out: str) -> None:
        self._mixer, self._net, self._way_out = mixer, net, way_out
        self._batches = self._steps = self._start = 0
        self._before: dict[str, int] = {}

    def after_batch(self) -> bool:
        """Whether the training batch ran a forward that was to be mixed.

        Raises:
            MixingError: If none of the first batches did.
        """
        self._batches += 1
        before, self._steps = self._steps, self._mixer.history.steps
        if self._batches == PATIENCE:
            self._check()
        return self._steps > before

    @property
    def lam(self) -> float:
        """The original sample's share in the last label; the batch's mean."""
        last = self._mixer.history.last
        return 1.0 if last is None else 1.0 - last.s

    def counts(self) -> dict[str, int]:
        """The epoch's forwards by layer, each place by its name, and "clean" for those that mixed nothing."""
        places = {place: place for place in self._mixer.places or ()}
        return {
            name: self._mixer.history.counts.get(layer, 0) - self._before.get(name, 0)
            for name, layer in {**places, "clean": None}.items()
        }

    def resume(self, counts: Mapping[str, int]) -> None:
        """The running epoch had these counts before; what the mixer did since (a search) does not count."""
        self._before = {}
        now = self.counts()
        self._before = {name: now.get(name, 0) - counts.get(name, 0) for name in {*now, *counts}}
        self._start = self._steps = self._mixer.history.steps

    def new_epoch(self) -> None:
        """Count from here on.

        Raises:
            MixingError: If no batch so far ran a forward that was to be mixed.
        """
        self._check()
        for name, count in self.counts().items():
            self._before[name] = self._before.get(name, 0) + count

    def _check(self) -> None:
        if self._batches and self._steps == self._start:
            raise MixingError(
                f"{self._batches} training batches went by and nothing was mixed: {self._net} was expected to be "
                f"called (itself, not its .forward), in training mode and with gradients; {self._way_out}."
            )
