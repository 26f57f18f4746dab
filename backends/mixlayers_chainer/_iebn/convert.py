"""Turn a model's batch normalisations into IEBN or RBN, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import chainer
from chainer import Parameter

from mixlayers._core.audit.places import Layers
from mixlayers_chainer._iebn.conversion import IEBN, LINKS, RBN

Model = TypeVar("Model", bound=chainer.Link)
Also = Mapping[type[chainer.Link], Callable[[Any], object]]


def convert_iebn(
    model: Model,
    *,
    skip: Layers = (),
    preserve_output: bool = False,
    also: Also = MappingProxyType({}),
) -> Model:
    """Make a model's L.BatchNormalization links IEBN, in place.

    The very links change their class and gain two parameters, so that whoever holds one, a Chain, ChainList,
    Sequential or list, holds the IEBN; parameters, statistics, names, hooks, device and update rules stay. What was
    replaced is logged ("mixlayers", INFO). The new parameters must reach the optimizer: convert first, then
    `optimizer.setup(model)` and updaters; if it was set up before, a warning says what to add, and one names a
    ParallelUpdater that has copies of the model. Subclasses, such as L.BatchRenormalization, are left as they
    are, and a warning names them.

    Args:
        model: Any link. One that is a BatchNormalization itself is converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate. The authors
            leave the downsample path plain: `skip="*.a.bn4"` in L.ResNet50Layers.
        preserve_output: Divide each gamma by sigmoid(bias_readjust), 0.27 at first, so that the model
            computes the same function before its first step. Meant for pretrained models.
        also: Norms of other classes: what changes a link in place, by class. `IEBN.from_batchnorm` does so with
            a subclass that only normalises.

    Returns:
        The model.

    Raises:
        ValueError: If nothing is there to convert, if `skip` matches no link, if a norm's axis leaves out the
            instances, or if the output of a norm without a gamma, or not yet of a size, is to be preserved.
    """
    return LINKS.convert(model, IEBN, skip, preserve_output, also)


def convert_rbn(
    model: Model, *, skip: Layers = (), preserve_output: bool = False, also: Also = MappingProxyType({})
) -> Model:
    """Make a model's L.BatchNormalization links RBN, in place: all that `convert_iebn` says holds.

    Args:
        model, skip, also: As of `convert_iebn`.
        preserve_output: Divide each gamma by sigmoid(bias_readjust), 0.73 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.

    Returns:
        The model.

    Raises:
        ValueError: As `convert_iebn`.
    """
    return LINKS.convert(model, RBN, skip, preserve_output, also)


def revert_iebn(model: Model, *, preserve_output: bool = False) -> Model:
    """Make a model's IEBN links L.BatchNormalization, in place: what `convert_iebn` did, undone.

    MultiNodeIEBN too; `chainermn.links.create_mnbn_model` then makes the model's norms normalise over all ranks.

    Args:
        model: Any link; an IEBN that is the model itself is reverted.
        preserve_output: Fold the attention in: multiply each gamma by sigmoid(bias_readjust). Exact where
            weight_readjust is 0; other links stay IEBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no link to revert.
    """
    return LINKS.revert(model, IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """Make a model's RBN links L.BatchNormalization, in place: as `revert_iebn` undoes `convert_iebn`.

    Args:
        model: As of `revert_iebn`.
        preserve_output: Fold the scale in. Exact where weight_readjust and weight_recenter are 0.

    Returns:
        The model.

    Raises:
        ValueError: As `revert_iebn`.
    """
    return LINKS.revert(model, RBN, preserve_output)


def iebn_parameters(model: chainer.Link) -> tuple[list[Parameter], list[Parameter]]:
    """The parameters that BatchNormalization has too, or other links, and those that IEBN and RBN add to it.

    Weight decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. To
    decay the others alone: `for p in iebn_parameters(model)[0]: p.update_rule.add_hook(WeightDecay(1e-4))`, after
    `optimizer.setup`.

    Raises:
        ValueError: If the model holds no IEBN or RBN.
    """
    return LINKS.told_apart(model)
