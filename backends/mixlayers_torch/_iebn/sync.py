"""IEBN and RBN over the batches of several processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mixlayers._core.conversion import exchange
from mixlayers_torch._iebn.layer import _IEBN, PerInstance, in_place_of
from mixlayers_torch._iebn.rbn import _RBN


class _Sync(PerInstance):
    """What `SyncIEBN` and `SyncRBN` have in common."""

    host = nn.SyncBatchNorm
    process_group: Any = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _group(self) -> Any:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return None
        group = self.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None


class SyncIEBN(_Sync, _IEBN):
    """IEBN that normalises with the statistics of all processes' batches together, as nn.SyncBatchNorm does.

    Mean and variance are those of the joint batch, whatever each process's share of it, on CPU and GPU alike; the
    attention comes from each instance and needs no other process. One exchange in the forward (mean, variance, count)
    and one in the backward. In eval mode, without torch.distributed or in a group of one it is IEBN. Gradients of
    parameters are each process's own, for DistributedDataParallel to average. Takes (N, C) and (N, C, ...).

    Args:
        process_group: The processes; None: all. The others are those of IEBN2d.
    """

    @classmethod
    def convert_sync_iebn(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """Replace every IEBN in a model by SyncIEBN with the same parameters and buffers; a shared layer once.

        Args:
            module: Changed in place.
            process_group: For the new layers.

        Returns:
            The module, or the new layer if the module itself is an IEBN.
        """
        return _converted(module, process_group, _IEBN, cls)


class SyncRBN(_Sync, _RBN):
    """RBN that normalises with the statistics of all processes' batches together: to RBN what SyncIEBN is to IEBN.

    Each instance's own means, by which it is recentred and scaled, need no other process.

    Args:
        process_group: The processes; None: all. The others are those of RBN2d.
    """

    @classmethod
    def convert_sync_rbn(cls, module: nn.Module, process_group: Any = None) -> nn.Module:
        """As `SyncIEBN.convert_sync_iebn`, of every RBN."""
        return _converted(module, process_group, _RBN, cls)


def _converted(module: nn.Module, process_group: Any, old: type[PerInstance], new: type[Any]) -> nn.Module:
    if isinstance(module, old):
        layer: nn.Module = in_place_of(module, new)
        vars(layer)["process_group"] = process_group
        return layer
    layers = list(module.modules())
    norms = [each for each in layers if isinstance(each, old)]
    exchange(layers, {id(norm): _converted(norm, process_group, old, new) for norm in norms})
    return module
