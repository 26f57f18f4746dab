"""What float32 may cost IEBN, from what is added up and not from what one processor gave.

A processor chooses the order in which a long sum is added, so tests may ask for no more than any order gives. Every
number that a kernel stores is rounded, to half of float32's epsilon of its size; what a gradient is off by is that,
times the size of what is added up to make it. Where large terms cancel, as a plane's sum of g * x and mean * sum(g) do,
their size counts and not what is left of them.
"""

import numpy as np

from tests.support.reference_iebn import Array, _attention, _axes, _normalised, _spread

ROUNDINGS = 12
"""Of gap, mean, variance, 1 / deviation, attention, scale, shift, the plane's two sums and their difference, its
product with the scale, the sum over the batch."""

UNIT = np.finfo(np.float32).eps / 2


def limits(
    gradient: Array,
    x: Array,
    weight: Array,
    bias: Array,
    weight_readjust: Array,
    bias_readjust: Array,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float,
    serial: bool = False,
) -> list[Array]:
    """How far y and the gradients of x and the four parameters may be from `iebn` and `iebn_backward`, in this order.

    Args:
        gradient, x, weight, bias, weight_readjust, bias_readjust, mean, var, eps: As given to `iebn_backward`.
        serial: Whether sums over space are the framework's own, added one by one. While such a sum of n grows to its
            end, its roundings, independent and of any sign, grow to sqrt(n) / 3 of the last; this allows thrice that.
    """
    space, batch = _axes(x)
    _, rstd = _normalised(x, mean, var, eps)
    centre = np.abs(_spread(x.mean(axis=batch) if mean is None else mean, x))
    a = _attention(x, weight_readjust, bias_readjust)
    pixels = x[0, 0].size
    gap = _summed(x, space) / pixels
    gate = a * (
        1.0 + (1.0 - a) * (np.abs(_spread(weight_readjust, x)) * gap + np.abs(_spread(bias_readjust, x)))
    )
    w, apart = (
        np.abs(_spread(weight, x)),
        rstd * (np.abs(x) + centre) + 1.0,
    )  # or about another value of the batch

    total, product = _summed(gradient, space), _summed(gradient * x, space)
    on_a = rstd * (product + centre * total)
    on_z = w * on_a * gate * (1.0 - a + 1.0 / ROUNDINGS)  # 1 - a is rounded as 1 is
    on_x = np.abs(gradient) * w * gate
    if mean is None:
        average, slope = ((w * gate * each).mean(axis=0, keepdims=True) / pixels for each in (total, on_a))
        on_x = on_x + average + apart * slope
    on_x = rstd * on_x + np.abs(_spread(weight_readjust, x)) * on_z / pixels
    # A kernel may take its terms about another value of the channel, so that its largest element counts for all of it
    sizes = [
        (w * gate * apart + np.abs(_spread(bias, x))).max(axis=batch, keepdims=True),
        on_x.max(axis=batch, keepdims=True),
        (on_a * gate).sum(axis=batch),
        total.sum(axis=batch),
        (on_z * gap).sum(axis=batch),
        on_z.sum(axis=batch),
    ]
    roundings = ROUNDINGS + (pixels**0.5 if serial else 0.0)
    return [roundings * UNIT * size for size in sizes]


def _summed(addends: Array, space: tuple[int, ...]) -> Array:
    """The size of a sum on its way: where it ends, and how far addends of either sign lead it astray."""
    walk = np.sqrt((addends**2).sum(axis=space, keepdims=True))
    size: Array = np.abs(addends.sum(axis=space, keepdims=True)) + walk
    return size
