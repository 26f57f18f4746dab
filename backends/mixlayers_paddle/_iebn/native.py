"""IEBN's passes in C, on the CPU, in a graph of Paddle's own nodes; without the library nothing is lost but time.

A PyLayer would crash Paddle 3.3 when `backward()` ran through it a second time, and refuse `paddle.grad([y], [x])`. So
an operation stands in the graph that costs nothing: it adds one number to memory that the passes then write the output
to, and its gradient is the output's. Hooks put the gradients of x and of the parameters in its place.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor
from paddle.jit.sot import psdb

from mixlayers_native._iebn import Forward, Layout, infer
from mixlayers_native._library import library
from mixlayers_paddle._iebn.given import Parameters, Statistics
from mixlayers_paddle._iebn.plain import gradients

_C_ops: Any = paddle._C_ops
_KINDS = {paddle.float32: "float32", paddle.float64: "float64"}


def takes(x: Tensor, parameters: Parameters, statistics: Statistics) -> bool:
    """Whether there are passes for x and all that belongs to it, and operations run as they are called."""
    if library() is None or psdb.in_sot() or not paddle.in_dynamic_mode():
        return False
    tensors = *parameters, statistics.mean, statistics.var
    return (
        x.is_dense()
        and x.place.is_cpu_place()
        and x.dtype in _KINDS
        and x.size > 0
        and all(t is None or (t.dtype == x.dtype and t.is_contiguous()) for t in tensors)
        and paddle.base.framework._dygraph_tracer()._amp_level == paddle.base.core.AmpLevel.O0
    )


def native(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`iebn`."""
    rows = not x.is_contiguous() or x.ndim == 2  # the channels last; other orders are copied
    flat = (x.moveaxis(1, -1) if rows else x).reshape([-1])
    step, y = _Step(x, flat, parameters, statistics, rows), paddle.empty(flat.shape, flat.dtype)
    if not (
        paddle.is_grad_enabled() and any(t is not None and not t.stop_gradient for t in (x, *parameters))
    ):
        step.forward(y)
        return step.shaped(y)
    every = paddle.concat([step.nothing if t is None else t for t in parameters])
    if not every.stop_gradient:
        every.register_hook(step.on_parameters)
    y._share_underline_tensor_to(flat)  # its count of changes in place too
    out = _C_ops.index_add_(flat, paddle.zeros([1], "int32"), every[:1], 0)
    step.forward(y)
    out.register_hook(step.on_output)
    return step.shaped(out)


class _Step:
    """One forward, and what its backward needs.

    Args:
        x: (N, C, ...).
        flat: The same in the order of memory.
        rows: Whether the channels are last there.
    """

    def __init__(
        self, x: Tensor, flat: Tensor, parameters: Parameters, statistics: Statistics, rows: bool
    ) -> None:
        self.x, self.flat, self.parameters, self.statistics, self.rows = (
            *(x, flat.detach(), parameters, statistics, rows),
        )
        self.version = x.inplace_version
        size, channels = x.shape[:2]
        self.layout = Layout((size, channels, x.size // (size * channels)), rows, _KINDS[x.dtype])
        self.found: Any = None
        self.learned: Tensor | None = None

    @property
    def nothing(self) -> Tensor:
        """What stands for a parameter that there is none of."""
        return paddle.zeros_like(self.statistics.mean)

    def forward(self, y: Tensor) -> None:
        """Write the output, flat, and update the running statistics."""
        kept = self.statistics
        addresses = self.flat.data_ptr(), y.data_ptr(), _addresses(*self.parameters)
        running = _addresses(kept.mean, kept.var)
        if not (kept.batch or paddle.is_grad_enabled()):
            infer(self.layout, *addresses, running, kept.epsilon)
            return
        self.found = Forward(
            *(self.layout, *addresses, running),
            batch=kept.batch,
            factor=1.0 - kept.momentum,
            eps=kept.epsilon,
            correction=0,
        )

    def on_output(self, gradient: Tensor) -> Tensor:
        """The gradient of x, flat, given that of the output."""
        if self.x.inplace_version != self.version:
            raise RuntimeError(
                "IEBN's input was changed in place after the forward, and its gradient needs it: leave out the "
                "in-place operation, such as relu_, on it."
            )
        if not gradient.is_leaf:  # only create_graph=True gives a gradient a history
            return self._with_graph(gradient)
        gradient, channels = gradient.contiguous(), self.layout.shape[1]
        dx = None if self.x.stop_gradient else paddle.empty_like(self.flat)
        self.learned = paddle.empty([4 * channels], gradient.dtype)
        learned = [self.learned.data_ptr() + i * channels * gradient.element_size() for i in range(4)]
        addresses = self.flat.data_ptr(), gradient.data_ptr(), None if dx is None else dx.data_ptr()
        self.found.backward(*addresses, _addresses(*self.parameters), learned)
        return gradient if dx is None else dx

    def on_parameters(self, _: Tensor) -> Tensor | None:
        """The parameters' gradients, which `on_output` came by."""
        learned, self.learned = self.learned, None
        return learned

    def _with_graph(self, gradient: Tensor) -> Tensor:
        """`on_output` in operations that Paddle can differentiate again. It cannot run a backward inside a backward."""
        kept, parameters = self.statistics, [self.nothing if t is None else t for t in self.parameters]
        statistics = None if kept.batch else map(paddle.to_tensor, self.found.statistics())
        if self.parameters.weight is None:
            parameters[0] = paddle.ones_like(kept.mean)
        with paddle.enable_grad():
            dx, *learned = gradients(
                self.shaped(gradient), self.x, Parameters(*parameters), statistics, kept.epsilon
            )
            self.learned = paddle.concat(learned)
            return (dx.moveaxis(1, -1) if self.rows else dx).reshape([-1])

    def shaped(self, flat: Tensor) -> Tensor:
        """What is flat in x's shape."""
        size, channels, *space = self.x.shape
        return (
            flat.reshape([size, *space, channels]).moveaxis(-1, 1)
            if self.rows
            else flat.reshape(self.x.shape)
        )


def _addresses(*tensors: Tensor | None) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]
