"""IEBN and RBN as functions of variables, and which way they go: the compiled passes on the CPU, else others."""

from __future__ import annotations

import warnings
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

import chainer
from chainer import Variable, backend
from chainer.utils import type_check

from mixlayers._core.iebn import Parameters, RBNParameters
from mixlayers_chainer._iebn.given import Statistics
from mixlayers_chainer._iebn.join import joint_sum
from mixlayers_chainer._iebn.measure import measure
from mixlayers_chainer._iebn.native import backward, forward, takes
from mixlayers_chainer._iebn.passes import Array, Layout, affine, combine, products
from mixlayers_chainer._iebn.plain import computed, plain, plain_rbn
from mixlayers_native._iebn import Forward, RBNForward


def iebn(x: Any, parameters: Parameters, statistics: Statistics) -> Variable:
    """`y = xhat * (gamma * a) + beta`, `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: Variable or array. Its axes in `statistics.axis` are instances (0) and space, the others channels.
        parameters: Those of the formula.
        statistics: What makes xhat from x.

    Returns:
        Of x's shape and dtype.
    """
    _warn_of_one_value(x, statistics)
    (y,) = _IEBN(statistics).apply((x, *parameters))
    return y


def rbn(x: Any, parameters: RBNParameters, statistics: Statistics) -> Variable:
    """`y = xhat * (gamma * a) + beta`, `a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)`.

    Args:
        x: As of `iebn`.
        parameters: Those of the formula.
        statistics: What makes xhat from `x + weight_recenter * mean_over_space(x)`.

    Returns:
        Of x's shape and dtype.
    """
    _warn_of_one_value(x, statistics)
    arrays = [each.array if isinstance(each, Variable) else each for each in (x, *parameters)]
    if takes(arrays[0], arrays[1:], statistics):
        (y,) = _RBN(statistics).apply((x, *parameters))
        return y
    return plain_rbn(chainer.as_variable(x), parameters, statistics)


def _warn_of_one_value(x: Any, statistics: Statistics) -> None:
    """Warn whoever called the link where a batch has no variance."""
    count = prod(x.shape[i] for i in statistics.axis if i < x.ndim)
    if statistics.batch and count == 1 and statistics.comm is None:
        warnings.warn(
            "A batch with one value a channel has no variance: the norm gives beta. Is chainer.config.train on while "
            "evaluating, or is it the last batch of an iterator with repeat=False?",
            stacklevel=6,
        )


class _IEBN(chainer.FunctionNode):
    """Keeps x, its means over space and attention (N, K), and vectors (K,).

    Its derivative is computed on arrays; where that is to be differentiated again, by the published formula.
    """

    given: ClassVar[Any] = Parameters
    plain: ClassVar[Any] = staticmethod(plain)
    passes: ClassVar[type[Forward]] = Forward

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics

    def check_type_forward(self, in_types: Any) -> None:
        x, *parameters = in_types
        axis = self.statistics.axis
        type_check.expect(x.dtype.kind == "f", x.ndim > axis[-1])
        channels = tuple(n for i, n in enumerate(type_check.eval(x.shape)) if i not in axis)
        for parameter in parameters:
            type_check.expect(parameter.dtype.kind == "f", parameter.shape == channels)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array]:
        self.retain_inputs(tuple(range(len(inputs))))
        x, *parameters = inputs
        kind = computed(x.dtype, parameters[0].dtype)
        self.layout = Layout.of(x.shape, self.statistics.axis)
        flat = self.layout.flatten(x)
        self.native: Any = None
        if takes(flat, parameters, self.statistics):
            self.native, y = forward(self.passes, flat, self.layout, parameters, self.statistics)
            return (self.layout.restore(y),)
        self.found = found = measure(flat, self.layout, self.statistics, kind)
        gamma, beta, weight_readjust, bias_readjust = (_vector(each, kind) for each in parameters)
        z = weight_readjust * found.gap
        z += bias_readjust
        self.a = _sigmoid(z)
        scale = self.a * (gamma * found.rstd)
        shift = scale * -found.residual
        shift += beta
        return (self.layout.restore(affine(flat, found.centre, scale, shift, self.layout)),)

    def backward(self, indexes: tuple[int, ...], gradients: tuple[Variable]) -> tuple[Variable | None, ...]:
        variables = self.get_retained_inputs()
        if chainer.config.enable_backprop:
            return self._backward_with_graph(indexes, variables, gradients[0])
        x, *parameters = (variable.array for variable in variables)
        found = self._backward_of_arrays(0 in indexes, x, parameters, gradients[0].array)
        return tuple(chainer.as_variable(found[i]) for i in indexes)

    def _backward_of_arrays(
        self, wants_x: bool, x: Array, parameters: list[Array], gradient: Array
    ) -> list[Array]:
        layout, statistics = self.layout, self.statistics
        flat, g = layout.flatten(x), layout.flatten(gradient)
        if self.native is not None:
            dx, learned = backward(self.native, flat, g, parameters, statistics, wants_x=wants_x)
            return [dx if dx is None else layout.restore(dx), *learned]
        found, a = self.found, self.a
        total, product = products(g, flat, found.centre, layout)  # sums of g, and of g * (x - centre)
        product -= found.residual * total

        gamma, _, weight_readjust, _ = (_vector(each, a.dtype) for each in parameters)
        factor = gamma * found.rstd
        product *= a
        slope = product.sum(axis=0)
        on_z = 1.0 - a  # to be multiplied by factor
        on_z *= product
        on_parameters = (
            found.rstd * slope,
            total.sum(axis=0),
            factor * (on_z * found.gap).sum(axis=0),
            factor * on_z.sum(axis=0),
        )
        result = [
            own.reshape(each.shape).astype(each.dtype)
            for own, each in zip(on_parameters, parameters, strict=True)
        ]
        if not wants_x:
            return [None, *result]
        on_z *= factor * weight_readjust / max(layout.length, 1)
        shift, on_x = on_z, None
        if statistics.batch:
            average, count = (a * total).sum(axis=0), max(found.count, 1)
            if statistics.comm is not None:
                xp = backend.get_array_module(x)
                average, slope = joint_sum(xp.stack((average, slope)), statistics.comm)
            on_x = -factor * found.rstd * found.rstd * (slope / count)
            shift -= factor * (average / count) + on_x * found.residual
        on_feature = combine(g, flat, found.centre, a * factor, on_x, shift, layout)
        return [layout.restore(on_feature), *result]

    def _backward_with_graph(
        self, indexes: tuple[int, ...], variables: tuple[Variable, ...], gradient: Variable
    ) -> tuple[Variable | None, ...]:
        if self.statistics.comm is not None:
            raise NotImplementedError(
                "MultiNodeIEBN has no second derivative: use IEBN in one process for enable_double_backprop=True."
            )
        x, *parameters = variables
        statistics = (
            replace(self.statistics, mean=None, var=None) if self.statistics.batch else self.statistics
        )
        y = self.plain(x, self.given(*parameters), statistics)
        wanted = [variables[i] for i in indexes]
        return tuple(chainer.grad([y], wanted, [gradient], enable_double_backprop=True))


class _RBN(_IEBN):
    """RBN, by the compiled passes."""

    given = RBNParameters
    plain = staticmethod(plain_rbn)
    passes = RBNForward


def _vector(parameter: Array, kind: Any) -> Array:
    """A parameter as (K,)."""
    return parameter.reshape(-1).astype(kind, copy=False)


def _sigmoid(z: Array) -> Array:
    """To the last digits on both sides, without overflow; in place."""
    xp = backend.get_array_module(z)
    divisor = xp.abs(z)
    xp.negative(divisor, out=divisor)
    xp.exp(divisor, out=divisor)
    divisor += 1.0
    xp.minimum(z, 0.0, out=z)
    xp.exp(z, out=z)
    z /= divisor
    return z
