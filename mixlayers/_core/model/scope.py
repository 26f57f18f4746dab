"""The explicit scope around one forward."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType

from mixlayers._core.errors import MixingError
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.passes import Call, running
from mixlayers._core.model.session import Session

_SCOPES: ContextVar[tuple[Scope, ...]] = ContextVar("mixlayers_scopes", default=())
"""The scopes that are open in this thread or task."""


class Scope:
    """One mixed forward, for a call that cannot be changed: `with mixer(labels) as target:`.

    Forwards in eval mode or without gradients may run inside as well; they mix nothing.

    Attributes:
        target: What the labels become, resolved by the forward.
        around: The forward of the model that the scope is opened in.
        taken: Whether its forward ran; None: no forward did at all.
    """

    def __init__(self, session: Session, target: MixedTarget) -> None:
        self.session, self.target = session, target
        self.around: Call | None = None
        self.taken: bool | None = None

    def __enter__(self) -> MixedTarget:
        if scope_of(self.session) is not None:
            raise MixingError("this mixer's scope is already open: one scope, one forward at a time.")
        self.around = running(self.session)
        _SCOPES.set((*_SCOPES.get(), self))
        return self.target

    def enter_forward(self, *, mixes: bool) -> None:
        """The model is called inside the scope, not from within itself."""
        if mixes and self.taken:
            raise MixingError(
                "the model ran twice inside one scope: open `with mixer(labels):` for each forward."
            )
        self.taken = mixes or bool(self.taken)

    def close(self) -> None:
        """The scope is over."""
        _SCOPES.set(tuple(scope for scope in _SCOPES.get() if scope is not self))
        self.around = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and self.taken is None:
            raise MixingError(
                "the wrapped model did not run inside the scope, so nothing was mixed: call the model itself "
                "there (not model.forward, nor a copy of the model)."
            )


def scope_of(session: Session) -> Scope | None:
    """A mixer's open scope."""
    return next((scope for scope in _SCOPES.get() if scope.session is session), None)
