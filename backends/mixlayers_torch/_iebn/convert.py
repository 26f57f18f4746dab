"""Turn a model's batch norms into IEBN or RBN, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from torch import nn

from mixlayers._core.audit.places import Layers
from mixlayers_torch._iebn.conversion import IEBN, MODULES, RBN

Model = TypeVar("Model", bound=nn.Module)
Also = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


def convert_iebn(
    model: Model,
    *,
    skip: Layers = (),
    preserve_output: bool = False,
    also: Also = MappingProxyType({}),
) -> Model:
    """Replace a model's BatchNorm and SyncBatchNorm layers by IEBN, in place, timm's BatchNormAct2d too.

    Weights, statistics, modes, hooks and whatever else a norm holds stay, frozen layers stay frozen, and a layer
    used twice stays one layer. What was replaced is logged ("mixlayers", INFO). The order is: convert, then
    DistributedDataParallel or FSDP, the optimizer, the average of the weights (EMA); those that know the model
    already do not know the new parameters, and a warning names them and says what to do. Other subclasses of
    BatchNorm, and frozen norms, are left as they are, and a warning names them.

    Args:
        model: Any module. A norm that is the model itself is returned converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate. The authors
            leave the downsample path plain: `skip="*downsample*"` in torchvision's ResNets.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.27 at first, so that the model
            computes the same function before its first step. Meant for pretrained models.
        also: Norms of other classes: what makes the new layer from the old one, by class. In it
            `IEBN2d.from_batchnorm(norm)` takes over what a norm like BatchNorm2d holds.

    Returns:
        The model.

    Raises:
        ValueError: If nothing is there to convert, if `skip` matches no layer, or if the output of a norm
            without a weight, or whose weight is made before each call (pruning), is to be preserved.
    """
    return MODULES.convert(model, IEBN, skip, preserve_output, also)


def convert_rbn(
    model: Model, *, skip: Layers = (), preserve_output: bool = False, also: Also = MappingProxyType({})
) -> Model:
    """Replace a model's BatchNorm and SyncBatchNorm layers by RBN, in place: all that `convert_iebn` says holds.

    Args:
        model, skip, also: As of `convert_iebn`.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.73 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.

    Returns:
        The model.

    Raises:
        ValueError: As `convert_iebn`.
    """
    return MODULES.convert(model, RBN, skip, preserve_output, also)


def revert_iebn(model: Model, *, preserve_output: bool = False) -> Model:
    """Replace a model's IEBN layers by BatchNorm, in place: what `convert_iebn` did, undone.

    Args:
        model: Any module; an IEBN that is the model itself is returned reverted.
        preserve_output: Fold the attention in: multiply each weight by sigmoid(bias_readjust). Exact where
            weight_readjust is 0; other layers stay IEBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return MODULES.revert(model, IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """Replace a model's RBN layers by BatchNorm, in place: as `revert_iebn` undoes `convert_iebn`.

    Args:
        model: As of `revert_iebn`.
        preserve_output: Fold the scale in. Exact where weight_readjust and weight_recenter are 0.

    Returns:
        The model.

    Raises:
        ValueError: As `revert_iebn`.
    """
    return MODULES.revert(model, RBN, preserve_output)


def iebn_parameters(model: nn.Module, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with their own weight decay for what IEBN and RBN add to BatchNorm.

    Decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. So:
    `torch.optim.SGD(iebn_parameters(model), lr=0.1, weight_decay=1e-4)`.

    Args:
        model: One with IEBN layers, such as `convert_iebn` makes.
        weight_decay: Of the attention.

    Returns:
        Two groups: all other parameters; weight_readjust, bias_readjust and weight_recenter with `weight_decay`.

    Raises:
        ValueError: If the model holds no IEBN or RBN.
    """
    others, attention = MODULES.told_apart(model)
    return [{"params": others}, {"params": attention, "weight_decay": weight_decay}]
