"""The losses' common part: points blended by their own shares, arguments checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mixlayers._core.labels.labels import check_tensor
from mixlayers._core.labels.target import MixedTarget

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework


def blended(framework: Framework, target: Any, each: Callable[[Any], Any], points: int) -> Any:
    """A value for each label, blended: by the share at its point where labels follow a mask, else by its sample's.

    Args:
        framework: Whose tensors they are.
        target: Mixed, or plain labels.
        each: Of plain labels, one value for each label, (N, *space).
        points: How many axes the space has.
    """
    if not isinstance(target, MixedTarget):
        check_tensor(framework, target)
        return each(target)
    check_tensor(framework, target.y)
    return target.blend_points(each, points)


def scale_of(target: Any) -> float:
    """The factor of a target's loss."""
    return target.loss_scale if isinstance(target, MixedTarget) else 1.0


def counted(framework: Framework, target: Any, count: Callable[[Any], Any], points: int) -> Any:
    """Each label's weight, blended; exactly 1 where both sides of a blend count, whatever their share."""
    return 1.0 - blended(framework, target, lambda y: 1.0 - count(y), points)


def check_reduction(reduction: str) -> None:
    """Raise unless it is one."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")


def check_smoothing(epsilon: float) -> None:
    """Raise unless label smoothing is in [0, 1]."""
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1], got {epsilon}: 0.1 is usual.")
