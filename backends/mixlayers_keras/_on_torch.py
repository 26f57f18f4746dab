"""Keras on PyTorch: a plan is carried out while the layers run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from torch import Tensor, nn, no_grad

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.stage import Hooks
from mixlayers._core.audit.trial import Trial
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.batch.mix import check_length, mix_tree, mixed_target, refuse_unmixable
from mixlayers._core.model.planner import Planner
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Shares
from mixlayers_keras._engine import Engine, Planned, Seen
from mixlayers_keras._layers import acting, build, described, layers_of, training
from mixlayers_keras._masks import give_mask, handed_on, mask_of
from mixlayers_torch._audit import put_on_trial
from mixlayers_torch._autograd import in_backward
from mixlayers_torch._framework import TORCH
from mixlayers_torch._loss import binary_cross_entropy, cross_entropy
from mixlayers_torch._stage import TorchStage


class Eager:
    """A step's plan, carried out as features come.

    Attributes:
        core: The plan.
        shares: The partner's share in each mixed feature, with its shape; empty before the place has run.
    """

    def __init__(self, core: MixPlan, channel_dim: int) -> None:
        self.core, self.channel_dim = core, channel_dim
        self.shares: Shares = ()
        self._partners: dict[str, Any] = {}

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed, and their labels."""
        return self.core.mixes

    @property
    def s(self) -> Lam:
        """The partner's share in the label."""
        return self.core.label_share(self.shares) if self.shares else 0.0

    def partners(self, place: str) -> Any:
        """Those of a place."""
        if place not in self._partners:
            own = self.core.at(place) or self.core
            self._partners[place] = TORCH.partners(own.perm)
        return self._partners[place]

    def mixed(self, place: str, x: Any, keep: Sequence[str] = ()) -> Any:
        """What a layer returns, mixed if the plan acts there."""
        own = self.core.at(place)
        if own is None:
            return x
        mixed, shares = mix_tree(TORCH, x, own, self.partners(place), 0, self.channel_dim, keep)
        if not shares:
            refuse_unmixable(TORCH, own.batch_size, place, x, "let the batch axis be the first")
        if place == self.core.place:
            self.shares = shares
        return mixed


class OnTorch(Engine):
    """PyTorch."""

    framework = TORCH
    knows_shares = False
    cross_entropy = staticmethod(cross_entropy)
    binary_cross_entropy = staticmethod(binary_cross_entropy)

    def check_compiled(self, model: keras.Model) -> None:
        if model.jit_compile:
            raise ValueError(
                "compile(jit_compile=True) has PyTorch compile the training step, which would keep its first plan: "
                "leave it out, as Keras' own default for PyTorch does; or run Keras on JAX, whose steps are compiled."
            )

    def look(
        self, model: keras.Model, x: Any, asked: str | Sequence[str], method: Method, state: Any = None
    ) -> Seen:
        trial = _trial(model, x)
        if isinstance(asked, str):
            trial.choose(asked, partners=method.mixes_labels)
        elif method.mixes_labels:
            trial.prove(place for place in asked if not trial.reason(place))
        report = trial.told(lenient=not isinstance(asked, str))
        whole = report.float_input and not trial.experiment.goes_unmixed()
        return Seen(report, whole, {})

    def audit(self, model: keras.Model, x: Any) -> Audit:
        return _trial(model, x).report()

    def plan(
        self, core: MixPlan, shapes: Mapping[str, tuple[int, ...]], channel_dim: int, planner: Planner
    ) -> Eager:
        return Eager(core, channel_dim)

    def places(self, plan: Eager) -> Sequence[str]:
        return plan.core.places

    def partners(self, plan: Eager, place: str) -> Any:
        return plan.partners(place)

    def target(self, y: Any, plan: Eager) -> MixedTarget:
        if not plan.mixes:
            return MixedTarget(y)
        check_length(TORCH, y, plan.core.batch_size)
        partners = plan.partners(plan.core.place or "")
        return mixed_target(TORCH, y, plan.core, partners, plan.shares, plan.channel_dim)

    def planning(self, function: Callable[..., Any], planned: Callable[..., Planned]) -> Callable[..., Any]:
        return lambda data: function([planned(batch) for batch in data])

    def in_backward(self) -> bool:
        return in_backward()

    def tensors(self, data: Any) -> Any:
        def tensor(leaf: Any) -> Any:
            return leaf if leaf is None else keras.ops.convert_to_tensor(leaf)

        return keras.tree.map_structure(tensor, data)


def _trial(model: keras.Model, x: Any) -> Trial:
    with no_grad():
        build(model, x)
    return put_on_trial(KerasStage(model), (x,), training(model), 0)


class KerasStage(TorchStage):
    """One Keras model's."""

    def named(self, model: nn.Module) -> dict[str, nn.Module]:
        return {"": model, **layers_of(model)}

    def described(self, module: nn.Module) -> Layer:
        return described(module)

    def entry(self) -> Any:
        return self.model.call

    @contextmanager
    def on(self, hooks: Hooks) -> Iterator[None]:
        actions = {self.modules[name]: after for name, after in hooks.after.items()}
        with acting(actions, handed_on(self.modules.values())):
            yield

    def take(self, x: Tensor, index: npt.NDArray[np.int64], axis: int) -> Tensor:
        taken, mask = super().take(x, index, axis), mask_of(x)
        if mask is not None:  # a padding mask goes with what it is for
            give_mask(taken, super().take(mask, index, 0), like=x)
        return taken


ENGINE: Final = OnTorch()
