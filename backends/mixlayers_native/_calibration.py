"""RBN's arithmetic on numbers of size (N, C), in operators that the arrays of every framework have.

x' = x + weight_recenter * (the plane's mean), a plane being one instance's channel. Everything that RBN does to a
plane is one affine map, and so is everything that its gradient does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Array = Any


def recentred_var(var: Array, between: Array, recenter: Array) -> Array:
    """The variance of x', given that of x and the part of it that is between the planes' means, (C,) each.

    The mean of x' is (1 + recenter) times that of x.
    """
    return var + recenter * (recenter + 2.0) * between


class Calibration:
    """RBN as one map a plane, `scale * (x - about) + shift`, and its gradient as another.

    Args:
        near: The planes' means of x - about, (N, C).
        off: `(1 + weight_recenter) * about - mean` of x', (C,): 0 where that is the batch's and about x's own.
        rstd: 1 / standard deviation of x', (C,).
        parameters: weight, bias (None: 1 and 0), weight_readjust, bias_readjust, weight_recenter, (C,) each.
        sigmoid: The framework's.
    """

    def __init__(
        self,
        near: Array,
        off: Array,
        rstd: Array,
        parameters: Sequence[Array | None],
        sigmoid: Callable[[Array], Array],
    ) -> None:
        weight, self.bias, self.readjust, start, self.recenter = parameters
        self.near, self.rstd = near, rstd
        self.factor = rstd if weight is None else weight * rstd
        self.added = self.recenter * near + off  # x' - its mean is x - about + this
        self.mean = near + self.added
        self.gate = sigmoid(self.readjust * (rstd * self.mean) + start)

    def map(self) -> tuple[Array, Array]:
        """The output's scale and shift, (N, C) each."""
        scale = self.gate * self.factor
        shift = scale * self.added
        return scale, shift if self.bias is None else shift + self.bias

    def learn(self, total: Array, product: Array) -> tuple[list[Array], Array, Array]:
        """The gradients of weight, bias, weight_readjust and bias_readjust, and two sums over the batch, (C,) each.

        The sums, average and slope, are what the batch's mean and variance make every element's gradient depend on;
        processes that normalise together add theirs.

        Args:
            total, product: The planes' sums of the output's gradient g and of g * (x - about), (N, C) each.
        """
        gated = self.gate * (product + self.added * total)
        on_z = (1.0 - self.gate) * gated * self.factor
        self.on_mean = self.readjust * self.rstd * on_z
        self.total = self.gate * self.factor * total + self.on_mean  # of the gradient of x' without the sums
        learned = [
            gated.sum(0) * self.rstd,
            total.sum(0),
            (on_z * self.mean).sum(0) * self.rstd,
            on_z.sum(0),
        ]
        slope = (self.factor * gated + self.on_mean * self.mean).sum(0) * (self.rstd * self.rstd)
        return learned, self.total.sum(0), slope

    def trace(
        self, average: Array | float, slope: Array | float, length: int, about: Array | float
    ) -> tuple[Array, Array, Array]:
        """The gradient of x, `scale * g + shift - slope * (x - about)`, and that of weight_recenter.

        Args:
            average, slope: The sums of all processes, divided by all their values a channel; 0 where the running
                statistics normalise, which depend on no x.
            length: Values of a plane.
            about: (C,).

        Returns:
            scale (N, C), shift (N, C), the gradient of weight_recenter (C,).
        """
        on_plane = self.total / length - average - slope * self.mean  # the mean gradient of x' there
        shift = self.on_mean / length - average - slope * self.added + self.recenter * on_plane
        return self.gate * self.factor, shift, ((self.near + about) * on_plane).sum(0) * length
