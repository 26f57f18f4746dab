"""The mixer: one model's mixing, through hooks on the model itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Method, MixedTarget, MixPlan
from mixlayers._audit import Audit
from mixlayers._lam import Lam
from mixlayers._layers import INPUT, Layers, auto_layers, named_places, warn_untrue
from mixlayers._session import Session
from mixlayers._tree import leaves
from mixlayers_torch._audit import audit, audit_call
from mixlayers_torch._blend import Partners
from mixlayers_torch._hooks import Backward, Enter, Leave, Place, check_wrappable, in_backward
from mixlayers_torch._loss import mixed_loss
from mixlayers_torch._mix import (
    batch_size,
    check_length,
    class_indices,
    mix_tree,
    no_float_input,
    one_hot,
    partner_and_share,
)
from mixlayers_torch._scope import Scope

_LABEL_NAMES = frozenset({"label", "labels", "target", "targets", "y"})


class Mixer:
    """Mixes a model's input or hidden layers, step by step, through hooks on the model itself.

    The model keeps its type, attributes, state_dict and signature. It mixes only in training mode with
    gradients enabled, and only when asked, in one of three ways:

    - `output, target = model(images, target=labels)`
    - `with mixer(labels) as target: output = model(images)`
    - `criterion = mixer.loss(nn.CrossEntropyLoss())`: from then on every training forward mixes, and
      `criterion(output, labels)` blends with the plan of that forward.

    Args:
        model: Any module. Hooks are attached to it; `unwrap(model)` removes them.
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix. "auto": the input and the ends of stages 1 and 2 of four,
            chosen among true mixing points with the example, or else the first training batch. "stages":
            the input and the ends of all stages. Or names, globs, compiled regular expressions, module types,
            modules, a predicate `(name, module) -> bool`, "input", or a sequence of these. Input methods
            (Mixup, CutMix) take no layers.
        example: What the model takes (a tensor, tuple or dict), to choose or check the layers at once.
        seed: The run's seed.
        rank: The process's number; None: torch.distributed's. Equal ranks draw equal plans.
        batch_dim: Axis that holds the batch, in the input and the layers.
        channel_dim: 1 or -1: where CutMix and PatchUp find channels, the batch axis being first.

    Raises:
        ValueError: If the layers match nothing, or the model is already wrapped.
        TypeError: If the model is not a module, or is a parallel or compiled container of one.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any = None,
        seed: int = 0,
        rank: int | None = None,
        batch_dim: int = 0,
        channel_dim: int = 1,
    ) -> None:
        self.method = ManifoldMixup() if method is None else method
        self.batch_dim, self.channel_dim = batch_dim, channel_dim
        check_wrappable(model, self.method)
        self._session = Session(self.method, seed, _distributed_rank if rank is None else partial(int, rank))
        self._rule = layers if isinstance(layers, str) else "auto"
        self._implicit = False
        self._audited = not self.method.hidden
        self._start_afresh()
        places = named_places(self.method, layers, named_layers(model))
        if example is not None and not self._audited:
            places = self._audited_places(places, partial(audit, model, example, batch_dim=batch_dim))
            self._audited = True
        self._attach(model, places)
        Enter(model, self)
        Leave(model, self)

    @property
    def step(self) -> int:
        """Number of the next plan."""
        return self._session.step

    @property
    def places(self) -> tuple[str, ...] | None:
        """Where the method may mix; None until "auto" has seen a batch."""
        return self._session.places

    @property
    def last(self) -> MixPlan | None:
        """The last forward's plan; None if it was not to be mixed."""
        return self._session.plan

    def __call__(self, target: Any) -> Scope:
        """A scope whose one forward mixes: `with mixer(labels) as target: output = model(images)`."""
        return Scope(self, target)

    def loss(self, criterion: Any) -> Any:
        """From now on every training forward mixes, and the returned criterion blends with its plan.

        Args:
            criterion: A loss module, or a function, of `(output, target)`. A module's parameters are shared.

        Returns:
            For a module an instance of its own type; for a function a callable.
        """
        if self.method.needs_labels:
            raise ValueError(
                f"{self.method!r} pairs by class and needs the labels when the model is called, but a criterion "
                "gets them afterwards: use model(x, target=labels) or `with mixer(labels):`."
            )
        self._implicit = True
        return mixed_loss(criterion, self)

    def target_for(self, target: Any) -> MixedTarget:
        """The last forward's mixed target, for labels that come with the loss. `loss` calls it."""
        session = self._session
        if session.target is None or not session.target.mixed or session.plan is None:
            return MixedTarget(target, one_hot=one_hot)
        check_length(target, session.plan.batch_size)
        session.target.used = True
        return MixedTarget(target, *self._partner_and_share(target, session.s), session.plan, one_hot)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint needs: `{"step": n}`."""
        return self._session.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a checkpoint: the next plan is the one that an uninterrupted run would have drawn."""
        self._session.load_state_dict(state)

    def __repr__(self) -> str:
        return f"Mixer({self.method!r}, places={self.places}, step={self.step})"

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled mixer starts with the next forward."""
        return {**vars(self), "scope": None, "_given": None, "_moved": None, "_busy": False}

    def _start_afresh(self) -> None:
        self.scope: Scope | None = None
        self._given: tuple[Any] | None = None  # what came as target= in the running forward
        self._moved: tuple[MixPlan, Partners] | None = None
        self._busy = False

    def _partners(self, plan: MixPlan) -> Partners:
        if self._moved is None or self._moved[0] is not plan:
            self._moved = plan, Partners(plan.perm)
        return self._moved[1]

    def _partner_and_share(self, target: Any, s: Lam) -> tuple[Any, float | Tensor]:
        """`target[perm]` and the share, on the target's device, for the last forward's plan."""
        plan = self._session.plan
        if plan is None or plan.place is None:
            return target, 0.0
        return partner_and_share(target, s, self._partners(plan))

    def _audited_places(self, places: tuple[str, ...] | None, run: Callable[[], Audit]) -> tuple[str, ...]:
        """Choose the places, or check those that were named; once, with three samples in eval mode."""
        self._busy = True
        try:
            report = run()
            chosen = auto_layers(report, self._rule) if places is None else places
        except Exception as error:
            if places is None:
                raise ValueError(f"layers={self._rule!r}: {error}") from error
            return places  # they were named: every step still checks what it mixes
        finally:
            self._busy = False
        warn_untrue(report, chosen)
        return chosen

    def _attach(self, model: nn.Module, places: tuple[str, ...] | None) -> None:
        layers = named_layers(model)
        for place in places or ():
            if place != INPUT:
                Place(layers[place], self, place)
        self._session.places = places

    def _enter(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if self._busy:
            return args, kwargs
        if getattr(model, "_is_replica", False):
            raise TypeError("nn.DataParallel splits the batch under the plan: use DistributedDataParallel.")
        self._given = None
        if "target" in kwargs:
            kwargs = dict(kwargs)
            self._given = (kwargs.pop("target"),)
        plan = self._session.begin_again() if in_backward() else self._begin(model, args, kwargs)
        if plan is None or plan.place != INPUT:
            return args, kwargs
        inputs = {name: value for name, value in kwargs.items() if name not in _LABEL_NAMES}
        (args, mixed), shares = mix_tree(
            (args, inputs), plan, self._partners(plan), self.batch_dim, self.channel_dim
        )
        if not shares:
            raise ValueError(no_float_input((args, inputs)))
        self._session.mixed(INPUT, shares)
        return args, {**kwargs, **mixed}

    def _begin(self, model: nn.Module, args: Any, kwargs: Any) -> MixPlan | None:
        """Draw the plan of a forward that is to be mixed."""
        if self.scope is not None:
            self.scope.enter_forward(self._given)
        given = (self.scope.target.y,) if self.scope is not None else self._given
        if not (model.training and torch.is_grad_enabled() and (given is not None or self._implicit)):
            self._session.begin_clean()
            return None
        size = batch_size((args, kwargs), self.batch_dim)
        if given is not None:
            check_length(given[0], size)
        labels = class_indices(given[0]) if given is not None and self.method.needs_labels else None
        if not self._audited:
            known = self._session.places
            places = self._audited_places(known, partial(audit_call, model, args, kwargs, self.batch_dim))
            self._audited = True
            if known is None:
                self._attach(model, places)
        return self._session.begin(size, labels)

    def _at(self, place: str, output: Any) -> Any:
        if self._busy:
            return None
        plan = self._session.plan_at(place, in_backward=in_backward())
        if plan is None:
            return None
        mixed, shares = mix_tree(output, plan, self._partners(plan), self.batch_dim, self.channel_dim)
        self._session.mixed(place, shares)
        return mixed

    def _leave(self, output: Any) -> Any:
        if self._busy:
            return output
        given, self._given = self._given, None
        if output is None:  # the forward raised
            self._session.forget()
            return output
        s, plan = self._session.end(), self._session.plan
        # a forward that is recomputed in backward has settled its scope's target before
        scope = None if in_backward() else self.scope
        if scope is not None:
            target = scope.target
            target.settle(*self._partner_and_share(target.y, s), plan)
        elif given is not None:
            target = MixedTarget(given[0], *self._partner_and_share(given[0], s), plan, one_hot)
        else:  # the labels come later, with the loss
            target = MixedTarget(None, None, s, plan)
        if target.mixed and not in_backward():
            self._watch(output, target)
        return (output, target) if given is not None else output

    def _watch(self, output: Any, target: MixedTarget) -> None:
        """Have the target's use checked: when the output's gradient arrives, or else at the next forward."""
        tensors = [x for x in leaves(output) if isinstance(x, Tensor) and x.requires_grad]
        for x in tensors:
            x.register_hook(Backward(self._session, target))
        self._session.owe(target, seen_in_backward=bool(tensors))


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The model's modules by name, without the model itself."""
    return {name: module for name, module in model.named_modules() if name}


def _distributed_rank() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0
