"""The part of a mixer that serves static programs: a plan that they read, a blend behind each place."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import paddle
from paddle import nn

from mixlayers._core.audit.stage import AUDITING
from mixlayers._core.model.mixer import BaseMixer
from mixlayers._core.model.passes import running
from mixlayers._core.plan.plan import INPUT
from mixlayers_paddle._framework import PADDLE
from mixlayers_paddle._static import StaticPlan


class StaticMixer(BaseMixer[nn.Layer]):
    """A mixer whose model may be a program of `paddle.jit.to_static`."""

    _static: StaticPlan | None = None
    """What static programs of the model read; None before it has run."""

    _traces = _static_model = False
    """Whether a program that is traced now is the running forward's, and trains; whether there are programs."""

    def _enter(self, model: nn.Layer, args: Any, kwargs: Any) -> tuple[Any, Any]:
        args, kwargs = super()._enter(model, args, kwargs)
        places = [place for place in self.places or () if place != INPUT]
        self._static_model = hasattr(model.forward, "dygraph_function")  # to_static's
        seen = bool(places) and self._static_model and paddle.in_dynamic_mode() and not AUDITING.get()
        self._traces = seen and self._training(model)
        if seen:
            if self._static is None:
                self._static = StaticPlan(places, self.batch_dim, self.channel_dim)
            tensors = PADDLE.tensors((args, kwargs))
            inputs = tuple((tuple(x.shape), str(x.dtype)) for x in tensors)
            size = next((x.shape[self.batch_dim] for x in tensors if x.ndim > self.batch_dim), 0)
            called = running(self._session)
            self._static.begin(inputs, size, None if called is None else called.mixed.plan)
        return args, kwargs

    def _trace(self, place: str, output: Any) -> Any:
        """Put a blend behind a layer into the static program that is being made; in eval mode there is none."""
        if not self._traces and self._current_plan_at(place).mixed is not None:
            self._framework.check_mixing()  # to_static was given a part of the model
        if AUDITING.get() or not self._traces or _is_saved():
            return None
        if self._static is None or self._padding.masked:
            self._framework.check_mixing()
        return self._static.trace(place, output)  # type: ignore[union-attr]

    def _leave(self, inputs: tuple[Any, Any], output: Any) -> Any:
        called = running(self._session)
        if self._static is not None and called is not None and not called.mixed_already:
            plan = called.mixed.plan
            if plan is not None and plan.place is not None and plan.place != INPUT:
                for share in self._static.shares(plan):
                    called.mark_mixed(plan.place, share)
        return super()._leave(inputs, output)

    def _close(self) -> None:
        if self._static is not None and paddle.in_dynamic_mode():
            self._static.end()
        super()._close()

    def _not_run_hint(self) -> str:
        if not self._static_model:
            return ""
        return (
            "; a program that paddle.jit.to_static made of the model before it was wrapped does not mix: give the "
            "model to to_static again"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "static": None}

    def _training(self, model: nn.Layer) -> bool:
        return model.training and not (not paddle.in_dynamic_mode() and _is_saved())


def _is_saved() -> bool:
    """Whether paddle.jit.save traces the model (as `Model.save(training=False)` does, in train mode): for inference."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "save" and frame.f_globals.get("__name__") == "paddle.jit.api":
            return True
        frame = frame.f_back
    return False
