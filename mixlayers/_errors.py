"""The one error of a mixed step that cannot be trusted."""

from __future__ import annotations


class MixingError(RuntimeError):
    """A step's features and labels would not have been mixed alike, so the step was refused.

    The model is left as it was: no hook stays armed, and the next forward starts afresh.
    """
