"""Turn a model's batch norms into IEBN or RBN, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from paddle import nn

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, report
from mixlayers_paddle._iebn import holders
from mixlayers_paddle._iebn.act import IEBNAct, RBNAct
from mixlayers_paddle._iebn.layer import _IEBN, IEBN1D, IEBN2D, IEBN3D, PerInstance
from mixlayers_paddle._iebn.rbn import _RBN, RBN1D, RBN2D, RBN3D
from mixlayers_paddle._iebn.sync import SyncIEBN

Model = TypeVar("Model", bound=nn.Layer)
Also = Mapping[type[nn.Layer], Callable[[Any], nn.Layer]]


@dataclass(frozen=True)
class _Family:
    """The layers of a method that stand in for BatchNorm.

    Attributes:
        name: Of the method.
        kind: Of all its layers.
        layers: By the class that each stands in for.
    """

    name: str
    kind: type[PerInstance]
    layers: Mapping[type[nn.Layer], Any]


def _family(name: str, kind: type[PerInstance], *layers: Any) -> _Family:
    return _Family(name, kind, {layer.host: layer for layer in layers})


_FAMILY_IEBN: Final = _family("IEBN", _IEBN, IEBN1D, IEBN2D, IEBN3D, SyncIEBN, IEBNAct)
_FAMILY_RBN: Final = _family("RBN", _RBN, RBN1D, RBN2D, RBN3D, RBNAct)
BATCH_NORM = (nn.layer.norm._BatchNormBase, nn.BatchNorm)
_HOOKS = tuple(name for name in vars(nn.Layer()) if name.startswith("_forward_"))


def convert_iebn(
    model: Model,
    *,
    skip: Layers = (),
    preserve_output: bool = False,
    also: Also = MappingProxyType({}),
) -> Model:
    """Replace a model's BatchNorm, BatchNorm1D, 2D, 3D and SyncBatchNorm layers by IEBN, in place.

    Weights, statistics, modes and hooks stay, frozen layers stay frozen, and a layer used twice stays one
    layer. What was replaced is logged ("mixlayers", INFO). The order is: convert, then paddle.DataParallel, the
    optimizer, the average of the weights (EMA); those that know the model already do not know the new
    parameters, and a warning names them. Subclasses of BatchNorm are left as they are, and a warning names them.

    Args:
        model: Any layer. A norm that is the model itself is returned converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate. The authors
            leave the downsample path plain: `skip="*downsample*"` in paddle.vision's ResNets.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.27 at first, so that the model
            computes the same function before its first step. Meant for pretrained models.
        also: Norms of other classes: what makes the new layer from the old one, by class. In it
            `IEBN2D.from_batchnorm(norm)` takes over what a norm like BatchNorm2D holds.

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
    """Replace a model's BatchNorm, BatchNorm1D, 2D and 3D layers by RBN, in place: all that `convert_iebn` says holds.

    SyncBatchNorm layers are left as they are, and a warning names them: there is no synchronised RBN for Paddle.

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
        return None if left or norm.weight is not None else "weight_attr=False"

    chosen = norms_to_convert(
        model,
        _layers(model),
        skip,
        is_norm=lambda layer: isinstance(layer, BATCH_NORM) or type(layer) in also,
        is_known=lambda norm: type(norm) in also or type(norm) in family.layers,
        bare=bare,
    )
    scaled: set[int] = set()

    def convert(norm: Any) -> nn.Layer:
        if type(norm) in also:
            return also[type(norm)](norm)
        new = family.layers[type(norm)].from_batchnorm(norm)
        affine = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
        if affine and all(parameter.stop_gradient for parameter in affine):
            for name in new.starts:
                getattr(new, name).stop_gradient = True
        if preserve_output and id(new.weight) not in scaled:  # norms may share a weight
            scaled.add(id(new.weight))
            new.weight.set_value(new.weight / new.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, convert, family.name)


def revert_iebn(model: Model, *, preserve_output: bool = False) -> Model:
    """Replace a model's IEBN layers by BatchNorm, in place: what `convert_iebn` did, undone.

    Args:
        model: Any layer; an IEBN that is the model itself is returned reverted.
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
        model: Any layer; an RBN that is the model itself is returned reverted.
        preserve_output: Fold the scale in: multiply each weight by sigmoid(bias_readjust). Exact where
            weight_readjust and weight_recenter are 0; other layers stay RBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return _revert(model, _FAMILY_RBN, preserve_output)


def _revert(model: Model, family: _Family, preserve_output: bool) -> Model:
    chosen = norms_to_revert(model, _layers(model), family.kind, family.name, preserve_output)
    scaled: set[int] = set()

    def revert(norm: Any) -> nn.Layer:
        new = norm.to_batchnorm()
        if preserve_output and id(new.weight) not in scaled:
            scaled.add(id(new.weight))
            new.weight.set_value(new.weight * norm.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, revert, "BatchNorm")


def iebn_parameters(model: nn.Layer, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with their own weight decay for what IEBN and RBN add to BatchNorm.

    Decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. So:
    `paddle.optimizer.Momentum(0.1, parameters=iebn_parameters(model), weight_decay=1e-4)`.

    Args:
        model: One with IEBN layers, such as `convert_iebn` makes.
        weight_decay: Of the attention.

    Returns:
        Two groups: all other parameters; weight_readjust, bias_readjust and weight_recenter with `weight_decay`.
    """
    attention: dict[int, Any] = {}
    for norm in _layers(model).values():
        if isinstance(norm, PerInstance):
            attention |= {id(own): own for own in (getattr(norm, name) for name in norm.starts)}
    if not attention:
        raise ValueError(f"{type(model).__name__} holds no IEBN or RBN layer: convert_iebn(model) first.")
    others = [parameter for parameter in model.parameters() if id(parameter) not in attention]
    return [{"params": others}, {"params": list(attention.values()), "weight_decay": float(weight_decay)}]


def _layers(model: nn.Layer) -> dict[str, Any]:
    """All layers by name, the model itself as ''."""
    return dict(model.named_sublayers(include_self=True))


def _replace(model: Model, chosen: dict[str, Any], convert: Callable[[Any], nn.Layer], by: str) -> Model:
    before = {id(parameter) for parameter in model.parameters()}
    new = {id(norm): convert(norm) for norm in chosen.values()}
    for parent in model.sublayers(include_self=True):
        for name, child in parent._sub_layers.items():
            if id(child) in new:
                parent._sub_layers[name] = new[id(child)]
    result: Any = new.get(id(model), model)
    added = {name: p for name, p in result.named_parameters() if id(p) not in before}
    report(chosen, len(new), by, sum(parameter.size for parameter in added.values()))
    if added:
        holders.warn(result, before, set(added))
    return result


def _with_hooks_of(old: nn.Layer, new: nn.Layer) -> nn.Layer:
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    return new
