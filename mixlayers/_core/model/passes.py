"""One forward of a wrapped model: its plan, what has happened to it, and whether a loss has used it."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from enum import Enum
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import ref

from mixlayers._core.errors import refuse
from mixlayers._core.model.autograd import Autograd, Backward
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import MixPlan, Shares

if TYPE_CHECKING:
    from mixlayers._core.labels.target import MixedTarget
    from mixlayers._core.model.recompute import Notebook
    from mixlayers._core.model.scope import Scope
    from mixlayers._core.model.session import Session


class State(Enum):
    """How far a forward has come."""

    OPEN = "open"  # the model runs, the planned place has not
    FIRED = "fired"  # the planned place ran, and was mixed
    LEFT = "left"  # the model returned: the share is known, and its outputs carry the pass
    USED = "used"  # a loss found the pass by its output, or its target was read


class Pass:
    """One forward of a wrapped model. The tensors that it returns carry it; nobody else needs to keep it.

    Attributes:
        plan: What was decided; None if the forward was not to be mixed.
        of: The forward that this one runs again, in backward; None for an original one.
        model: A weak reference to the model.
        channel_dim: 1 or -1, where the features have their channels.
        thread: Where it ran.
        gradients: Whether gradients were recorded where the model was called.
        around: The notebooks of the recomputed segments that the model was called in, while it runs.
        nodes: Nodes of the graph around the call whose forward runs without gradients, while it runs.
        outer: The same of the forward of the model that the call is inside of.
        nested: The calls of the model inside this forward, in their order, for when it runs again.
        sources: The passes that the forward's inputs came from, if any of them is mixed.
        heirs: Passes without another plan whose inputs came from this one: their use is its use.
        shares: The partner's share in each mixed feature, with its shape.
        s: The partner's share of the label.
        partners: The plan's permutation, as the framework carries it out.
        target: What the labels become; with none in it where they come with the loss.
        found: Whether a loss found it.
        watched: Whether it is told of its gradient in any case, and not only where its place runs again.
        given: What came as target=, in a tuple; None: nothing.
        scope: The scope that the forward belongs to.
        features: What was mixed, while the model runs and its labels need not come from what it returns.
        masks: What the padding knows of this forward, while it runs.
        united: Each module that was given masks, and whether it got their union; None: now so, now so.
        frame: The call of the model, while it runs.
        replays: How often the planned place ran again.
        recomputed: Whether the model or its planned place was called in a segment that runs again in backward.
    """

    def __init__(self, session: Session, model: Any, channel_dim: int = 1) -> None:
        self.session, self.model, self.channel_dim = session, ref(model), channel_dim
        self.of: Pass | None = None
        self.plan: MixPlan | None = None
        self.thread, self.gradients = get_ident(), True
        self.around: list[Notebook] = []
        self.nodes: list[Any] = []
        self.outer: list[Any] = []
        self.nested: list[Pass] = []
        self.sources: list[Pass] = []
        self.heirs: list[Pass] = []
        self.shares: Shares = ()
        self.s: Lam = 0.0
        self.partners: Any = None
        self.target: MixedTarget | None = None
        self.given: tuple[Any] | None = None
        self.scope: Scope | None = None
        self.features: list[Any] = []
        self.masks: Any = None
        self.united: dict[str, bool | None] = {}
        self.frame: Any = None
        self.replays, self.recomputed, self.found, self.watched = 0, False, False, False
        self._state, self._replayed = State.OPEN, 0
        self._fired: set[str] = set()

    def run_again(self, of: Pass) -> None:
        """Be the forward that it was, instead of a new one."""
        self.of, self.plan, self.partners = of, of.plan, of.partners

    @property
    def origin(self) -> Pass:
        """The forward itself, or the one that it runs again."""
        return self if self.of is None else self.of

    @property
    def state(self) -> State:
        """How far it has come."""
        return State.USED if self._state is State.LEFT and self.used else self._state

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed, so that labels must follow."""
        return self.plan is not None and self.plan.mixes

    @property
    def used(self) -> bool:
        """Whether a loss found it, or its target was read."""
        read = self.target is not None and self.target.used
        return self.found or read or any(heir.used for heir in self.heirs)

    def fire(self, place: str, shares: Shares) -> None:
        """The planned place was mixed.

        Raises:
            MixingError: If it was mixed before, or held no tensor to mix.
        """
        if self.plan is None or self._state is not State.OPEN or place in self._fired:
            refuse(
                f"the layer {place!r} ran twice in one forward, so it would be mixed twice",
                "choose a layer that runs once; audit(model, example) lists them",
            )
        if not shares:
            refuse(
                f"the output of {place!r} has no floating-point tensor with {self.plan.batch_size} samples on its "
                "batch axis",
                "choose another layer (audit(model, example) lists them), or give the batch axis as batch_dim=",
            )
        self.shares, self.s = shares, self.plan.label_share(shares)
        self._fired.add(place)
        if self._fired.issuperset(self.plan.places):
            self._state = State.FIRED

    def leave(self, hint: str = "") -> None:
        """The model returned.

        Args:
            hint: What else than the choice of layers may keep the planned one from being seen.

        Raises:
            MixingError: If the planned place did not run.
        """
        if self.plan is not None and self.plan.place is not None and self._state is State.OPEN:
            missing = next(place for place in self.plan.places if place not in self._fired)
            refuse(
                f"the planned layer {missing!r} did not run in this forward, so only the labels would be mixed",
                "choose layers that always run; audit(model, example) lists them" + hint,
            )
        self._state = State.LEFT

    def gradient_arrives(self, autograd: Autograd) -> None:
        """A gradient of what the model returned arrived, or the forward runs again for one.

        Raises:
            MixingError: If it trains and no loss used the target, or if layers are to run again that are no
                longer the wrapped model's.
        """
        if self.plan is None or self.plan.place is None:
            return
        if self.recomputed and not self.session.attached:
            refuse(
                "the model was unwrapped after a mixed forward whose layers run again in backward, where they "
                "would not be mixed",
                "call backward first, then unwrap(model)",
            )
        if not self.mixes or self.used:
            return
        model = self.model()
        backward = autograd.backward(() if model is None else autograd.parameters(model))
        if backward is Backward.TRAINING:
            self.check_used()
        elif backward is Backward.PARAMETERS:
            self.session.owe(self)

    def check_used(self) -> None:
        """Raise if the features were mixed and no loss used the target."""
        if self.mixes and not self.used and self.plan is not None:
            refuse(
                f"the features were mixed at {self.plan.place!r}, but no loss used the mixed target",
                "compute the loss with cross_entropy(output, target), target.blend(...) or "
                "criterion = mixer.loss(...); a trainer with a loss of its own (label smoothing, "
                "a model called with labels=) bypasses them; to use the model unmixed, unwrap(model)",
            )

    def replay(self) -> Pass | None:
        """While this pass runs again: the next call inside it of the same model."""
        nested, at = self.origin.nested, self._replayed
        self._replayed += 1
        return nested[at] if at < len(nested) else None

    def __reduce__(self) -> Any:
        """A pass belongs to the tensors of this process: copies of what refers to it have none."""
        return type(None), ()


_RUNNING: ContextVar[tuple[Pass, ...]] = ContextVar("mixlayers_running", default=())
"""The forwards that are running, outermost first: of this thread or task, since another's are its own."""


def running(session: Session) -> Pass | None:
    """A model's innermost running forward."""
    for found in reversed(_RUNNING.get()):
        if found.session is session:
            return found
    return None


def open_pass(added: Pass) -> None:
    """A forward begins."""
    top = running(added.session)
    added.outer = [] if top is None else top.nodes
    _RUNNING.set((*_RUNNING.get(), added))


def close_pass(closed: Pass) -> None:
    """A forward is over, also one that raised."""
    _RUNNING.set(tuple(found for found in _RUNNING.get() if found is not closed))
    closed.frame, closed.around, closed.features = None, [], []
    closed.nodes, closed.outer = [], []


def causes(found: Iterable[Pass]) -> list[Pass]:
    """The passes that decide on a label: a clean one of mixed inputs hands its inputs' on."""
    decisive: dict[Pass, None] = {}
    for each in found:
        if each.mixes or not each.sources:
            decisive[each] = None
        decisive.update(dict.fromkeys(each.sources))
    return list(decisive)
