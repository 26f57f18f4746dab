"""PyTorch's stage for the audit: a model in training mode, without chance, left as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake

from mixlayers._core.audit.host_chance import host_chance
from mixlayers._core.audit.proof import NotOnce
from mixlayers._core.audit.stage import AUDITING, After, Hooks, NotNow, Stage, Weigh, auditing
from mixlayers._core.audit.verdicts import Layer, output_tensors
from mixlayers._core.framework.tree import leaves
from mixlayers_torch._autograd import in_backward
from mixlayers_torch._framework import TORCH
from mixlayers_torch._hooks import holds_packed, joined, parts_of
from mixlayers_torch._neutral import Neutral
from mixlayers_torch._untouched import Untouched, has_lazy, own_leaves


class TorchStage(Stage):
    """One model's."""

    framework = TORCH

    def __init__(self, model: nn.Module) -> None:
        if torch._C._are_functorch_transforms_active():
            raise NotNow(
                "a model cannot be audited inside of torch.func's transforms: give an example, wrap(model, "
                "example=images)."
            )
        self.model, self.modules = model, self.named(model)
        self._untouched = Untouched(model)

    def named(self, model: nn.Module) -> dict[str, nn.Module]:
        """The model, by the name "", and its layers."""
        return dict(model.named_modules())

    def described(self, module: nn.Module) -> Layer:
        """A layer's own columns of the report."""
        weighted = any(p.ndim > 1 for p in module.parameters())
        return Layer(type(module).__name__, weighted, leaf=not any(True for _ in module.children()))

    def entry(self) -> Any:
        return self.model.forward

    def settle(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let lazy modules draw their parameters, as in any first forward: those draws count.

        Raises:
            ValueError: If one of them does not run here.
        """
        if not has_lazy(self.model):
            return
        modes = [(m, m.training) for m in self.model.modules()]
        try:
            with auditing(), self._untouched.run(), torch.no_grad():
                for module, _ in modes:
                    module.training = False
                self.model(*args, **kwargs)
        finally:
            for module, mode in modes:
                module.training = mode
        self._untouched = Untouched(self.model)
        if has_lazy(self.model):
            raise ValueError(
                "the model has lazy layers that did not run in eval mode, so that their parameters would be drawn "
                "while the model is audited, without chance: call it once in training mode before it is wrapped."
            )

    def on(self, hooks: Hooks) -> AbstractContextManager[None]:
        """Around a forward: the interventions."""
        return hooks.on(self.modules, "register_forward_hook", in_backward)

    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, uniform: float
    ) -> Any:
        with (
            self.on(hooks),
            self.quiet((args, kwargs), size, uniform),
            torch.no_grad(),
        ):
            return self.model(*args, **kwargs)

    def gradients(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, weigh: Weigh
    ) -> list[npt.NDArray[Any]]:
        with (
            own_leaves(self.model) as parameters,
            self.on(hooks),
            self.quiet((args, kwargs), size),
        ):
            with torch.enable_grad(), unseen():
                output = self.model(*args, **kwargs)
                wanting = [x for x in output_tensors(TORCH, output) if x.requires_grad]
                weights = [torch.from_numpy(weigh(tuple(x.shape))).to(x.device, x.dtype) for x in wanting]
            if wanting:
                torch.autograd.backward(wanting, weights)
        return [self.array(p.new_zeros(p.shape) if p.grad is None else p.grad) for p in parameters]

    @contextmanager
    def quiet(self, inputs: Any, size: int, uniform: float = 0.5) -> Iterator[None]:
        """Around one forward.

        Args:
            inputs: What the model is called with.
            size: Samples in it.
            uniform: What uniform random numbers are.
        """
        given = [x for x in leaves(inputs) if isinstance(x, Tensor)]
        devices = {x.device for x in given if x.device.type == "cuda"}
        half = any(x.is_floating_point() and x.itemsize < 4 for x in given)
        neutral = Neutral(uniform, self._untouched.before_writing)
        cached = torch.is_autocast_cache_enabled()
        try:
            with ExitStack() as stack:
                stack.enter_context(auditing())
                chance = stack.enter_context(host_chance(size, uniform))
                stack.enter_context(torch.random.fork_rng(list(devices)))
                stack.enter_context(self._untouched.run())
                # FSDP2 would take the gradients of autocast's kept copies of weights a step too late
                torch.set_autocast_cache_enabled(False)
                if not half:  # rounding would hide what is small
                    for kind in filter(torch.amp.is_autocast_available, {x.device.type for x in given}):
                        stack.enter_context(torch.autocast(kind, enabled=False))
                if "torch._dynamo" in sys.modules:  # a part that is compiled by itself is not compiled again
                    stack.enter_context(torch.compiler.set_stance("force_eager"))
                stack.enter_context(neutral.without_chance())
                yield
        finally:
            torch.set_autocast_cache_enabled(cached)
            self.groups += tuple(group for group in neutral.groups if group not in self.groups)
        self.chooses = self.chooses or neutral.chooses or chance.chooses

    def parts(self, name: str, output: Any, batch_dim: int) -> tuple[list[tuple[Any, int]], After]:
        module = self.modules[name]
        if holds_packed(output):
            raise NotOnce("returns a PackedSequence, which has no batch axis")
        return parts_of(module, output, batch_dim), partial(joined, module)

    def has_values(self, x: Tensor) -> bool:
        return x.device.type != "meta" and not is_fake(x)

    def array(self, x: Tensor) -> npt.NDArray[Any]:
        x = x.detach()
        if x.is_floating_point():
            x = x.double()
        return x.resolve_conj().cpu().numpy()

    def take(self, x: Tensor, index: npt.NDArray[np.int64], axis: int) -> Tensor:
        x = x if AUDITING.get() else x.detach()
        return x.index_select(axis, torch.from_numpy(index.copy()).to(x.device))

    def several(self, x: Tensor, count: int, axis: int) -> Tensor:
        rows = x.detach().movedim(axis, 0)
        more = [
            rows.reshape(len(rows), -1).roll(by, 1).view(rows.shape) for by in range(-(-count // len(rows)))
        ]
        return torch.cat(more)[:count].movedim(0, axis).contiguous()


def unseen() -> AbstractContextManager[Any]:
    """Around a forward with gradients: an activation checkpoint around the model sees nothing of it.

    The innermost hooks on saved tensors win; detached, since a node that holds its own output would never be freed, nor
    the model with it.
    """
    return torch.autograd.graph.saved_tensors_hooks(Tensor.detach, lambda x: x)
