"""Losses and accuracy of mixed targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from mixlayers import MixedTarget

if TYPE_CHECKING:
    from mixlayers_torch._mixer import Mixer


def cross_entropy(output: Tensor, target: MixedTarget | Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits, mean over the batch, for mixed or plain targets.

    Equal to `F.cross_entropy(output, target.soft(num_classes), label_smoothing=...) * target.loss_scale`,
    with one log-softmax for both labels.

    Args:
        output: Logits, (N, K) or (N, K, ...).
        target: A mixed target, class indices or soft labels, as F.cross_entropy takes them.
        label_smoothing: Epsilon in [0, 1).
    """
    if not isinstance(target, MixedTarget):
        return F.cross_entropy(output, target, label_smoothing=label_smoothing)
    # cross_entropy of log-probabilities is their negative log-likelihood: their log-softmax is themselves
    logs = F.log_softmax(output, 1)

    def each(y: Tensor) -> Tensor:
        if y.is_floating_point():
            return -(y * logs).sum(1)
        return F.nll_loss(logs, y, reduction="none")

    loss = target.blend(each)
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * logs.mean(1)
    return loss.mean() * target.loss_scale


def accuracy(output: Tensor, target: MixedTarget | Tensor) -> Tensor:
    """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

    Args:
        output: Scores, (N, K).
        target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.

    Returns:
        A scalar tensor on the output's device.
    """
    mixed = target if isinstance(target, MixedTarget) else MixedTarget(target)
    used, predicted = mixed.used, output.argmax(1)
    hits: Tensor = mixed.blend(lambda y: (predicted == (y.argmax(1) if y.ndim > 1 else y)).float())
    mixed.used = used  # a metric is no loss: one must still use the target
    return hits.mean()


def mixed_loss(criterion: Any, mixer: Mixer) -> Any:
    """The criterion, blended with the plan of the mixer's last forward."""
    if isinstance(criterion, MixedLoss | MixedFunction):
        raise ValueError("this criterion already blends: pass the plain one to mixer.loss.")
    if not isinstance(criterion, nn.Module):
        return MixedFunction(criterion, mixer)
    kind = type(criterion)
    mixed: Any = nn.Module.__new__(type(f"Mixed{kind.__name__}", (MixedLoss, kind), {}))
    vars(mixed).update(vars(criterion), plain=(criterion,), mixer=mixer)
    return mixed


class MixedLoss(nn.Module):
    """Made a base of the criterion's own type by `mixed_loss`, so that `isinstance` still holds."""

    plain: tuple[nn.Module]  # in a tuple, lest it become a submodule
    mixer: Mixer

    def forward(self, output: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        """The plain loss of a clean forward; the blended one of a mixed forward."""
        return _blended(super().forward, self.mixer, output, target, *args, **kwargs)

    def __reduce__(self) -> Any:
        return mixed_loss, (self.plain[0], self.mixer)


class MixedFunction:
    """A loss function, blended."""

    def __init__(self, criterion: Any, mixer: Mixer) -> None:
        self.criterion, self.mixer = criterion, mixer

    def __call__(self, output: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        return _blended(self.criterion, self.mixer, output, target, *args, **kwargs)


def _blended(criterion: Any, mixer: Mixer, output: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    mixed = mixer.target_for(target)
    loss = mixed.blend(lambda y: criterion(output, y, *args, **kwargs))
    return loss if mixed.loss_scale == 1.0 else loss * mixed.loss_scale
