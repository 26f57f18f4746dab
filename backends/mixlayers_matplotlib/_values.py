"""Any framework's tensor as a NumPy array, and one sample of it as a picture."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

Array = npt.NDArray[Any]

_MOST_LINES: Final = 6


def as_numpy(x: Any) -> Array:
    """The values of a tensor of PyTorch, PaddlePaddle, Chainer, CuPy or NumPy, or of a sequence of numbers."""
    for method in ("detach", "cpu"):
        x = getattr(x, method, lambda x=x: x)()
    if "bfloat16" in str(getattr(x, "dtype", "")):  # NumPy has none
        x = x.float() if hasattr(x, "float") else x.astype("float32")
    x = getattr(x, "array", x)  # a Chainer Variable's
    for method in ("numpy", "get"):
        x = getattr(x, method, lambda x=x: x)()
    return np.asarray(x)


def as_features(x: Any, channel_dim: int) -> Array:
    """A batch as float32 (N, C, *spatial) or (N, F).

    Raises:
        ValueError: If it has no channels, or more than two spatial axes.
    """
    values = as_numpy(x).astype(np.float32)
    if channel_dim not in (1, -1):
        raise ValueError(f"channel_dim must be 1 or -1, got {channel_dim}.")
    if not 2 <= values.ndim <= 4:
        raise ValueError(
            f"a picture needs a batch of shape (N, C, H, W), (N, C, L) or (N, F), got {values.shape}: "
            "choose a slice of it, or give a single sample as x[None]."
        )
    return np.moveaxis(values, channel_dim, 1)


def limits(values: Array) -> tuple[float, float]:
    """The values shown as black and as white: 0 and 1 for images in that range, 0 and 255 likewise."""
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 255.0:
        return low, max(high, low + 1e-6)
    return 0.0, 1.0 if high <= 1.0 else 255.0


def show_sample(axes: Axes, sample: Array, low: float, high: float) -> None:
    """Draw one sample: (3, H, W) in colour, (1, H, W) in grey, other channels' mean as a map, (C, L) as lines."""
    bare(axes)
    if sample.ndim < 3:
        lines = sample.reshape(-1, sample.shape[-1])[:_MOST_LINES]
        axes.plot(lines.T, linewidth=1)
        axes.set_ylim(low, high)
        return
    if len(sample) == 3:
        axes.imshow(np.clip((sample.transpose(1, 2, 0) - low) / (high - low), 0.0, 1.0))
    else:
        axes.imshow(sample.mean(axis=0), cmap="gray" if len(sample) == 1 else "viridis", vmin=low, vmax=high)


def bare(axes: Axes) -> None:
    """No ticks, a grey frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#888888")


def title_of(method: str) -> str:
    """A method's repr, cut where it would not fit above a picture."""
    return method if len(method) <= 60 else f"{method.partition(',')[0]}, ...)"
