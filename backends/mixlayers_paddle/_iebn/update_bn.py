"""The running statistics of an average of weights, made anew from data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn

from mixlayers._core.iebn import average_statistics
from mixlayers_paddle._iebn.conversion import BATCH_NORM
from mixlayers_paddle._iebn.layer import PerInstance


def update_bn(loader: Iterable[Any], model: nn.Layer) -> None:
    """One pass over the data sets the running statistics of a model's IEBN, RBN and BatchNorm layers.

    For models whose weights were averaged (EMA). Layers that use global statistics keep theirs.

    Args:
        loader: Batches; of a tuple or list the first item is what the model takes.
        model: Its norms get new statistics, the average of all batches'; its mode stays.
    """
    every = model.sublayers(include_self=True)
    norms = [
        each for each in every if isinstance(each, (PerInstance, *BATCH_NORM)) and not each._use_global_stats
    ]
    modes = [(each, each.training) for each in every]

    @contextmanager
    def watched(count: Callable[[Any], None]) -> Iterator[None]:
        hooks = [norm.register_forward_pre_hook(lambda own, _: count(own)) for norm in norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    try:
        model.train()
        for norm in norms:
            norm._mean.zero_()
            norm._variance.fill_(1.0)
        with paddle.no_grad():
            average_statistics(norms, "_momentum", watched, model, loader if norms else ())
    finally:
        for layer, mode in modes:
            layer.training = mode
