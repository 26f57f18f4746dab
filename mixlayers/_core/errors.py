"""The one error of a mixed step that cannot be trusted."""

from __future__ import annotations

from typing import NoReturn


class MixingError(RuntimeError):
    """A step's features and labels would not have been mixed alike, so the step was refused.

    The model is left as it was: no hook stays armed, and the next forward starts afresh.
    """


def refuse(what: str, way_out: str) -> NoReturn:
    """Raise a MixingError that says what is wrong and what to do about it."""
    raise MixingError(f"{what}: {way_out}.")
