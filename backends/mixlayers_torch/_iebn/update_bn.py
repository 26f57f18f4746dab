"""The running statistics of an average of weights, made anew from data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

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
    momenta = [norm.momentum for norm in norms]
    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the average over all uses, several in a batch too
        for batch in loader if norms else ():
            x = batch[0] if isinstance(batch, tuple | list) else batch
            model(x if device is None else x.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
