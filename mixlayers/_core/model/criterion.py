"""Any criterion, blended with the plan of the forward that made its output."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import scaled
from mixlayers._core.labels.loss_call import Call, Which, check_which
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.model.autograd import Autograd

_OWN = frozenset({"forward", "_compiled_call_impl"})
"""What others put on a criterion to change its calls; it stays with the plain one, whose forward is called."""


class Origins(Protocol):
    """Who tells the forward that made an output: a mixer."""

    @property
    def _framework(self) -> Framework:
        """The tensors'."""

    @property
    def _autograd(self) -> Autograd:
        """Theirs."""

    def target_for(self, target: Any, output: Any = None) -> MixedTarget:
        """The labels, mixed as the output was."""


def mixed_loss(criterion: Any, mixer: Origins, labels: Which = None) -> Any:
    """The criterion, blended with the plan of the forward that made its output."""
    if isinstance(criterion, MixedLoss) or getattr(criterion, "func", None) is _blended:
        raise ValueError("this criterion already blends: pass the plain one to mixer.loss.")
    check_which(labels)
    module: Any = mixer._framework.module
    if not isinstance(criterion, module):
        return partial(_blended, criterion, mixer, labels)
    inner = getattr(criterion, "_orig_mod", criterion)  # of one that is compiled
    kind = type(inner)
    mixed: Any = module.__new__(type(f"Mixed{kind.__name__}", (MixedLoss, kind), {}))
    vars(mixed).update({name: value for name, value in vars(inner).items() if name not in _OWN})
    vars(mixed).update(plain=(criterion,), mixer=mixer, which=labels)
    return mixed


class MixedLoss:
    """Made a base of the criterion's own type by `mixed_loss`, so that `isinstance` still holds."""

    plain: tuple[Any]  # in a tuple, lest it become a part of the module
    mixer: Origins
    which: Which

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The plain loss of a clean forward; the blended one of a mixed forward."""
        changed = vars(self.plain[0]).get("forward")  # compiled, or patched
        plain = super().forward if changed is None else changed  # type: ignore[misc]  # of the other base
        return _blended(plain, self.mixer, self.which, *args, **kwargs)

    def __reduce__(self) -> Any:
        return mixed_loss, (self.plain[0], self.mixer, self.which)


def _blended(criterion: Any, mixer: Origins, which: Which, /, *args: Any, **kwargs: Any) -> Any:
    call = Call(criterion, which, args, kwargs, mixer._framework)
    mixed = mixer.target_for(call.labels, call.outputs)
    if mixed.plan is not None and mixed.mixed:
        call.check_told(mixed.plan.batch_size, mixer._framework, mixer._autograd.wants_gradient)
    loss = mixed.blend(call.loss)
    return loss if mixed.loss_scale == 1.0 else scaled(loss, mixed.loss_scale)
