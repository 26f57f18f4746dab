"""The running statistics of an average of weights, made anew from data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import chainer
import chainer.links as L
from chainer.dataset import concat_examples

from mixlayers._core.iebn import average_statistics
from mixlayers_chainer._iebn.layer import PerInstance


class _Watch(chainer.LinkHook):
    """Tells of each link before it is used."""

    name = "mixlayers.update_bn"

    def __init__(self, count: Callable[[Any], None]) -> None:
        super().__init__()
        self.count = count

    def forward_preprocess(self, args: Any) -> None:
        self.count(args.link)


def update_bn(
    batches: Iterable[Any], model: chainer.Link, converter: Callable[[Any], Any] = concat_examples
) -> None:
    """One pass over the data sets the running statistics of a model's IEBN, RBN and BatchNormalization links.

    For models whose weights were averaged.

    Args:
        batches: An iterator with `repeat=False`, or arrays; of a tuple the first item is what the model takes.
        model: Its norms get new statistics, the average of all batches'.
        converter: Makes arrays of a list of examples, as iterators give.
    """
    norms = [each for each in model.links() if isinstance(each, PerInstance | L.BatchNormalization)]
    for norm in norms:
        if norm.avg_mean is not None:
            norm.avg_mean[...], norm.avg_var[...] = 0, 1
    given = (converter(batch) if isinstance(batch, list) else batch for batch in batches)
    with chainer.using_config("train", True), chainer.no_backprop_mode():
        average_statistics(norms, "decay", _Watch, model, given if norms else ())
