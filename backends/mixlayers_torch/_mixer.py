"""The mixer of a torch.nn.Module."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import nn

from mixlayers._core.audit.stage import Stage
from mixlayers._core.audit.trial import Trial
from mixlayers._core.errors import refuse
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.mixer import BaseMixer
from mixlayers._core.model.passes import Call, Pass, running
from mixlayers._core.plan.plan import MixPlan
from mixlayers_torch._agree import check_rank, largest_over_processes, several
from mixlayers_torch._audit import put_on_trial
from mixlayers_torch._autograd import AUTOGRAD
from mixlayers_torch._framework import TORCH
from mixlayers_torch._hooks import (
    Close,
    Enter,
    Leave,
    Masked,
    Place,
    Unmasked,
    check_wrappable,
    eagerly,
    holds_packed,
    keep_in_copies,
    original,
)
from mixlayers_torch._stage import TorchStage
from mixlayers_torch._traced import STALE, Retrace, Traced, TracedMixer, forget_graphs


class Mixer(TracedMixer):
    __doc__ = BaseMixer.__doc__

    _framework = TORCH
    _autograd = AUTOGRAD
    _rank_fits = False  # whether the processes were seen to have plans as their batches are

    def _attach(self, model: nn.Module, places: tuple[str, ...] | None) -> None:
        super()._attach(model, places)
        if places:
            forget_graphs(original(model))

    def _enter(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        args, kwargs = super()._enter(model, args, kwargs)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            call = running(self._session)
            self._traced = Traced.of(self, None if call is None else call.mixed.plan)
        return args, kwargs

    def target_for(self, target: Any, output: Any = None) -> MixedTarget:
        if torch.compiler.is_dynamo_compiling():  # a criterion that is compiled
            found: MixedTarget = eagerly(super().target_for, target, output)
            return found
        return super().target_for(target, output)

    def _watch(self, output: Any, call: Call, carried: bool) -> None:
        super()._watch(output, call, carried)
        if "torch._dynamo" in sys.modules:
            for x in filter(AUTOGRAD.wants_gradient, TORCH.tensors([output])):
                x.register_hook(Retrace(self, call.mixed.plan))

    def _not_run_hint(self) -> str:
        return STALE if "torch._dynamo" in sys.modules else ""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_traced": None}

    def _check_wrappable(self, model: nn.Module) -> None:
        check_wrappable(model)

    def _named_layers(self, model: nn.Module) -> dict[str, nn.Module]:
        return {name: module for name, module in original(model).named_modules() if name}

    def _inner(self, model: nn.Module) -> nn.Module:
        return original(model)

    def _training(self, model: nn.Module) -> bool:
        return model.training

    def _mix(
        self, tree: Any, plan: MixPlan, mixed: Pass, batch_dim: int | None = None, part: int = 0
    ) -> tuple[Any, Any]:
        if holds_packed(tree):
            _refuse_packed(f"at {plan.place!r}")
        return super()._mix(tree, plan, mixed, batch_dim, part)

    def _draw(
        self, mixed: Pass, model: nn.Module, args: Any, kwargs: Any, target: MixedTarget | None
    ) -> None:
        if not self._rank_fits:
            check_rank(original(model), given=isinstance(self._session.rank, partial))
            self._rank_fits = True
        try:
            super()._draw(mixed, model, args, kwargs, target)
        except ValueError:
            if holds_packed((args, kwargs)):
                _refuse_packed("as the model's input")
            raise

    def _hook_model(self, model: nn.Module) -> None:
        Enter(model, self)
        Leave(model, self)
        Close(model, self)
        keep_in_copies(model)

    def _hook_layer(self, layer: nn.Module, name: str) -> None:
        Place(layer, self, name)

    def _hook_mask(self, layer: nn.Module, name: str) -> None:
        Masked(layer, self, name)
        Unmasked(layer, self, name)

    def _audit(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        return put_on_trial(original(model), args, kwargs, self.batch_dim, self._padding.masked, self._worst)

    def _stage(self, model: nn.Module) -> TorchStage:
        return TorchStage(original(model))

    def _alone(self) -> bool:
        return not several()

    def _worst(self, stage: Stage) -> Callable[[float], float]:
        return largest_over_processes(stage.model, groups=stage.groups)


def _refuse_packed(where: str) -> NoReturn:
    refuse(
        f"a PackedSequence {where} has no batch axis, and its samples end at different steps",
        "mix before packing or after pad_packed_sequence: put either into a module of its own, inside the "
        "wrapped model, and name it in layers=",
    )
