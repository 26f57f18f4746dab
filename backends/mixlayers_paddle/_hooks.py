"""The hooks that a mixer leaves on a model.

Instances of module-level classes, not closures, so that a deepcopied or pickled model carries its own mixer.
Paddle's own handles hold weak references, which cannot be copied: a hook remembers its number instead.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn.layer.layers import HookRemoveHelper

from mixlayers._core.model.mixer import check_signature, check_unwrapped
from mixlayers_paddle._autograd import AUTOGRAD
from mixlayers_paddle._static_mixer import StaticMixer

_STACKED = nn.layer.rnn.RNNBase
_RECURRENT = (_STACKED, nn.RNN, nn.BiRNN)


class Hook:
    """A hook with its number in the layer's dictionaries."""

    mixer: StaticMixer
    number: int

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process Paddle counts from 0 again, and the next hook would take this one's place."""
        vars(self).update(state)
        HookRemoveHelper.next_hook_id = max(HookRemoveHelper.next_hook_id, self.number + 1)


class Enter(Hook):
    """Before the model's forward: draw the plan, take the target, mix the input."""

    def __init__(self, model: nn.Layer, mixer: StaticMixer) -> None:
        self.mixer = mixer
        self.number = model.register_forward_pre_hook(self, with_kwargs=True)._hook_id

    def __call__(self, model: nn.Layer, args: Any, kwargs: Any = None) -> Any:
        if kwargs is None:  # paddle.jit.save calls hooks by itself, in the older way
            return self.mixer._enter(model, args, {})[0]
        return self.mixer._enter(model, args, kwargs)


class Leave(Hook):
    """After the model's forward: hand out the target."""

    def __init__(self, model: nn.Layer, mixer: StaticMixer) -> None:
        self.mixer = mixer
        self.number = model.register_forward_post_hook(self, with_kwargs=True)._hook_id

    def __call__(self, model: nn.Layer, args: Any, *kwargs_and_output: Any) -> Any:
        return self.mixer._leave((args, kwargs_and_output[:-1]), kwargs_and_output[-1])


class Close(Hook):
    """After that, also where something raised."""

    def __init__(self, model: nn.Layer, mixer: StaticMixer) -> None:
        self.mixer = mixer
        self.number = model.register_forward_post_hook(self, always_call=True)._hook_id

    def __call__(self, model: nn.Layer, args: Any, output: Any) -> None:
        self.mixer._close()


class Place(Hook):
    """After a candidate layer's forward: mix its output if the plan says so."""

    def __init__(self, layer: nn.Layer, mixer: StaticMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.number = layer.register_forward_post_hook(self)._hook_id

    def __call__(self, layer: nn.Layer, args: Any, output: Any) -> Any:
        if not paddle.in_dynamic_mode():
            return self.mixer._trace(self.name, output)
        current = self.mixer._current_plan_at(self.name)
        if current.mixed is None:
            return None
        return joined(layer, self.mixer._mix_at(current, parts_of(layer, output, self.mixer.batch_dim)))


class Masked(Hook):
    """Before the forward of a layer that takes a padding mask: the mask that fits the mixed features."""

    def __init__(self, layer: nn.Layer, mixer: StaticMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.number = layer.register_forward_pre_hook(self, with_kwargs=True)._hook_id

    def __call__(self, layer: nn.Layer, args: Any, kwargs: Any = None) -> Any:
        if kwargs is None:  # paddle.jit.save calls hooks by itself, in the older way
            return None
        return self.mixer._enter_masked(self.name, args, kwargs)


class Unmasked(Hook):
    """After that forward."""

    def __init__(self, layer: nn.Layer, mixer: StaticMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.number = layer.register_forward_post_hook(self)._hook_id

    def __call__(self, layer: nn.Layer, args: Any, output: Any) -> None:
        self.mixer._leave_masked(self.name, output)


def parts_of(layer: nn.Layer, output: Any, batch_dim: int) -> list[tuple[Any, int]]:
    """A layer's outputs, with the batch axis of each: a recurrent layer's state has one of its own."""
    if not isinstance(layer, _RECURRENT):
        return [(output, batch_dim)]
    features, state = output
    # states are stacked, layer upon layer, but for those of RNN and BiRNN, which are their cells'
    return [(features, 1 if layer.time_major else 0), (state, int(isinstance(layer, _STACKED)))]


def joined(layer: nn.Layer, parts: list[Any]) -> Any:
    """The output again."""
    return tuple(parts) if isinstance(layer, _RECURRENT) else parts[0]


def find_mixer(model: nn.Layer) -> StaticMixer | None:
    """The mixer whose hooks are on this layer itself."""
    return next((hook.mixer for hook in model._forward_pre_hooks.values() if isinstance(hook, Enter)), None)


def remove_hooks(model: nn.Layer, mixer: StaticMixer) -> None:
    """Take all hooks of the mixer off the model."""
    AUTOGRAD.resolve()
    mixer._session.attached = False
    for layer in model.sublayers(include_self=True):
        hooks = {**layer._forward_pre_hooks, **layer._forward_post_hooks}
        for number, hook in hooks.items():
            if isinstance(hook, Hook) and hook.mixer is mixer:
                for name, kept in vars(layer).items():
                    if name.startswith("_forward_p"):
                        kept.pop(number, None)


def check_wrappable(model: nn.Layer) -> None:
    """Raise unless hooks on this object will see the model's forwards, and no other mixer's are there."""
    if isinstance(model, paddle.Model):
        raise TypeError("wrap takes a paddle.nn.Layer, got Model: wrap its network, wrap(model.network).")
    if not isinstance(model, nn.Layer):
        raise TypeError(f"wrap takes a paddle.nn.Layer, got {type(model).__name__}.")
    if isinstance(model, paddle.DataParallel):
        raise TypeError(
            "wrap the model inside DataParallel, not the container: wrap(container._layers), "
            "or wrap first and parallelise afterwards."
        )
    if type(model).__name__.endswith("TranslatedLayer"):
        raise TypeError(
            "a layer from paddle.jit.load is one static program: wrap the model that it was saved from."
        )
    check_unwrapped((name, find_mixer(layer)) for name, layer in model.named_sublayers(include_self=True))
    check_signature(model, getattr(model.forward, "dygraph_function", model.forward))
