"""The running statistics of an average of weights, made anew from data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mixlayers._core.iebn import average_statistics
from mixlayers_torch._iebn.layer import PerInstance


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: torch.device | str | None = None) -> None:
    """`torch.optim.swa_utils.update_bn`, for IEBN, RBN and BatchNorm: one pass over the data sets their statistics.

    PyTorch's own looks for BatchNorm by type and overlooks others. For models whose weights were averaged (SWA, EMA).

    Args:
        loader: Batches; of a tuple or list the first item is what the model takes.
        model: Its norms get new statistics; its mode stays.
        device: Where to bring the batches; None: as they come.
    """
    batch_norm = nn.modules.batchnorm._BatchNorm
    norms = [
        each
        for each in model.modules()
        if isinstance(each, PerInstance | batch_norm) and each.track_running_stats
    ]
    modes = [(each, each.training) for each in model.modules()]

    def run(x: Any) -> None:
        model(x if device is None else x.to(device))

    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
        average_statistics(norms, "momentum", run, loader if norms else (), old=False)
    finally:
        for module, mode in modes:
            module.training = mode
