"""IEBN and RBN as functions of tensors, and which way they go: compiled passes on the CPU, else Paddle's operations."""

from __future__ import annotations

from paddle import Tensor

from mixlayers._core.iebn import Parameters, RBNParameters, check_channels
from mixlayers_paddle._iebn import native
from mixlayers_paddle._iebn.given import Statistics
from mixlayers_paddle._iebn.plain import plain, plain_rbn


def iebn(x: Tensor, parameters: Parameters, statistics: Statistics) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        parameters: Those of the formula.
        statistics: What makes xhat from x.

    Returns:
        Of x's shape and dtype.
    """
    _check(x, parameters, statistics)
    if native.takes(x, parameters, statistics):
        return native.native(native.IEBN, x, parameters, statistics)
    return plain(x, parameters, statistics)


def rbn(x: Tensor, parameters: RBNParameters, statistics: Statistics) -> Tensor:
    """`y = xhat * (weight * a) + bias`, `a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)`.

    Args:
        x: (N, C, ...).
        parameters: Those of the formula.
        statistics: What makes xhat from `x + weight_recenter * mean_over_space(x)`.

    Returns:
        Of x's shape and dtype.
    """
    _check(x, parameters, statistics)
    if native.takes(x, parameters, statistics):
        return native.native(native.RBN, x, parameters, statistics)
    return plain_rbn(x, parameters, statistics)


def _check(x: Tensor, parameters: native.Given, statistics: Statistics) -> None:
    vectors, shape = (*parameters, statistics.mean, statistics.var), x.shape
    if shape[1] >= 0:  # a static program may not know it
        check_channels(shape, (t.shape[0] for t in vectors if t is not None))
