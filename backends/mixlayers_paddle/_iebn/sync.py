"""IEBN over the batches of several processes."""

from __future__ import annotations

from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor, nn

from mixlayers._core.conversion import exchange
from mixlayers_paddle._iebn.given import Statistics
from mixlayers_paddle._iebn.layer import _IEBN
from mixlayers_paddle._iebn.plain import gated


class SyncIEBN(_IEBN):
    """IEBN that normalises with the statistics of all processes' batches together, as nn.SyncBatchNorm does.

    Mean and variance are those of the joint batch, whatever each process's share of it, on CPU (gloo) and GPU alike;
    the attention comes from each instance and needs no other process. In eval mode, or in one process, it is IEBN.
    Gradients of parameters are each process's own, for paddle.DataParallel to average. Takes (N, C) and (N, C, ...).

    Args:
        As those of IEBN2D.
    """

    host = nn.SyncBatchNorm

    def _normalise(self, x: Tensor, statistics: Statistics) -> Tensor:
        if not (statistics.batch and dist.is_initialized() and dist.get_world_size() > 1):
            return super()._normalise(x, statistics)
        if not paddle.in_dynamic_mode():
            raise NotImplementedError(
                "SyncIEBN cannot be traced while it trains in several processes: call model.eval() before "
                "paddle.jit.to_static, or train without it."
            )
        wide = x.astype(statistics.mean.dtype)
        xhat = _jointly_normalised(wide, statistics)
        return gated(wide, xhat, self._given()).astype(x.dtype)

    @classmethod
    def convert_sync_iebn(cls, model: Any) -> Any:
        """Replace every IEBN in a model by SyncIEBN with the same parameters; a shared layer once.

        Args:
            model: Changed in place.

        Returns:
            The model, or the new layer if the model itself is an IEBN.
        """
        if isinstance(model, _IEBN):
            return cls.from_batchnorm(model)
        layers = model.sublayers(include_self=True)
        exchange(layers, {id(each): cls.from_batchnorm(each) for each in layers if isinstance(each, _IEBN)})
        return model


def _jointly_normalised(x: Tensor, statistics: Statistics) -> Tensor:
    """x normalised with the joint batch; updates the running statistics."""
    x = x.moveaxis(1, -1)
    batch = list(range(x.ndim - 1))
    own = paddle.to_tensor([x.size / x.shape[-1]], x.dtype, place=x.place)
    *_, count = joint = _all_sum(paddle.concat([x.sum(batch), own]))
    mean = joint[:-1] / count
    centred = x - mean
    var = _all_sum(centred.square().sum(batch)) / count
    with paddle.no_grad():
        share = statistics.factor
        for running, new in ((statistics.mean, mean), (statistics.var, var)):
            paddle.assign(running * (1 - share) + new * share, running)
    return (centred * (var + statistics.eps).rsqrt()).moveaxis(-1, 1)


def _all_sum(x: Tensor) -> Tensor:
    """The sum over all processes, and so is its gradient. Not a PyLayer: see `native`."""
    total = x.clone()
    if not total.stop_gradient:
        total.register_hook(_reduced)
    with paddle.no_grad():
        dist.all_reduce(total)
    return total


def _reduced(gradient: Tensor) -> Tensor:
    with paddle.set_grad_enabled(not gradient.is_leaf):  # only create_graph=True gives a gradient a history
        return _all_sum(gradient)
