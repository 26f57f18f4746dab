"""The explicit scope around one forward."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from mixlayers._errors import MixingError
from mixlayers._target import MixedTarget

if TYPE_CHECKING:
    from mixlayers._mixer import BaseMixer


class Scope:
    """One mixed forward, for a call that cannot be changed: `with mixer(labels) as target:`."""

    def __init__(self, mixer: BaseMixer[Any], target: Any) -> None:
        self._mixer = mixer
        self._ran = False
        self.target = MixedTarget(target, None, None, None, mixer.framework.one_hot)

    def __enter__(self) -> MixedTarget:
        if self._mixer.scope is not None:
            raise MixingError("this mixer's scope is already open: one scope, one forward at a time.")
        self._mixer.scope = self
        return self.target

    def enter_forward(self, given: tuple[Any] | None) -> None:
        """The model is called inside the scope."""
        if self._ran:
            raise MixingError(
                "the model ran twice inside one scope: open `with mixer(labels):` for each forward."
            )
        if given is not None:
            raise MixingError(
                "the target was given twice, by `with mixer(labels):` and as target=: give it once."
            )
        self._ran = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mixer.scope = None
        if kind is None and not self._ran:
            raise MixingError(
                "the wrapped model did not run inside the scope, so nothing was mixed: call the model itself "
                "there (not model.forward, nor a copy of the model)."
            )
