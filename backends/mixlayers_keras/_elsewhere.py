"""Calls of a wrapped model in the training step of another one, which would not mix."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute

from mixlayers._core.errors import refuse


def checked_call(model: keras.Model) -> Callable[..., Any]:
    """A wrapped model's `call`, which raises MixingError in another model's training step."""
    call = model.call

    @wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        trained = None if _in_evaluation(kwargs.get("training")) else _trained()
        if trained is not None and trained is not model:
            refuse(
                f"the wrapped model {model.name!r} was called in a training step of {trained.name!r}, "
                "and only its own steps mix",
                "unwrap it, and wrap the model that is fitted, whose layers hold its own: "
                f'layers=["{model.name}.<layer>"]; or call it with training=False',
            )
        return call(*args, **kwargs)

    return checked


def restore_call(model: keras.Model) -> None:
    """Take it back; a `call` that the model itself had, and not its class, stays."""
    call = vars(model)["call"].__wrapped__
    object.__delattr__(model, "call")
    if model.call != call:
        object.__setattr__(model, "call", call)


def _in_evaluation(given: bool | None) -> bool:
    """Whether a call is told so, or the call that it is in; neither is where Keras on JAX trains what holds it."""
    context = get_global_attribute("current_call_ctx")
    return (getattr(context, "training", None) if given is None else given) is False


def _trained() -> keras.Model | None:
    """The model whose training step this thread is in: the innermost one's."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "train_step" and frame.f_code.co_argcount:
            model = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(model, keras.Model):
                return model
        frame = frame.f_back
    return None
