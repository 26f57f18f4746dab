"""Mixing inside a program of `paddle.jit.to_static(full_graph=True)`: the plan is in tensors that the program reads.

A trace runs each hook once, so a plan that it looked at would be frozen into the program. Instead every place blends,
by a permutation, shares and a mask that are written before each forward; where a place is not the step's, its mask is
False everywhere, and selects what the layer returned. What begins and ends a forward runs outside of the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.base import core
from paddle.jit.dy2static.program_translator import ProgramTranslator

from mixlayers._core.errors import refuse
from mixlayers._core.plan.plan import Blend, MixPlan

Shape = tuple[int, ...]
_PERM, _KEEP = "perm", "keep"


@contextmanager
def dynamic() -> Iterator[None]:
    """Inside, models that `to_static` was given run as if it had not been."""
    translator = ProgramTranslator.get_instance()
    found = translator.enable_to_static
    translator.enable(False)
    try:
        yield
    finally:
        translator.enable(found)


class StaticPlan:
    """One model's plan as its static programs read it.

    Attributes:
        traced: What each program's trace met: its places, with the shapes of their outputs, by the shapes that the
            forward was called with. A size that the program leaves open is -1.
    """

    def __init__(self, places: Sequence[str], batch_dim: int, channel_dim: int) -> None:
        self.batch_dim, self.channel_dim = batch_dim, channel_dim
        self.traced: dict[Any, dict[str, list[Shape]]] = {}
        self._masks = {place: f"mask{number}" for number, place in enumerate(places)}
        self._held = _Held([_PERM, _KEEP, *self._masks.values()])
        self._plan: MixPlan | None = None
        self._on: str | None = None
        self._key: Any = None
        self._size, self._tracing = 0, False

    def begin(self, inputs: Any, size: int, plan: MixPlan | None) -> None:
        """A forward begins: have the programs that exist mix by its plan; `trace` does so for one that is made now."""
        self._key, self._plan, self._tracing = inputs, plan, False
        if size != self._size:
            self._size = size
            self._held.write(_PERM, np.arange(size))
            self._held.write(_KEEP, np.ones(size, np.float32))
        if plan is not None and plan.place is not None and (shapes := self._shapes().get(plan.place)):
            self._write(plan, shapes[-1])

    def end(self) -> None:
        """The forward is over: a call of the model past its hooks finds nothing to do."""
        if self._on is not None:
            mask = self._held.array(self._masks[self._on])
            self._held.write(self._masks[self._on], np.zeros_like(mask))
        self._plan = self._on = None

    def shares(self, plan: MixPlan) -> list[list[tuple[Any, Shape]]]:
        """What the program that ran mixed at the plan's place: at each of its calls, the share and the shape."""
        shapes = self._shapes().get(plan.place or "", [])
        return [[(self._how(plan, shape).s, self._sized(shape))] for shape in shapes]

    def trace(self, place: str, output: Any) -> Any:
        """Blend a layer's output, in the program that is being made."""
        if not isinstance(output, paddle.pir.Value) or not output.is_floating_point():
            refuse(
                f"{place!r} returns no floating-point tensor but {type(output).__name__}, which a static program "
                "cannot mix",
                "choose a layer that returns one, or trace with full_graph=False",
            )
        feature = paddle.moveaxis(output, self.batch_dim, 0) if self.batch_dim else output
        shape = tuple(feature.shape)
        if not self._tracing:  # what an attempt that failed had met is forgotten
            self._tracing, self.traced[self._key] = True, {}
        self.traced[self._key].setdefault(place, []).append(shape)
        self._held.write(self._masks[place], np.zeros(_mask_shape(shape), np.bool_))
        if self._plan is not None and self._plan.place == place:
            self._write(self._plan, shape)
        keep = self._held.read(_KEEP).reshape([-1] + [1] * (feature.ndim - 1))
        precise = feature if feature.dtype == paddle.float64 else feature.astype("float32")
        partner = paddle.gather(precise, self._held.read(_PERM))
        keep = keep.astype(precise.dtype)
        mixed = (precise * keep + partner * (1.0 - keep)).astype(feature.dtype)
        chosen = paddle.where(self._held.read(self._masks[place]), mixed, feature)
        return paddle.moveaxis(chosen, 0, self.batch_dim) if self.batch_dim else chosen

    def _shapes(self) -> Mapping[str, list[Shape]]:
        """Of the program that such a call runs: its own, or one that was made for any batch size."""
        if self._key in self.traced:
            return self.traced[self._key]
        open_ones = (
            own for own in self.traced.values() if any(-1 in s for found in own.values() for s in found)
        )
        return next(open_ones, {})

    def _sized(self, shape: Shape) -> Shape:
        return (self._size, *shape[1:])

    def _how(self, plan: MixPlan, shape: Shape) -> Blend:
        if plan.recipe is not None and -1 in shape[1:]:
            refuse(
                f"{plan.method} needs the size of what {plan.place!r} returns, and the static program leaves it open: "
                f"{list(shape)}",
                "give to_static an input_spec with fixed sizes; the batch size may stay None",
            )
        how = plan.blend(self._sized(shape), self.channel_dim)
        if not isinstance(how, Blend) or (how.mask is not None and len(how.mask) > 1):
            refuse(
                f"{plan.method} does other than blend all samples under one mask, which a static program cannot do",
                "trace with full_graph=False, or leave the model dynamic",
            )
        return how

    def _write(self, plan: MixPlan, shape: Shape) -> None:
        how = self._how(plan, shape)
        place: Any = plan.place
        self._held.write(_PERM, how.perm)
        self._held.write(_KEEP, np.broadcast_to(np.asarray(how.lam, np.float32), (self._size,)))
        mask = np.ones((1,) * len(shape), np.bool_) if how.mask is None else how.mask
        self._held.write(self._masks[place], np.broadcast_to(mask, _mask_shape(shape)))
        self._on = place


def _mask_shape(shape: Shape) -> Shape:
    """(1, ...), or all 1 where the program leaves a size open: one shape for whatever a program is to do."""
    return (1,) * len(shape) if -1 in shape[1:] else (1, *shape[1:])


class _Held(nn.Layer):
    """Tensors that programs take as they take a layer's buffers, and that no model or checkpoint has."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        for name in names:
            start = paddle.zeros([1], dtype={_PERM: "int64", _KEEP: "float32"}.get(name, "bool"))
            self.register_buffer(name, start, persistable=False)

    def read(self, name: str) -> Tensor:
        """The tensor, in the program that is being traced."""
        return getattr(self, name)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return np.array(self._buffers[name].get_tensor())

    def write(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Give it other memory; what a backward pass that is still to come reads stays as it is."""
        fresh = core.DenseTensor()
        on = self._buffers[name].place
        place = core.CUDAPlace(on.gpu_device_id()) if on.is_gpu_place() else core.CPUPlace()
        fresh.set(np.ascontiguousarray(array), place)
        self._buffers[name].get_tensor()._share_data_with(fresh)
