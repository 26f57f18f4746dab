"""The mixer: one model's mixing, through hooks on the model itself."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from mixlayers._core.audit.places import Layers, named_places
from mixlayers._core.audit.rows import Rows
from mixlayers._core.batch.arguments import positional
from mixlayers._core.batch.mix import check_length
from mixlayers._core.batch.token_masks import Mask, Share
from mixlayers._core.checks import check_names
from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.labels.loss_call import Which
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixup import ManifoldMixup
from mixlayers._core.model.criterion import mixed_loss
from mixlayers._core.model.forward import ForwardHooks
from mixlayers._core.model.history import History
from mixlayers._core.model.judge import Judge, Trust
from mixlayers._core.model.layer_hooks import Module
from mixlayers._core.model.padding import Padding
from mixlayers._core.model.passes import Pass, living
from mixlayers._core.model.recompute import note_loss
from mixlayers._core.model.scope import Scope
from mixlayers._core.model.session import Session
from mixlayers._core.plan.plan import MixPlan


class BaseMixer(ForwardHooks[Module]):
    """Mixes a model's input or hidden layers, step by step, through hooks on the model itself.

    The model keeps its type, attributes, state_dict and signature. It mixes only in training mode with
    gradients enabled, and only when asked, in one of three ways:

    - `output, target = model(images, target=labels)`
    - `with mixer(labels) as target: output = model(images)`
    - `criterion = mixer.loss(nn.CrossEntropyLoss())`: from then on every training forward mixes, and
      `criterion(output, labels)` blends with the plan of the forward that made the output.

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
        rank: The process's number; None: the framework's own. Equal ranks draw equal plans.
        batch_dim: Axis that holds the batch, in the input and the layers.
        channel_dim: 1 or -1: where CutMix and PatchUp find channels, the batch axis being first.
        mask: Name of the argument by which the model and its layers take the padding mask, (N, T) or
            (N, 1, 1 or T, T), or lengths (N,); or several names. In a mixed step what runs after the mixed
            place sees a position as real if either sample has a token there. A bool or whole number that is
            true means a real position, but an ignored one where the name ends in "padding_mask", as in
            PyTorch; `{"name": "real"}` or "ignored" says it. A float mask is added to attention scores.
        share: What the label's share counts. "tokens": the real tokens in each blend, by the mask.
        trust: Whether named layers are taken as they are; or the names of those. Else the example, or the first
            training batch, must not refute that all of a sample passes through them.
        keep: Names of the input's arguments and entries that are no features and are not mixed, such as an image's
            scale_factor.

    Attributes:
        history: What each mixed forward did (layer, lam, share), and how often each layer was mixed.

    Raises:
        ValueError: If the layers match nothing, or the model is already wrapped.
        TypeError: If the model is not a module, or is a parallel container of one.
    """

    def __init__(
        self,
        model: Module,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any = None,
        seed: int = 0,
        rank: int | None = None,
        batch_dim: int = 0,
        channel_dim: int = 1,
        mask: Mask = None,
        share: Share = "features",
        trust: Trust = False,
        keep: Collection[str] = (),
    ) -> None:
        self.method = ManifoldMixup() if method is None else method
        self.batch_dim, self.channel_dim = batch_dim, channel_dim
        self.keep = frozenset(check_names("keep", keep))
        if not isinstance(self.method, Method):
            raise TypeError(f"method must be a method such as ManifoldMixup(), got {method!r}.")
        self._check_wrappable(model)
        layers_of = self._named_layers(model)
        own_rank = self._framework.rank if rank is None else partial(int, rank)
        self._session = Session(self.method, seed, own_rank, channel_dim, share == "tokens")
        self._implicit, self.history = False, History()
        modules = {"": self._inner(model), **layers_of}
        inner: Any = modules[""]
        self._names = positional(getattr(inner, "forward", inner))
        self._padding = Padding(self._framework, self.method, mask, share, modules)
        self._rows = Rows(self._framework)
        self._judge = Judge(self, layers if isinstance(layers, str) else "auto", trust)
        places = named_places(self.method, layers, layers_of)
        if example is not None:
            places = self._judge.places(model, places, *call_of(example))
        self._attach(model, places)
        self._hook_model(model)
        for name in self._padding.masked:
            self._hook_mask(modules[name], name)

    @property
    def step(self) -> int:
        """Number of the next plan."""
        return self._session.step

    @property
    def places(self) -> tuple[str, ...] | None:
        """The places where the method may mix; None until "auto" has seen a batch."""
        return self._session.places

    @property
    def last(self) -> MixPlan | None:
        """The plan of the last forward that finished; None if it was not to be mixed."""
        return None if self._session.last is None else self._session.last.plan

    def __call__(self, target: Any) -> Scope:
        """A scope whose one forward mixes: `with mixer(labels) as target: output = model(images)`."""
        return Scope(self._session, self._target(target))

    def same_plan(self) -> AbstractContextManager[None]:
        """A block whose mixed forwards share one plan: `with mixer.same_plan():`.

        For steps that run the model more than once on one batch: SAM, the closures of LBFGS, truncated
        backpropagation through time. The first forward draws the plan, and the step counts once.
        """
        return self._session.same_plan()

    def loss(self, criterion: Any, labels: Which = None) -> Any:
        """From now on every training forward mixes, and the returned criterion blends to match.

        The output that the criterion is given tells which forward made it. Of several mixed forwards each
        output has its own plan; an output of another model, or of a forward in eval mode, gets the plain loss.

        Args:
            criterion: A loss module, or a function, of `(output, target)`, or of more, see labels. A module's
                parameters are shared. It may return several losses in a tuple, list or dict, each of which is
                blended.
            labels: Which of its arguments are labels, where there are more than two: the number of the last ones,
                labels=2 for `criterion(output, aux, y1, y2)`; or their names or positions. All labels follow the
                plan of the forward that made the other arguments.

        Returns:
            For a module an instance of its own type; for a function a callable. Called with more than two arguments
            it raises ValueError, unless labels says which are labels.
        """
        if self.method.needs_labels:
            raise ValueError(
                f"{self.method!r} decides by class or label and needs the labels when the model is called, but a "
                "criterion gets them afterwards: use model(x, target=labels) or `with mixer(labels):`."
            )
        self._implicit = True
        return mixed_loss(criterion, self, labels)

    def target_for(self, target: Any, output: Any = None) -> MixedTarget:
        """The mixed target of the forward that made an output, for labels that come with the loss. `loss` calls it.

        Args:
            target: The labels.
            output: What the model returned, or something that was computed from it; None: what the last
                forward returned.

        Raises:
            MixingError: If the output comes from several forwards that were mixed in different ways, or cannot be
                told from one that was mixed; if the wrapped model has not run.
        """
        found = self._passes(output)
        mixing = [mixed for mixed in found if mixed.mixes]
        if not mixing:
            return self._resolve(self._target(target), self._session.clean)
        if any(other.plan is not mixing[0].plan for other in found):
            refuse(
                f"this output comes from {len(found)} forwards that were not mixed alike",
                "compute a loss for each; or let them share a plan, `with mixer.same_plan():`",
            )
        check_length(self._framework, target, mixing[0].plan.batch_size if mixing[0].plan else 0)
        if mixing[0].s is None:
            refuse(
                "the loss was computed inside the model's forward, where share='tokens' is not known yet",
                "compute it from what the model returns, or leave share= out",
            )
        made = self._resolve(self._target(target), mixing[0])
        if output is None or self._trains(output):  # else it is a metric's
            for mixed in mixing:
                mixed.users.append(made)
        return made

    def _passes(self, output: Any) -> list[Pass]:
        """Where an output comes from; None: the last forward."""
        if output is None:
            found = [] if self._session.last is None else [self._session.last]
        else:
            found, segments = self._origins([output]), self._autograd.segments(gradients=True)
            found = note_loss(self._session, segments, found) if segments else found
        if any(mixed.mixes for mixed in found) or not (output is None or self._trains(output)):
            return found
        if not self._entered and all(mixed.session is not self._session for mixed in found):
            raise MixingError(
                "the loss was computed, but the wrapped model has not run, so nothing was mixed: call the very object "
                "that was wrapped (not a copy of it, nor its forward)."
            )
        hidden = (mixed.model() for mixed in living() if mixed.untagged and mixed.mixes)
        models = [model for model in hidden if isinstance(model, self._framework.module)]
        tensors, parameters = self._framework.tensors([output]), self._autograd.parameters
        own = any(self._autograd.derives_from(tensors, parameters(model)) for model in models)
        if own or (self._session.expected and not found):
            refuse(
                "this output cannot be told from one of a mixed forward",
                "return from the model what the loss takes; wrap the module that includes the loss's last layers; use "
                "model(x, target=labels) or `with mixer(labels):`; or the plain loss for what was not mixed",
            )
        return found

    def _trains(self, output: Any) -> bool:
        """Whether a loss of this output may be trained on, and is no metric."""
        wants = any(map(self._autograd.wants_gradient, self._framework.tensors([output])))
        if wants and self._autograd.grad_enabled():
            return True
        return any(segment.node is not None for segment in self._autograd.segments(gradients=True))

    def state_dict(self) -> dict[str, int]:
        """The state for a checkpoint: `{"step": n}`."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a checkpoint: the next plan is the one that an uninterrupted run would have drawn."""
        self._session.load_state_dict(state)

    def __repr__(self) -> str:
        return f"Mixer({self.method!r}, places={self.places}, step={self.step})"

    def __getstate__(self) -> dict[str, Any]:
        """A copied or pickled mixer starts with the next forward, and with no history: it has mixed nothing yet."""
        return {**vars(self), "history": History()}


def call_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as the arguments of a call: a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def check_unwrapped(mixers: Iterable[tuple[str, object]]) -> None:
    """Raise if one of a model's layers, by name, carries a mixer already; the model itself is named ""."""
    for name, mixer in mixers:
        if mixer is not None:
            where = f"its layer {name!r}" if name else "the model"
            raise ValueError(f"{where} is already wrapped by {mixer!r}: call unwrap(...) on it first.")


def check_signature(model: Any, forward: Any) -> None:
    """Raise if the model's own forward takes what `model(x, target=labels)` would hide."""
    if "target" in inspect.signature(forward).parameters:
        raise ValueError(
            f"{type(model).__name__}.forward has an argument named 'target' of its own, which "
            "model(x, target=labels) would hide: rename it, or wrap the module inside that computes the output."
        )
