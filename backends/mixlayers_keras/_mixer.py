"""The mixer of a Keras model: fit, train_on_batch and train_step mix."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from types import MethodType
from typing import Any, Final

import keras
import numpy as np

from mixlayers import Method, MixedTarget, MixingError, MixPlan
from mixlayers._core.audit.places import Layers, named_places
from mixlayers._core.audit.report import Audit
from mixlayers._core.documents import add_arguments
from mixlayers._core.errors import refuse
from mixlayers._core.model.judge import Trust
from mixlayers._core.model.mixer import check_unwrapped
from mixlayers._core.model.planner import PlannedMixer, Planner
from mixlayers._core.model.wrapping import Wrapping
from mixlayers._core.plan.plan import INPUT
from mixlayers_keras._collate import channel_dim as default_channel_dim
from mixlayers_keras._elsewhere import checked_call, restore_call
from mixlayers_keras._engine import ENGINE, Planned, Seen
from mixlayers_keras._layers import acting, layers_of
from mixlayers_keras._loss import blend_losses, restore_losses
from mixlayers_keras._masks import handed_on
from mixlayers_keras._step import Step

_MIXER: Final = "_mixlayers"
_SHADOWED: Final = ("make_train_function", "train_step")


class Mixer(PlannedMixer):
    """Mixes a Keras model while it is trained: by fit, by train_on_batch, by a train_step of its own.

    The model keeps its class, its layers, its variables and their names; `save` writes what it always did. Evaluation,
    prediction and validation inside fit are not mixed. Loss functions of `compile` are blended, and sample and class
    weights go with the labels; metrics compare with each sample's own label. `unwrap(model)` takes it off.

    Args:
        model: A keras.Model: functional, sequential or subclassed.
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix. "auto": the input and the ends of stages 1 and 2 of four, chosen among
            true mixing points. "stages": the input and the ends of all stages. Or names ("block.conv" is the layer
            "conv" of the layer "block"), globs, compiled regular expressions, layer types, layers, a predicate
            `(name, layer) -> bool`, "input", or a sequence of these.
        example: What the model takes as x, to choose or check the layers at once. None: they are where the model's
            inputs are known and floating-point, else with the first training batch.
        seed: The run's seed.
        rank: The process's number; None: the backend's own. Equal ranks draw equal plans.
        channel_dim: 1 or -1: where CutMix and PatchUp find channels; None: as `keras.config.image_data_format()` says.
        trust: Whether named layers that part of the features goes round are taken as they are; or the names of those.
        keep: Names of entries of x that are no features and are not mixed.

    Attributes:
        history: What each step did (layer, lam, share), and how often each layer was mixed.

    Raises:
        TypeError: If the model is no keras.Model.
        ValueError: If the layers match nothing, or are no true mixing points; if the model is wrapped already; if the
            method is one that Keras' backend does not carry out.
    """

    def __init__(
        self,
        model: keras.Model,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any = None,
        seed: int = 0,
        rank: int | None = None,
        channel_dim: int | None = None,
        trust: Trust = False,
        keep: Collection[str] = (),
    ) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"a model is a keras.Model, got {type(model).__name__}: put layers into one.")
        if keras.config.is_nnx_enabled():
            raise ValueError(
                "Keras' NNX mode was not tried: leave KERAS_NNX_ENABLED out, or take mixlayers.nnx for Flax's models."
            )
        check_unwrapped((name, _mixer_of(layer)) for name, layer in [("", model), *layers_of(model).items()])
        self._planner = Planner(ENGINE.framework, method, seed, rank)
        ENGINE.check_method(self.method)
        self.channel_dim = default_channel_dim() if channel_dim is None else channel_dim
        self.keep = frozenset(keep)
        self._layers, self._trust = layers, [trust] if isinstance(trust, str) else trust
        self._seen: Seen | None = None
        self._steps: list[Step] = []  # that are being made
        x = _inputs_of(model) if example is None else example
        if x is not None:
            self._settle(model, x)
        elif model.built:
            named_places(self.method, layers, layers_of(model))  # what they name is known already
        object.__setattr__(model, _MIXER, self)
        for name, function in zip(_SHADOWED, (_make_train_function, _train_step), strict=True):
            object.__setattr__(model, name, MethodType(function, model))
        object.__setattr__(model, "call", checked_call(model))
        model.train_function = None

    @property
    def audit(self) -> Audit | None:
        """The report on the model's layers; None until a batch has told."""
        return None if self._seen is None else self._seen.report

    def target(self, y: Any) -> MixedTarget:
        """The labels of a step, for a train_step or compute_loss of your own.

            target = mixlayers.keras.get_mixer(self).target(y)
            loss = target.blend(lambda y: keras.ops.mean(my_loss(y, y_pred)))

        Args:
            y: Labels of the batch that a training step was given, all or some, in containers as you like: the very
                tensors, by which the step is found. Outside of a step labels come back plain, as in an evaluation.

        Raises:
            MixingError: If the model has not been called yet in this step; if not all of the labels are the batch's.
        """
        step = self._step_of(y)
        if step is None and y is not None and any(each.here for each in self._steps):
            refuse(
                "the labels are not the tensors of the step's batch, and would stay plain where the features are mixed",
                "give the batch's own, and make of them what the loss takes inside of target.blend; for other labels "
                "call the loss itself",
            )
        return MixedTarget(y) if step is None else step.target(y)

    def _step_of(self, y: Any) -> Step | None:
        """The step whose batch holds these labels; None: no step's does."""
        return next((step for step in tuple(self._steps) if step.holds(y)), None)

    def _settle(self, model: keras.Model, x: Any, state: Any = None) -> Seen:
        """Choose the places, or check those that were named."""
        layers = layers_of(model)
        named = named_places(self.method, self._layers, layers)
        asked = self._layers if named is None else tuple(place for place in named if not self._trusts(place))
        seen = ENGINE.look(model, ENGINE.tensors(x), asked, self.method, state)
        self._planner.choose(self._layers, layers, seen.report, self._trust, input_is_true=seen.whole_input)
        self._seen, self._modules, self._masks = seen, layers, handed_on([model, *layers.values()])
        return seen

    def _trusts(self, place: str) -> bool:
        return self._trust if isinstance(self._trust, bool) else place in self._trust

    def planned(self, model: keras.Model, data: Any, state: Any = None) -> Planned:
        """A batch with the next plan. For backends."""
        data = ENGINE.tensors(data)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        seen = self._seen or self._settle(model, x, state)
        size = next(leaf.shape[0] for leaf in keras.tree.flatten(x) if leaf is not None)
        core = self._planner.draw(size, y)
        plan = ENGINE.plan(core, seen.shapes, self.channel_dim, self._planner)
        if ENGINE.knows_shares:
            self._note(core, plan)
        return Planned(data, plan)

    def _note(self, core: MixPlan, plan: Any) -> None:
        self._planner.note(core, plan.s if np.ndim(plan.s) else float(plan.s))

    def run(self, model: keras.Model, *args: Any) -> Any:
        """One training step, of what the model's own train_step takes, the batch last. For backends."""
        *state, data = args
        if not isinstance(data, Planned):
            data = self.planned(model, data)
        if any(step.here for step in self._steps):
            raise MixingError(
                "a training step was begun inside of another one of the same model, whose layers it would share: train "
                "with each batch by itself, one after the other."
            )
        step = Step(data)
        acts = {
            self._modules[place]: partial(step.mixed, place)
            for place in ENGINE.places(step.plan)
            if place != INPUT
        }
        blend_losses(model, self._step_of)
        self._steps.append(step)
        try:
            with acting(acts, self._masks if acts else {}):
                result = type(model).train_step(model, *state, step.input(self.keep))
        finally:
            self._steps.remove(step)
        step.check_used()
        if not ENGINE.knows_shares:
            self._note(step.plan.core, step.plan)
        return result


def wrap(model: Any, method: Method | None = None, layers: Layers = "auto", **options: Any) -> Any:
    """Let a model mix in training, and return it; its mixer is `get_mixer(model)`.

        model = mixlayers.keras.wrap(model, ManifoldMixup())
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        model.fit(images, labels)

    Evaluation, prediction and the validation inside fit are not mixed.
    """
    Mixer(model, method, layers, **options)
    return model


add_arguments(wrap, Mixer)


def _make_train_function(model: Any, force: bool = False) -> Any:
    if model.train_function is not None and not force:
        return model.train_function
    ENGINE.check_compiled(model)
    # jax.jit has at hand what it compiled for the very same function, with the loss of an earlier compile()
    object.__setattr__(model, "train_step", MethodType(_train_step, model))
    type(model).make_train_function(model, force)
    planned = partial(_mixer_of(model).planned, model)
    model.train_function = ENGINE.planning(model.train_function, planned)
    return model.train_function


def _train_step(model: Any, *args: Any) -> Any:
    return _mixer_of(model).run(model, *args)


def _mixer_of(model: Any) -> Any:
    return vars(model).get(_MIXER)


def _restore(model: Any, mixer: Mixer) -> None:
    for name in (_MIXER, *_SHADOWED):
        object.__delattr__(model, name)
    restore_call(model)
    restore_losses(model)
    model.train_function = None


def _inputs_of(model: keras.Model) -> Any:
    """Something like what a model takes, where its inputs tell all of it, and are floating-point."""
    symbols = getattr(model, "inputs", None)
    if not symbols:
        return None
    struct = symbols[0] if isinstance(model, keras.Sequential) else model.input
    known = all(
        keras.backend.is_float_dtype(x.dtype) and None not in x.shape[1:] for x in keras.tree.flatten(struct)
    )
    rng = np.random.default_rng(0)

    def example(x: Any) -> Any:
        return rng.standard_normal((x.shape[0] or 4, *x.shape[1:]), dtype=np.float32)

    return keras.tree.map_structure(example, struct) if known else None


_wrapping = Wrapping(Mixer, _mixer_of, _restore)
unwrap, get_mixer = _wrapping.unwrap, _wrapping.get_mixer
