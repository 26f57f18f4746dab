"""The mixer of a JAX model: its plans, and what every library's mixer shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from mixlayers import Method, MixedTarget, MixPlan
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.batch.arguments import as_call, by_name, positional
from mixlayers._core.batch.token_masks import Share, check_share
from mixlayers._core.checks import check_names
from mixlayers._core.documents import add_arguments
from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.model.judge import Trust
from mixlayers._core.model.mixer import call_of
from mixlayers._core.model.planner import PlannedMixer, Planner
from mixlayers._core.plan.plan import INPUT
from mixlayers_jax._audit import Looked, Marks, audit_call
from mixlayers_jax._conditional import at_any, brought, check_alike, feature_shape
from mixlayers_jax._framework import JAX
from mixlayers_jax._groups import grouped
from mixlayers_jax._padding import by_tokens
from mixlayers_jax._plan import Plan
from mixlayers_jax._runs import Runs
from mixlayers_jax._target import Use, mixed_target


class Library(ABC):
    """How one library's models are looked at and called."""

    @abstractmethod
    def modules(self, model: Any) -> Mapping[str, Any]:
        """A model's layers by name, without itself."""

    def kind(self, module: Any) -> type:
        """A layer's class, as the user wrote it."""
        return type(module)

    @abstractmethod
    def described(self, model: Any, names: Collection[str]) -> Mapping[str, Layer]:
        """What the report tells of them; names: of those that ran."""

    @abstractmethod
    def marked(self, model: Any, marks: Marks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a copy of the model in training mode, with marks at all of its layers."""

    def audit(self, model: Any, example: Any, masks: Collection[str] = ()) -> Looked:
        """Judge the layers of a model by what it takes; masks: names of what tells padding."""

        def run(*args: Any, **kwargs: Any) -> Any:
            return self.marked(model, Marks(), args, kwargs)

        return audit_call(run, *call_of(example), lambda names: self.described(model, names), masks)


class BaseMixer(PlannedMixer):
    """Plans the mixing of one model on the host; the model carries a plan out inside jit.

    `plan = mixer.plan(len(y))` once a step, outside of jit, and the plan is an argument of the jitted step: a pytree.
    jit compiles once for each place. Without a plan nothing is mixed.

    Args:
        model: The model; its layers' names are found in it.
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix. "auto": the input and the ends of stages 1 and 2 of four, chosen among
            true mixing points. "stages": the input and the ends of all stages. Or names, globs, compiled regular
            expressions, layer types, a predicate `(name, layer) -> bool`, "input", or a sequence of these. Input
            methods (Mixup, CutMix) take no layers.
        example: What the model takes: an array, a tuple of positional or a dict of keyword arguments. Arrays, or their
            jax.ShapeDtypeStruct: the model is traced with it, and not run. The audit judges the layers by it, and masks
            are drawn for the shapes that it leads to.
        seed: The run's seed.
        rank: The process's number; None: jax.process_index(). Equal ranks draw equal plans.
        channel_dim: -1 or 1: where CutMix and PatchUp find channels, the batch axis being first.
        trust: Whether named layers that part of the features goes round are taken as they are; or the names of those.
        keep: Names of the input's arguments and entries that are no features and are not mixed.
        mask: Names of the arguments that hold padding masks: the example is a dict with them. They go round the places,
            and after one of them they are to be `united`.
        share: Whether the label's share counts the features that were mixed, or the real "tokens" among them, of which
            each plan is then told: `mixer.plan(len(y), lengths=lengths)`.
        one_compilation: Whether plans for all places are alike, so that one compiled function serves them, by lax.cond
            at each place. For models that compile for long, and for lax.scan over `stacked` plans.

    Attributes:
        audit: The report on the model's layers.
        history: What each plan says (layer, lam, share), and how often each layer was drawn.

    Raises:
        ValueError: If the layers match nothing, or are no true mixing points.
    """

    def __init_subclass__(cls) -> None:
        add_arguments(cls, BaseMixer)

    def __init__(
        self,
        library: Library,
        model: Any,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any,
        seed: int = 0,
        rank: int | None = None,
        channel_dim: int = -1,
        trust: Trust = False,
        keep: Collection[str] = (),
        mask: str | Collection[str] = (),
        share: Share = "features",
        one_compilation: bool = False,
    ) -> None:
        self._library = library
        self._planner = Planner(JAX, method, seed, rank)
        masks = {mask} if isinstance(mask, str) else {*mask}
        self.channel_dim, self.keep = channel_dim, frozenset(check_names("keep", keep)) | masks
        self._names = positional(model.__call__)
        self._alike = one_compilation
        self._use: Use | None = None
        self._runs = Runs()
        self._found = self._library.audit(model, example, masks)
        modules = self._library.modules(model)
        modules = {point.name: modules[point.name] for point in self.audit if point.name in modules}
        self._kinds = {name: type(module) for name, module in modules.items()}
        self._planner.choose(
            self._where(layers), modules, self.audit, trust, input_is_true=self._found.whole_input
        )
        if one_compilation:
            check_alike(self.method)
        check_share(share, self.method)
        self._by_tokens = share == "tokens"

    def _where(self, layers: Layers) -> Layers:
        """What layers="auto" means."""
        return layers

    @property
    def audit(self) -> Audit:
        """The report on the model's layers."""
        return self._found.report

    def plan(self, batch_size: int, labels: Any = None, *, lengths: Any = None, groups: int = 1) -> Plan:
        """The next step's plan, for the jitted step to take.

        Args:
            batch_size: N.
            labels: The step's labels, for pairs by class or label; NumPy's are at hand at once.
            lengths: How many real tokens each sample has, (N,), for `pairs=Near("length", ...)` and share="tokens".
            groups: Samples mix within so many groups of neighbours in the batch only: for a batch that is split over as
                many devices, between which nothing needs to be sent then. See `Plan.specs`.

        Raises:
            MixingError: If JAX is tracing, so that the plan would be the same in every step; if the last step's loss
                did not use its target.
            ValueError: If the labels or lengths are missing, or the batch does not split evenly.
        """
        self._check_used()
        if self._by_tokens and lengths is None:
            raise ValueError(
                "share='tokens' counts each sample's real tokens: mixer.plan(batch_size, lengths=lengths), got none."
            )
        if groups > 1:
            core, plan = grouped(
                self._planner, batch_size, labels, lengths, groups, self._shape, self.channel_dim
            )
        else:
            core = self._planner.draw(batch_size, labels, lengths)
            plan = brought(core, self._planner, self._found.shapes, self.channel_dim)
        if self._by_tokens:
            plan = by_tokens(plan, lengths)
        self._planner.note(core, plan.s if np.ndim(plan.s) else float(plan.s))
        if self._alike and not plan.parts:
            plan = at_any(plan, self.method, self._planner.places, self._found.shapes)
        places, shapes = self._planner.places, self._found.shapes
        known: dict[str, Any] = {
            "ranks": tuple((place, len(shapes[place])) for place in places if place in shapes),
            "beside": tuple(sorted(each for each in self._found.beside if each[0] in places)),
        }
        return replace(plan, **known, parts=tuple(replace(part, **known) for part in plan.parts))

    def target(self, y: Any, plan: Plan | None) -> MixedTarget:
        """The labels of a step, mixed as its plan mixes the features; inside jit or outside."""
        self._owe(plan)
        return mixed_target(y, plan, self._use)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._use, self._runs = None, Runs()

    def _shape(self, plan: MixPlan) -> tuple[int, ...] | None:
        return feature_shape(plan, self._found.shapes)

    def _actions(self, model: Any, plan: Plan | None) -> dict[str, Plan]:
        """Which layers of a model a plan is for.

        Raises:
            MixingError: If one of them has changed since the audit.
        """
        if plan is None:
            return {}
        modules = self._library.modules(model)
        for place in plan.reached:
            now = self._library.kind(modules[place]) if place in modules else None
            if place != INPUT and now is not self._kinds.get(place):
                was = self._kinds[place].__name__ if place in self._kinds else "not there"
                refuse(
                    f"the plan's place {place!r} is {'gone' if now is None else now.__name__}, and was {was} when the "
                    "model was audited",
                    "make a new mixer for the model as it is now",
                )
        parts = {place: plan.part(place) for place in plan.reached if place != INPUT}
        return {place: part for place, part in parts.items() if part is not None}

    def _planned(
        self, model: Any, plan: Plan | None, args: tuple[Any, ...], kwargs: dict[str, Any], target: Any
    ) -> tuple[dict[str, Plan], tuple[Any, ...], dict[str, Any]]:
        """What a plan does to a call of the model: at which layers, and the arguments, mixed if it is for the input."""
        if plan is not None and plan.mixes and target is None:
            raise ValueError(
                "a plan mixes the labels with the features: give both, target=labels, plan=plan."
            )
        actions = self._actions(model, plan)
        if plan is not None:
            mixed = plan.mixed(INPUT, by_name(self._names, args, kwargs), keep=self.keep)
            args, kwargs = as_call(mixed, len(args))
        return actions, args, kwargs

    def _running(self, actions: Collection[str], plan: Plan | None) -> AbstractContextManager[None]:
        """One call of the model, in which the layers that are mixed must run, and once."""
        return self._runs.once(actions if plan is not None and plan.mixes else (), self._found.apart)

    def _owe(self, plan: Plan | None) -> None:
        """A model is about to be traced, or run, with a plan: its target must be used."""
        if plan is not None and plan.mixes:
            self._use = self._use or Use()

    def _check_used(self) -> None:
        owed, self._use = self._use, None
        self._runs.check()
        if owed is not None and not owed.used:
            raise MixingError(
                "a step mixed the features, and its loss did not use the mixed target: blend it, "
                "target.blend(lambda y: loss(output, y)), or pass it to mixlayers.jax.cross_entropy. If the step "
                "raised before its loss, go on: this is said once, and the next call draws the plan."
            )
