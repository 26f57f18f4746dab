"""The hooks that a mixer leaves on a model.

Instances of module-level classes, not closures, so that a deepcopied or pickled model carries its own mixer.
"""

from __future__ import annotations

import copyreg
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn.utils.rnn import PackedSequence

from mixlayers._core.model.mixer import check_signature, check_unwrapped
from mixlayers_torch._traced import TracedMixer, mix_traced


class Hook:
    """What is attached to a module."""

    mixer: TracedMixer

    @property
    def __name__(self) -> str:  # of instances: torch.jit.script asks for it
        raise AttributeError(
            "a wrapped model cannot be compiled by torch.jit.script, which takes no hooks but functions: unwrap(model) "
            "first, and script what was trained; or use torch.compile, which mixes on."
        )


class Enter(Hook):
    """Before the model's forward: draw the plan, take the target, mix the input."""

    def __init__(self, model: nn.Module, mixer: TracedMixer) -> None:
        self.mixer = mixer
        self.handle = model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if torch.compiler.is_dynamo_compiling():
            return eagerly(self.mixer._enter, model, args, kwargs)
        return self.mixer._enter(model, args, kwargs)


class Leave(Hook):
    """After the model's forward: hand out the target."""

    def __init__(self, model: nn.Module, mixer: TracedMixer) -> None:
        self.mixer = mixer
        self.handle = model.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return eagerly(self.mixer._leave, (args, kwargs), output)
        return self.mixer._leave((args, kwargs), output)


class Close(Hook):
    """After that, also where something raised."""

    def __init__(self, model: nn.Module, mixer: TracedMixer) -> None:
        self.mixer = mixer
        self.handle = model.register_forward_hook(self, always_call=True)

    def __call__(self, model: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_dynamo_compiling():
            return eagerly(self.mixer._close)
        return self.mixer._close()


class Place(Hook):
    """After a candidate layer's forward: mix its output if the plan says so."""

    def __init__(self, layer: nn.Module, mixer: TracedMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.handle = layer.register_forward_hook(self)

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            how = self.mixer._traced
            if how is None or self.name not in how.group:
                return None
            if isinstance(output, Tensor) and output.is_floating_point() and not how.eager:
                return mix_traced(output, self.name, how, self.mixer.batch_dim)
            return eagerly(self._mix, layer, output)
        return self._mix(layer, output)

    def _mix(self, layer: nn.Module, output: Any) -> Any:
        current = self.mixer._current_plan_at(self.name)
        if current.mixed is None:
            return None
        return joined(layer, self.mixer._mix_at(current, parts_of(layer, output, self.mixer.batch_dim)))


class Masked(Hook):
    """Before the forward of a module that takes a padding mask: the mask that fits the mixed features."""

    def __init__(self, layer: nn.Module, mixer: TracedMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.handle = layer.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return eagerly(self.mixer._enter_masked, self.name, args, kwargs)
        return self.mixer._enter_masked(self.name, args, kwargs)


class Unmasked(Hook):
    """After that forward."""

    def __init__(self, layer: nn.Module, mixer: TracedMixer, name: str) -> None:
        self.mixer, self.name = mixer, name
        self.handle = layer.register_forward_hook(self)

    def __call__(self, layer: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_dynamo_compiling():
            return eagerly(self.mixer._leave_masked, self.name, output)
        return self.mixer._leave_masked(self.name, output)


def parts_of(layer: nn.Module, output: Any, batch_dim: int) -> list[tuple[Any, int]]:
    """A layer's outputs, with the batch axis of each: a recurrent layer's state has one of its own."""
    if not isinstance(layer, nn.RNNBase):
        return [(output, batch_dim)]
    features, state = output
    if isinstance(features, Tensor) and features.ndim < 3:  # without a batch
        return [((), 0), ((), 0)]
    return [(features, 0 if layer.batch_first else 1), (state, 1)]


def joined(layer: nn.Module, parts: list[Any]) -> Any:
    """The output again."""
    return tuple(parts) if isinstance(layer, nn.RNNBase) else parts[0]


def holds_packed(tree: Any) -> bool:
    """Whether a container holds a PackedSequence, which is a tuple of its own kind."""
    if isinstance(tree, PackedSequence):
        return True
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ()
    return any(holds_packed(item) for item in items)


@_disable_dynamo
def eagerly(f: Any, *args: Any) -> Any:
    """Call a function that torch.compile is not to look into."""
    return f(*args)


def original(model: nn.Module) -> nn.Module:
    """The model that torch.compile was given, or the model itself."""
    return getattr(model, "_orig_mod", model)


def find_mixer(model: nn.Module) -> TracedMixer | None:
    """The mixer whose hooks are on this module itself."""
    hooks = [*model._forward_pre_hooks.values(), *original(model)._forward_pre_hooks.values()]
    return next((hook.mixer for hook in hooks if isinstance(hook, Enter)), None)


def keep_in_copies(model: nn.Module) -> None:
    """Have copies and pickles of a compiled model keep its hooks, which PyTorch makes anew without any."""
    if original(model) is not model:
        copyreg.pickle(type(model), _reduced)


def _reduced(model: Any) -> tuple[Any, ...]:
    made, args = model.__reduce__()
    mixer = next((hook.mixer for hook in model._forward_pre_hooks.values() if isinstance(hook, Enter)), None)
    return (made, args) if mixer is None else (_made_and_hooked, (made, args, mixer))


def _made_and_hooked(made: Any, args: Any, mixer: Any) -> nn.Module:
    model: nn.Module = made(*args)
    mixer._hook_model(model)
    return model


def remove_hooks(model: nn.Module, mixer: TracedMixer) -> None:
    """Take all hooks of the mixer off the model."""
    mixer._session.attached = False
    for module in model.modules():
        # not by the handle: a module that takes another's place, as prepare_qat makes, has the hook under a new number
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            found: list[tuple[int, Any]] = list(hooks.items())
            for number, hook in found:
                if isinstance(hook, Hook) and hook.mixer is mixer:
                    for name, kept in vars(module).items():
                        if name.startswith("_forward_"):
                            kept.pop(number, None)


def check_wrappable(model: nn.Module) -> None:
    """Raise unless hooks on this object will see the model's forwards, and no other mixer's are there."""
    if any(kind.__module__.startswith("keras.") for kind in type(model).__mro__):
        raise TypeError(
            f"a Keras model is trained by its own fit, which this cannot see, got {type(model).__name__}: use "
            "mixlayers.keras.wrap, whose model.fit mixes."
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"wrap takes a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(
            f"wrap the model inside {type(model).__name__}, not the container: wrap(container.module), "
            "or wrap first and parallelise afterwards."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"wrap the model before it is scripted, got {type(model).__name__}: wrap mixes PyTorch's own calls."
        )
    check_unwrapped(((name, find_mixer(module)) for name, module in model.named_modules()))
    check_signature(original(model), original(model).forward)
