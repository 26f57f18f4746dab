"""What compiled functions must know of an act beside its numbers: what is the method's own, for which shape it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

from mixlayers._core.plan.alignments import Align
from mixlayers._core.plan.blends import Blend, Weigh
from mixlayers._core.plan.noise import Jitter
from mixlayers._core.plan.plan import Act
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste
from mixlayers._core.plan.styles import Restyle

STATIC: Final[dict[type, frozenset[str]]] = {
    Blend: frozenset({"box"}),
    Weigh: frozenset(),
    Paste: frozenset({"channel_dim"}),
    Replace: frozenset(),
    Restyle: frozenset({"shape", "axes", "eps", "detached"}),
    Align: frozenset({"eps", "rounds", "channel_dim"}),
    Jitter: frozenset(),
}
"""What can be done to a feature, and which fields of each are the method's own, alike in all of its steps."""

_ZEROS: Final[dict[type, tuple[str, ...]]] = {
    Blend: ("lam",),
    Restyle: ("keep",),
    Jitter: ("multiply", "add"),
}
"""Numbers that some methods have at 0, which spares work."""


def zeros(how: Act) -> tuple[str, ...]:
    """The names of an act's numbers that are 0 in each step of its method; of a blend's lam only under a mask."""
    if isinstance(how, Blend) and how.mask is None:
        return ()
    values = {name: getattr(how, name) for name in _ZEROS.get(type(how), ())}
    return tuple(name for name, value in values.items() if isinstance(value, float) and value == 0.0)


def mask_of(act: Any) -> Any:
    """What of an act differs from point to point of the feature; None: nothing, or it says so of no partner."""
    return act.keep if isinstance(act, Weigh) else getattr(act, "mask", None)


def drawn_for(act: Any, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The shape that an act was drawn for, where it fits no feature of this one; None: it does."""
    if isinstance(act, Restyle):
        if act.shape is not None:
            return None if prod(act.shape) == prod(shape) else act.shape
        own = None if act.noise is None else tuple(act.noise.shape[1:])
    else:
        mask = mask_of(act)
        own = None if mask is None else tuple(mask.shape)
    if own is None or (
        len(own) == len(shape) and all(a in (1, size) for a, size in zip(own, shape, strict=True))
    ):
        return None
    return own
