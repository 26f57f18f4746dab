"""The explicit scope around one forward."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mixlayers._core.errors import MixingError
from mixlayers._core.labels.labels import one_hot
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.passes import Pass, running

if TYPE_CHECKING:
    from mixlayers._core.model.mixer import BaseMixer
    from mixlayers._core.model.session import Session

_SCOPES: ContextVar[tuple[Scope, ...]] = ContextVar("mixlayers_scopes", default=())
"""The scopes that are open in this thread or task."""


class Scope:
    """One mixed forward, for a call that cannot be changed: `with mixer(labels) as target:`.

    Forwards in eval mode or without gradients may run inside as well; they mix nothing.
    """

    def __init__(self, mixer: BaseMixer[Any], target: Any) -> None:
        self._session = mixer._session
        self.ran = self.taken = False
        self.around: Pass | None = None
        self.target = MixedTarget(target, None, None, None, partial(one_hot, mixer.framework))

    def __enter__(self) -> MixedTarget:
        if scope_of(self._session) is not None:
            raise MixingError("this mixer's scope is already open: one scope, one forward at a time.")
        self.around = running(self._session)  # a forward that the scope is opened in
        _SCOPES.set((*_SCOPES.get(), self))
        return self.target

    def enter_forward(self, given: tuple[Any] | None, *, mixes: bool) -> None:
        """The model is called inside the scope, not from within itself."""
        if given is not None:
            raise MixingError(
                "the target was given twice, by `with mixer(labels):` and as target=: give it once."
            )
        if mixes and self.taken:
            raise MixingError(
                "the model ran twice inside one scope: open `with mixer(labels):` for each forward."
            )
        self.ran, self.taken = True, mixes or self.taken

    def close(self) -> None:
        """The scope is over."""
        _SCOPES.set(tuple(scope for scope in _SCOPES.get() if scope is not self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None and not self.ran:
            raise MixingError(
                "the wrapped model did not run inside the scope, so nothing was mixed: call the model itself "
                "there (not model.forward, nor a copy of the model)."
            )


def scope_of(session: Session) -> Scope | None:
    """A mixer's open scope."""
    return next((scope for scope in _SCOPES.get() if scope._session is session), None)
