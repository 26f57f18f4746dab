"""A picture's subject, where a mixer is given, or the model that it is on."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from mixlayers import History, MixPlan


class Mixed(Protocol):
    """What any framework's mixer has."""

    @property
    def history(self) -> History:
        """What each step did."""

    @property
    def last(self) -> MixPlan | None:
        """The last plan."""


def mixer_of(given: Any) -> Mixed | None:
    """The mixer itself, or the one on a model; None for anything else."""
    if isinstance(getattr(given, "history", None), History):
        mixer: Mixed = given
        return mixer
    for name, face in list(sys.modules.items()):  # who wrapped a model has its face loaded
        if name.startswith("mixlayers.") and name.count(".") == 1 and hasattr(face, "get_mixer"):
            try:
                found: Mixed = face.get_mixer(given)
            except (ValueError, TypeError, AttributeError):  # of another framework, or not wrapped
                continue
            return found
    return None


def last_plan(mixer: Mixed) -> MixPlan:
    """The plan of the mixer's last forward.

    Raises:
        ValueError: If that was not to be mixed.
    """
    if mixer.last is None:
        raise ValueError(
            "the last forward was not to be mixed (it ran in eval mode, without gradients or a target, or in an "
            "audit), so that it has no plan: draw right after a training forward, or keep its target, or "
            "mixer.last, till then."
        )
    return mixer.last
