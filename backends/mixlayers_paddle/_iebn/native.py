"""IEBN's and RBN's passes in C, on the CPU, in a graph of Paddle's own nodes; without them nothing is lost but time.

A PyLayer would crash Paddle 3.3 when `backward()` ran through it a second time, and refuse `paddle.grad([y], [x])`. So
an addition of two numbers stands in the graph: what leads to the one is x, to the other the parameters, and its sum
gets the output's memory. Hooks put the gradients in the place of the addition's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import paddle
from paddle import Tensor
from paddle.jit.sot import psdb

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_native._iebn import Forward, Layout, RBNForward
from mixlayers_native._library import library
from mixlayers_paddle._iebn.given import Statistics
from mixlayers_paddle._iebn.plain import gradients, gradients_rbn

Given = Parameters | RBNParameters


@dataclass(frozen=True)
class Norm:
    """A norm that there are passes for.

    Attributes:
        forward: One forward of it, by the passes.
        gradients: Its gradients in Paddle's operations, which can be differentiated again.
    """

    forward: type[Forward]
    gradients: Callable[..., list[Tensor]]


IEBN: Final = Norm(Forward, gradients)
RBN: Final = Norm(RBNForward, gradients_rbn)
_KINDS = {paddle.float32: "float32", paddle.float64: "float64"}


def takes(x: Tensor, parameters: Given, statistics: Statistics) -> bool:
    """Whether there are passes for x and all that belongs to it, and operations run as they are called."""
    if library() is None or psdb.in_sot() or not paddle.in_dynamic_mode():
        return False
    tensors = *parameters, statistics.mean, statistics.var
    return (
        x.is_dense()
        and x.place.is_cpu_place()
        and x.dtype in _KINDS
        and 0 not in x.shape
        and {t.dtype for t in tensors if t is not None} == {x.dtype}
        and all(t is None or t.is_contiguous() for t in tensors)
        and paddle.base.framework._dygraph_tracer()._amp_level == paddle.base.core.AmpLevel.O0
    )


def native(norm: Norm, x: Tensor, parameters: Given, statistics: Statistics) -> Tensor:
    """`iebn` or `rbn`."""
    rows = not x.is_contiguous() or x.ndim == 2  # the channels last; other orders are copied
    memory = x.moveaxis(1, -1) if rows else x
    flat, y = memory.reshape([-1]), paddle.empty_like(memory)
    step = _Step(norm, x, flat, parameters, statistics, rows)
    if not (paddle.is_grad_enabled() and any(map(_trained, (x, *parameters)))):
        step.forward(y)
        return y.moveaxis(-1, 1) if rows else y
    every = paddle.concat([parameters[i] for i in step.trained] or [paddle.zeros([1], x.dtype)])
    if step.trained:
        every.register_hook(step.on_parameters)
    if step.wants_x:
        flat.register_hook(step.on_input)
    one = every[:1]
    step.hold(every, one)
    step.one._share_underline_tensor_to(flat)
    out = flat + one
    out.register_hook(step.on_output)
    step.forward(y)
    (y.moveaxis(-1, 1) if rows else y)._share_underline_tensor_to(out)
    return out


class _Step:
    """One forward, and what its backward needs.

    Args:
        norm: Which.
        x: (N, C, ...).
        flat: The same in the order of memory.
        rows: Whether the channels are last there.
    """

    def __init__(
        self, norm: Norm, x: Tensor, flat: Tensor, parameters: Given, statistics: Statistics, rows: bool
    ) -> None:
        self.norm = norm
        self.x, self.flat, self.parameters, self.statistics, self.rows = (
            *(x, flat.detach(), parameters, statistics, rows),
        )
        self.version, self.wants_x = x.inplace_version, not x.stop_gradient
        self.trained = [i for i, t in enumerate(parameters) if _trained(t)]
        self.values = _addresses(*parameters)
        size, channels = x.shape[:2]
        self.layout = Layout((size, channels, prod(x.shape[2:])), rows, _KINDS[x.dtype])
        self.found: Any = None
        self.one: Any = None
        self.copy: Any = None
        self.dx: Tensor | None = None
        self.learned: list[Tensor] = []  # one a parameter, or all in one

    def hold(self, every: Tensor, one: Tensor) -> None:
        """Take the trained parameters from a copy, so that an optimizer's step before the backward changes nothing."""
        self.copy, self.one = every.detach(), one.detach()
        for place, i in enumerate(self.trained):
            self.values[i] = self.copy.data_ptr() + place * self.layout.shape[1] * self.copy.element_size()

    def forward(self, y: Tensor) -> None:
        """Write the output and update the running statistics."""
        kept = self.statistics
        addresses = self.flat.data_ptr(), y.data_ptr(), self.values
        running = _addresses(kept.mean, kept.var)
        if not (kept.batch or paddle.is_grad_enabled()):
            self.norm.forward.infer(self.layout, *addresses, running, kept.eps)
            return
        self.found = self.norm.forward(
            *(self.layout, *addresses, running),
            batch=kept.batch,
            factor=kept.factor,
            eps=kept.eps,
            correction=0,
        )

    def on_output(self, gradient: Tensor) -> Tensor:
        """Come by the gradients, given that of the output; the addition gets one number."""
        if self.x.inplace_version != self.version:
            raise RuntimeError(
                "the norm's input was changed in place after the forward, and its gradient needs it: leave out the "
                "in-place operation, such as relu_, on it."
            )
        if not gradient.is_leaf:  # only create_graph=True gives a gradient a history
            self._with_graph(gradient)
            return self.one
        gradient = (gradient.moveaxis(1, -1) if self.rows else gradient).contiguous()
        channels = self.layout.shape[1]
        self.dx = dx = paddle.empty_like(self.flat) if self.wants_x else None
        every = range(len(self.parameters))
        learned = paddle.empty([len(every), channels], gradient.dtype)
        self.learned = [learned]
        places = [learned.data_ptr() + i * channels * learned.element_size() for i in every]
        addresses = self.flat.data_ptr(), gradient.data_ptr(), None if dx is None else dx.data_ptr()
        self.found.backward(*addresses, self.values, places)
        return self.one

    def on_input(self, _: Tensor) -> Tensor | None:
        """The gradient of x, flat."""
        dx, self.dx = self.dx, None
        return dx

    def on_parameters(self, _: Tensor) -> Tensor:
        """The gradients of the parameters that are trained, one after the other."""
        learned, self.learned = self.learned, []
        if len(learned) > 1:
            return paddle.concat([learned[i] for i in self.trained])
        return (
            learned[0] if len(self.trained) == len(self.parameters) else learned[0][self.trained]
        ).reshape([-1])

    def _with_graph(self, gradient: Tensor) -> None:
        """`on_output` in operations that Paddle can differentiate again. It cannot run a backward inside a backward."""
        kept = self.statistics
        statistics = None if kept.batch else map(paddle.to_tensor, self.found.statistics())
        with paddle.enable_grad():
            dx, *self.learned = self.norm.gradients(gradient, self.x, self.parameters, statistics, kept.eps)
            self.dx = (dx.moveaxis(1, -1) if self.rows else dx).reshape([-1])


def _trained(tensor: Tensor | None) -> bool:
    return tensor is not None and not tensor.stop_gradient


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]
