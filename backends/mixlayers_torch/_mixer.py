"""The mixer of a torch.nn.Module."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from mixlayers import MixedTarget
from mixlayers._audit import Audit
from mixlayers._mixer import BaseMixer
from mixlayers_torch._audit import audit_call
from mixlayers_torch._framework import TORCH
from mixlayers_torch._hooks import Backward, Enter, Leave, Place, check_wrappable, original
from mixlayers_torch._traced import STALE, Traced, forget_graphs


class Mixer(BaseMixer[nn.Module]):
    __doc__ = BaseMixer.__doc__

    framework = TORCH

    traced: Traced | None = None
    """What the running forward does, for graphs of torch.compile to look at."""

    def _attach(self, model: nn.Module, places: tuple[str, ...] | None) -> None:
        super()._attach(model, places)
        if places:
            forget_graphs(original(model))

    def _enter(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        args, kwargs = super()._enter(model, args, kwargs)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            self.traced = Traced.of(self, self.last)
        return args, kwargs

    def _not_run_hint(self) -> str:
        return STALE if "torch._dynamo" in sys.modules else ""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "traced": None}

    def _check_wrappable(self, model: nn.Module) -> None:
        check_wrappable(model)

    def _named_layers(self, model: nn.Module) -> dict[str, nn.Module]:
        return {name: module for name, module in original(model).named_modules() if name}

    def _training(self, model: nn.Module) -> bool:
        return model.training

    def _hook_model(self, model: nn.Module) -> None:
        Enter(model, self)
        Leave(model, self)

    def _hook_layer(self, layer: nn.Module, name: str) -> None:
        Place(layer, self, name)

    def _hook_gradient(self, x: Tensor, target: MixedTarget) -> None:
        x.register_hook(Backward(self._session, target))

    def _audit(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Audit:
        return audit_call(original(model), args, kwargs, self.batch_dim)
