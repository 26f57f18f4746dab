"""Mixing in fastai: `Learner(dls, model, cbs=Mixing(ManifoldMixup()))`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from fastai.callback.core import Callback

from mixlayers import Method, MixingError
from mixlayers._core.audit.places import Layers
from mixlayers.torch import Mixer, unwrap


class Mixing(Callback):
    """Mixes in each `fit`, and only there: however it ends, model and loss are as they were afterwards.

    The Learner's loss is blended with the plan of each training forward; validation is plain. A second `fit` goes
    on with the next plan. While a Learner has it, it is `learn.mixing`.

    Args:
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix, as for `Mixer`.
        options: More arguments of `Mixer`, such as `seed` and `example`.

    Attributes:
        mixer: The mixer of the running, or else the last, fit; None before the first.
    """

    _learn: Any = None

    def __init__(self, method: Method | None = None, layers: Layers = "auto", **options: Any) -> None:
        super().__init__()
        self._options = {"method": method, "layers": layers, **options}
        self.mixer: Mixer | None = None
        self._state = {"step": 0}
        self._before: tuple[Any, Any] | None = None  # the model, and its loss

    @property
    def learn(self) -> Any:
        """The Learner that has the callback; None before and after."""
        return self._learn

    @learn.setter
    def learn(self, learner: Any) -> None:
        if self._learn is not None and self._before is not None:
            self.after_fit()
        if self._learn is not None and getattr(vars(self._learn).get("fit"), "func", None) == self._fit:
            vars(self._learn).pop("fit")
        self._learn = learner
        if learner is not None:
            fit = learner.fit
            vars(learner)["fit"] = update_wrapper(partial(self._fit, fit), fit)

    def _fit(self, fit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The Learner's own fit, which tells callbacks of no exception but its own."""
        try:
            return fit(*args, **kwargs)
        finally:
            if self._learn is not None:
                self.after_fit()

    def before_fit(self) -> None:
        """Attach to the model, and blend the loss."""
        self.after_fit()
        state = self.state_dict()
        self.mixer = Mixer(self.learn.model, **self._options)
        self.mixer.load_state_dict(state)
        self._before = self.learn.model, self.learn.loss_func
        self.learn.loss_func = self.mixer.loss(self.learn.loss_func)

    def before_batch(self) -> None:
        """Refuse several targets, of which the loss would get but one mixed."""
        if self.training and len(self.yb) > 1:
            raise MixingError(
                f"the batch has {len(self.yb)} targets, and only one can be blended: put them in one dict or tuple, "
                "and give the Learner a loss of (pred, that)."
            )

    def after_fit(self) -> None:
        """Leave model and loss as they were."""
        if self._before is not None:
            model, loss = self._before
            self._before = None
            unwrap(model)
            self.learn.loss_func = loss

    def after_cancel_fit(self) -> None:
        """The same."""
        self.after_fit()

    def state_dict(self) -> dict[str, int]:
        """The state for a checkpoint: `{"step": n}`."""
        return self._state if self.mixer is None else self.mixer.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Have the next fit go on from a checkpoint."""
        self.mixer, self._state = None, state
