"""Turn a model's batch norms into IEBN or RBN, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, report
from mixlayers_torch._iebn import holders
from mixlayers_torch._iebn.act import IEBNAct2d, RBNAct2d, is_batchnorm_act
from mixlayers_torch._iebn.layer import _IEBN, IEBN1d, IEBN2d, IEBN3d, PerInstance, in_place_of
from mixlayers_torch._iebn.rbn import _RBN, RBN1d, RBN2d, RBN3d
from mixlayers_torch._iebn.sync import SyncIEBN, SyncRBN

Model = TypeVar("Model", bound=nn.Module)
Also = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


@dataclass(frozen=True)
class _Family:
    """The layers of a method that stand in for BatchNorm.

    Attributes:
        name: Of the method.
        kind: Of all its layers.
        layers: Those with a host of their own.
        act: The one for timm's.
    """

    name: str
    kind: type[PerInstance]
    layers: tuple[Any, ...]
    act: Any

    def layer_for(self, norm: nn.Module) -> Any:
        """The class that stands in for a norm's, or None."""
        if is_batchnorm_act(type(norm)):
            return self.act
        return next((layer for layer in self.layers if layer.host is type(norm)), None)


_FAMILY_IEBN: Final = _Family("IEBN", _IEBN, (IEBN1d, IEBN2d, IEBN3d, SyncIEBN), IEBNAct2d)
_FAMILY_RBN: Final = _Family("RBN", _RBN, (RBN1d, RBN2d, RBN3d, SyncRBN), RBNAct2d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


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
            without a weight is to be preserved.
    """
    return _convert(model, _FAMILY_IEBN, skip, preserve_output, also)


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
    return _convert(model, _FAMILY_RBN, skip, preserve_output, also)


def _convert(model: Model, family: _Family, skip: Layers, preserve_output: bool, also: Also) -> Model:
    def bare(norm: Any) -> str | None:
        left = not preserve_output or type(norm) in also
        return None if left or norm.weight is not None else "affine=False"

    chosen = norms_to_convert(
        model,
        _modules(model),
        skip,
        is_norm=lambda module: isinstance(module, _BATCH_NORM) or type(module) in also or _is_frozen(module),
        is_known=lambda norm: type(norm) in also or family.layer_for(norm) is not None,
        bare=bare,
    )
    scaled: set[int] = set()

    def convert(norm: nn.Module) -> nn.Module:
        if type(norm) in also:
            return also[type(norm)](norm)
        new: Any = family.layer_for(norm).from_batchnorm(norm)
        if new.affine and not any(parameter.requires_grad for parameter in norm.parameters()):
            new.requires_grad_(False)
        if preserve_output and id(new.weight) not in scaled:  # norms may share a weight
            scaled.add(id(new.weight))
            with torch.no_grad():
                new.weight.div_(new.bias_readjust.sigmoid())
        return new

    return _replace(model, chosen, convert, family.name)


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module is a frozen norm as detectors have them: all buffers, and no BatchNorm to PyTorch."""
    return (
        "BatchNorm" in type(module).__name__
        and "running_mean" in module._buffers
        and not isinstance(module, PerInstance)
    )


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
    return _revert(model, _FAMILY_IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """Replace a model's RBN layers by BatchNorm, in place: what `convert_rbn` did, undone.

    Args:
        model: Any module; an RBN that is the model itself is returned reverted.
        preserve_output: Fold the scale in: multiply each weight by sigmoid(bias_readjust). Exact where
            weight_readjust and weight_recenter are 0; other layers stay RBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return _revert(model, _FAMILY_RBN, preserve_output)


def _revert(model: Model, family: _Family, preserve_output: bool) -> Model:
    chosen = norms_to_revert(model, _modules(model), family.kind, family.name, preserve_output)
    scaled: set[int] = set()

    def revert(norm: PerInstance) -> nn.Module:
        new, attention = _plain(norm), norm.bias_readjust
        if preserve_output and id(new.weight) not in scaled:
            scaled.add(id(new.weight))
            with torch.no_grad():
                new.weight.mul_(attention.sigmoid())
        return new

    return _replace(model, chosen, revert, "BatchNorm")


def iebn_parameters(model: nn.Module, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with their own weight decay for what IEBN and RBN add to BatchNorm.

    Decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. So:
    `torch.optim.SGD(iebn_parameters(model), lr=0.1, weight_decay=1e-4)`.

    Args:
        model: One with IEBN layers, such as `convert_iebn` makes.
        weight_decay: Of the attention.

    Returns:
        Two groups: all other parameters; weight_readjust, bias_readjust and weight_recenter with `weight_decay`.
    """
    attention: dict[Tensor, None] = {}
    for norm in _modules(model).values():
        if isinstance(norm, PerInstance):
            attention |= {getattr(norm, name): None for name in norm.starts}
    if not attention:
        raise ValueError(f"{type(model).__name__} holds no IEBN or RBN layer: convert_iebn(model) first.")
    others = [parameter for parameter in model.parameters() if parameter not in attention]
    return [{"params": others}, {"params": list(attention), "weight_decay": weight_decay}]


def _modules(model: nn.Module) -> dict[str, Any]:
    """All modules by name, the model itself as ''."""
    return dict(model.named_modules())


def _plain(norm: PerInstance) -> Any:
    """The BatchNorm that a layer stands in for, with its parameters, statistics, hooks and mode."""
    plain = in_place_of(norm, norm.host)
    vars(plain).pop("host", None)
    for name in norm.starts:
        del plain._parameters[name]
    return plain


def _replace(model: Model, chosen: dict[str, Any], convert: Callable[[Any], nn.Module], by: str) -> Model:
    before = {id(parameter) for parameter in model.parameters()}
    new = {norm: convert(norm) for norm in chosen.values()}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    result: Any = new.get(model, model)
    added = {name: p for name, p in result.named_parameters() if id(p) not in before}
    report(chosen, len(new), by, sum(parameter.numel() for parameter in added.values()))
    if added:
        holders.warn(result, before, set(added))
    return result
