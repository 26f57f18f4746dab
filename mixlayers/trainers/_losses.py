"""Functional losses, mixed where they are called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from inspect import signature
from typing import Any, Final

import torch.nn.functional as F
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.overrides import TorchFunctionMode

from mixlayers import MixedTarget
from mixlayers._core.errors import refuse
from mixlayers.torch import Mixer

LABEL_LOSSES: Final = {
    loss: signature(loss)
    for loss in (
        F.cross_entropy,
        F.nll_loss,
        F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
    )
}


class LabelLosses(TorchFunctionMode):
    """From the net's first forward to the end of a training step, losses of mixed outputs are blended.

    Known are the losses whose second argument is a label: `F.cross_entropy`, `F.nll_loss`,
    `F.binary_cross_entropy` and `F.binary_cross_entropy_with_logits`, also where a module calls them. Each finds the
    forward by the output that it is given, so that it does not matter what else ran. A loss of anything else is left
    alone, and so is every other function: where no loss used the labels of a mixed forward, the mixer raises in
    backward.

    Args:
        net: The module that is mixed.
        mixer: Its mixer.
    """

    def __init__(self, net: nn.Module, mixer: Mixer) -> None:
        super().__init__()
        mixer.loss(F.cross_entropy)  # from now on every training forward mixes
        self._mixer = mixer
        self._open: ExitStack | None = None  # while a training step runs whose net has not been called
        self.handle = net.register_forward_hook(self._after)

    def run(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a training step."""
        with ExitStack() as stack:
            self._open = stack
            try:
                return step(*args, **kwargs)
            finally:
                self._open = None

    def _after(self, net: nn.Module, args: Any, output: Any) -> None:
        if self._open is not None:  # not earlier: a mode makes each of PyTorch's functions slower
            self._open.enter_context(self)
            self._open = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in LABEL_LOSSES:
            return func(*args, **kwargs)
        given = LABEL_LOSSES[func].bind(*args, **kwargs).arguments
        output, target = given.pop("input"), given.pop("target")
        if isinstance(target, MixedTarget) or target.requires_grad or not output.requires_grad:
            # mixed already; no label; a metric
            return func(output, target, **given)
        return self._blended(func, output, target, given)

    @_disable_dynamo  # a compiled training_step breaks its graph here
    def _blended(self, func: Any, output: Tensor, target: Tensor, given: dict[str, Any]) -> Tensor:
        mixed = self._mixer.target_for(target, output)
        if mixed.mixed:
            _check_reduced(func.__name__, given, mixed.s)
            self._check_runs_once(func.__name__)
        loss: Tensor = mixed.blend(lambda y: func(output, y, **given))
        return loss if mixed.loss_scale == 1.0 else loss * mixed.loss_scale

    def _check_runs_once(self, name: str) -> None:
        """Raise in a part of the step that backward runs again, when the step itself is over."""
        if self._mixer._autograd.segments(gradients=True):
            refuse(
                f"training_step calls {name} inside an activation checkpoint, which backward runs again when nobody "
                "would blend it",
                'call it outside, or make the loss a method and name it, Mixing(loss="my_loss")',
            )


def _check_reduced(name: str, given: dict[str, Any], s: Any) -> None:
    """Raise if the samples' losses are to become another loss, in which two labels' shares may not add up."""
    each = given.get("reduction") == "none" or given.get("reduce") is False
    if each or getattr(s, "ndim", 0):
        why = (
            'with reduction="none" it is a part of another loss (focal, weighted, masked), which may use the labels '
            "elsewhere or not be linear in them"
            if each
            else "lam is drawn per sample, so that the loss must have one value per sample"
        )
        refuse(
            f"training_step calls {name} on a mixed output, and {why}",
            'make the whole loss a method self.my_loss(output, labels) and name it, Mixing(loss="my_loss")',
        )
