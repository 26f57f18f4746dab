"""Who knew a model before its norms were converted: updaters that have copies of it."""

from __future__ import annotations

from typing import Any

import chainer
from chainer import Parameter
from chainer.training.updaters import ParallelUpdater

from mixlayers._core.iebn import Holder, is_copy, warn_of_holders


def warn(model: chainer.Link, added: list[Parameter]) -> None:
    """Warn of updaters with a copy of the model from before the conversion; optimizers mark parameters themselves.

    Args:
        model: After the conversion.
        added: The new parameters.
    """
    old = _arrays(model, {id(parameter) for parameter in added})

    def role(thing: Any) -> Holder | None:
        if not issubclass(type(thing), ParallelUpdater):
            return None
        copies = (_arrays(each, set()) for each in thing._models.values() if each is not model)
        return "copy" if any(is_copy(copy, old, _same) for copy in copies) else None

    warn_of_holders(role, len(added), "", stacklevel=5)


def _arrays(model: chainer.Link, without: set[int]) -> dict[str, Any]:
    named = model.namedparams(include_uninit=False)
    return {name: each.array for name, each in named if id(each) not in without}


def _same(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())
