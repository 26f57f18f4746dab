"""A model's state, put back to the bit after a forward that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.nn.parameter import is_lazy

from mixlayers._core.audit.attributes import kept_attributes, put_back
from mixlayers._core.framework.tree import leaves

_TINY: Final = 1e-3


class Untouched:
    """Runs of one model that leave no trace: buffers, parameters, attributes, versions and modes.

    While a run lasts, the model works on copies of its buffers; a parameter is copied when an operation is about to
    write to it, and put back. Parameters that are nearly zero, which hide a path (a LayerScale, a last norm that
    starts at zero), are noise for the time.
    """

    def __init__(self, model: nn.Module) -> None:
        # what has no size yet gets it in `settle`, as in any first forward
        self.modules = [m for m in model.modules() if not _is_lazy(m)]
        plain = [p for p in model.parameters() if type(p) is nn.Parameter and p.numel()]  # not a lazy one
        self.parameters = [(p, p.data) for p in plain if type(p.data) is Tensor]
        self.noise = _noise([p for p, _ in self.parameters])
        self.modes = [(m, m.training) for m in model.modules()]
        self.trains = model.training
        self._written: dict[int, tuple[Tensor, Tensor, int]] = {}
        self._watched: dict[int, list[Tensor]] = {}

    def before_writing(self, x: Tensor) -> None:
        """An operation is about to write to a tensor."""
        memory = _memory(x)
        for own in self._watched.get(memory, ()) if memory else ():
            if id(own) not in self._written:
                self._written[id(own)] = own, own.detach().clone(), own._version

    @contextmanager
    def run(self) -> Iterator[None]:
        """Around one forward, which is in training mode."""
        attributes = [(vars(m), kept_attributes(m)) for m in self.modules]
        buffers = [(m, dict(m._buffers)) for m in self.modules if type(m._buffers) is dict]
        tensors: list[Tensor] = [p for p, _ in self.parameters]
        tensors += [x for _, own in buffers for x in own.values() if x is not None]
        tensors += [x for _, (own, _) in attributes for x in leaves(own) if isinstance(x, Tensor)]
        for x in tensors:
            memory = _memory(x)
            if memory:
                self._watched.setdefault(memory, []).append(x)
        try:
            copies: dict[int, Tensor] = {}
            for module, own in buffers:
                for name, buffer in own.items():
                    if buffer is not None:
                        module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            if not self.trains:  # else each module keeps its own: a frozen norm is in eval mode
                for module, _ in self.modes:
                    module.training = True
            for p, noise in self.noise:
                p.data = noise
            yield
        finally:
            for module, own in buffers:
                module._buffers.clear()
                module._buffers.update(own)
            for p, data in self.parameters:
                if p.data_ptr() != data.data_ptr():
                    p.data = data
            for written, old, version in self._written.values():
                written.data.copy_(old)  # by .data, which counts no version
                torch._C._autograd._unsafe_set_version_counter((written,), (version,))
            self._written.clear()
            self._watched.clear()
            for now, kept in attributes:
                put_back(now, *kept)
            for module, mode in self.modes:
                module.training = mode


@contextmanager
def own_leaves(model: nn.Module) -> Iterator[list[Tensor]]:
    """The model on leaves that share its parameters' memory: a backward pass leaves gradients in them alone."""
    before = [(m, dict(m._parameters)) for m in model.modules() if type(m._parameters) is dict]
    leaves_of: dict[int, Tensor] = {}
    try:
        for module, own in before:
            for name, p in own.items():
                if p is not None and p.requires_grad:
                    made = leaves_of.setdefault(id(p), nn.Parameter(p.detach()))
                    module._parameters[name] = made  # type: ignore[assignment]  # it is a parameter
        yield list(leaves_of.values())
    finally:
        for module, own in before:
            module._parameters.clear()
            module._parameters.update(own)


def has_lazy(model: nn.Module) -> bool:
    """Whether something in the model gets its size in the first forward."""
    return any(map(_is_lazy, model.modules()))


def _is_lazy(module: nn.Module) -> bool:
    held = (*module._parameters.values(), *module._buffers.values())
    return any(is_lazy(x) for x in held if x is not None)


def _noise(parameters: list[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Something to stand in for each parameter that is nearly zero."""
    numbers = [p for p in parameters if p.is_floating_point() and p.device.type != "meta" and not is_fake(p)]
    near = [p for p in numbers if not (p.detach().flatten()[:: p.numel() // 16 + 1].abs() > _TINY).any()]
    generator = torch.Generator().manual_seed(0)
    return [
        (p, (torch.randn(p.shape, generator=generator) * 0.1).to(p.device, p.dtype))
        for p in near
        if not (p.detach().abs() > _TINY).any()
    ]


def _memory(x: Tensor) -> int:
    """A tensor's address; 0 where it has none (functorch's, sparse ones, subclasses)."""
    try:
        return x.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0
