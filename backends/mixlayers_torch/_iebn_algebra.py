"""IEBN's algebra on vectors (C,) and (N, C), between its passes over x.

The same expressions serve NumPy's arrays, whose calls cost less than tensors', on the CPU, and tensors elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def arrays(*tensors: Tensor) -> list[Any]:
    """Views of float32 or float64 tensors: NumPy's on the CPU."""
    return [t.detach().numpy() if t.device.type == "cpu" else t.detach() for t in tensors]


def tensor(array: Any) -> Tensor:
    """A view as a tensor again."""
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def rounded(array: Any, kind: torch.dtype) -> Any:
    """The array in another precision."""
    return array.to(kind) if isinstance(array, Tensor) else array.astype(_NUMPY[kind], copy=False)


def gates(total: Tensor, weight_readjust: Tensor, bias_readjust: Tensor, space: int) -> Tensor:
    """`sigmoid(weight_readjust * total / space + bias_readjust)`, (N, C), in total's precision."""
    kind = total.dtype
    return torch.addcmul(
        bias_readjust.detach().to(kind), total, weight_readjust.detach().to(kind) / space
    ).sigmoid_()


@dataclass
class Slopes:
    """What the gradient's sums say of the parameters, and of x.

    Attributes:
        weight, bias, weight_readjust, bias_readjust: Their gradients, (C,).
        on_g: What dx takes of the gradient, (N, C).
        shift: The constants in dx that come from the attention, (N, C).
        average: The normalised output's gradients, summed over the batch, as `slope`: (C,).
        slope: The same times (x - mean).
        factor: What both are multiplied by.
    """

    weight: Any
    bias: Any
    weight_readjust: Any
    bias_readjust: Any
    on_g: Any
    shift: Any
    average: Any
    slope: Any
    factor: Any


def slopes(
    total: Any, product: Any, gate: Any, gap: Any, rstd: Any, weight: Any, weight_readjust: Any, space: int
) -> Slopes:
    """The gradients, but for what the batch's statistics add to dx.

    Args:
        total, product: The sums over space of the gradient, and of the gradient times (x - mean), (N, C).
        gate: The attention, (N, C).
        gap: The sums of x over space, (N, C).
        rstd, weight, weight_readjust: (C,).
        space: How many values a sum is of.
    """
    factor = weight * rstd
    through = product * gate
    slope = through.sum(0)
    on_z = through - through * gate  # to be multiplied by factor
    return Slopes(
        weight=rstd * slope,
        bias=total.sum(0),
        weight_readjust=(on_z * gap).sum(0) * (factor / space),
        bias_readjust=on_z.sum(0) * factor,
        on_g=gate * factor,
        shift=on_z * (factor * weight_readjust / space),
        average=(gate * total).sum(0),
        slope=slope,
        factor=factor,
    )
