"""Turn a model's batch norms into IEBN, and back."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import paddle
from paddle import nn

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, report
from mixlayers_paddle._iebn.act import IEBNAct
from mixlayers_paddle._iebn.layer import _IEBN, ATTENTION, IEBN1D, IEBN2D, IEBN3D
from mixlayers_paddle._iebn.sync import SyncIEBN

Model = TypeVar("Model", bound=nn.Layer)

_IEBN_OF: dict[type[nn.Layer], Any] = {
    kind.host: kind for kind in (IEBN1D, IEBN2D, IEBN3D, SyncIEBN, IEBNAct)
}
_HOOKS = tuple(name for name in vars(nn.Layer()) if name.startswith("_forward_"))


def convert_iebn(model: Model, *, skip: Layers = (), preserve_output: bool = False) -> Model:
    """Replace a model's BatchNorm, BatchNorm1D, 2D, 3D and SyncBatchNorm layers by IEBN, in place.

    Weights, statistics, modes and hooks stay, frozen layers stay frozen, and a layer used twice stays one
    layer. What was replaced is logged ("mixlayers", INFO). The new parameters must reach the optimizer:
    convert first, then make it; if one holds parameters of the model already, a warning says so.
    Subclasses of BatchNorm are left as they are, and a warning names them.

    Args:
        model: Any layer. A norm that is the model itself is returned converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate. The authors
            leave the downsample path plain: `skip="*downsample*"` in paddle.vision's ResNets.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.27 at first, so that the model
            computes the same function before its first step. Meant for pretrained models.

    Returns:
        The model.

    Raises:
        ValueError: If nothing is there to convert, if `skip` matches no layer, or if the output of a norm
            without a weight is to be preserved.
    """
    chosen = norms_to_convert(
        model,
        _layers(model),
        skip,
        is_norm=lambda layer: isinstance(layer, nn.layer.norm._BatchNormBase | nn.BatchNorm),
        is_known=lambda norm: type(norm) in _IEBN_OF,
        bare="weight_attr=False" if preserve_output else None,
    )
    scaled: set[int] = set()

    def convert(norm: Any) -> nn.Layer:
        new = _IEBN_OF[type(norm)].from_batchnorm(norm)
        affine = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
        if affine and all(parameter.stop_gradient for parameter in affine):
            for name in ATTENTION:
                getattr(new, name).stop_gradient = True
        if preserve_output and id(new.weight) not in scaled:  # norms may share a weight
            scaled.add(id(new.weight))
            new.weight.set_value(new.weight / new.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, convert, "IEBN")


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
    chosen = norms_to_revert(model, _layers(model), lambda layer: isinstance(layer, _IEBN), preserve_output)
    scaled: set[int] = set()

    def revert(norm: Any) -> nn.Layer:
        new = norm.to_batchnorm()
        if preserve_output and id(new.weight) not in scaled:
            scaled.add(id(new.weight))
            new.weight.set_value(new.weight * norm.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, revert, "BatchNorm")


def iebn_parameters(model: nn.Layer, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with the attention's own weight decay.

    Decay pulls bias_readjust from -1 to 0, which lets every sample through at half scale. So:
    `paddle.optimizer.Momentum(0.1, parameters=iebn_parameters(model), weight_decay=1e-4)`.

    Returns:
        Two groups: all other parameters; weight_readjust and bias_readjust with `weight_decay`.
    """
    attention: dict[int, Any] = {}
    for norm in _layers(model).values():
        if isinstance(norm, _IEBN):
            attention |= {
                id(parameter): parameter for parameter in (norm.weight_readjust, norm.bias_readjust)
            }
    if not attention:
        raise ValueError(f"{type(model).__name__} holds no IEBN layer: convert_iebn(model) first.")
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
    added = [parameter for parameter in result.parameters() if id(parameter) not in before]
    report(chosen, len(new), by, sum(parameter.size for parameter in added))
    if added:
        _warn_of_optimizers(before, len(added))
    return result


def _with_hooks_of(old: nn.Layer, new: nn.Layer) -> nn.Layer:
    for name in _HOOKS:
        setattr(new, name, getattr(old, name))
    return new


def _warn_of_optimizers(parameters: set[int], count: int) -> None:
    """Warn if an optimizer holds parameters of the model: it will not train the new ones."""
    for thing in gc.get_objects():
        if issubclass(type(thing), paddle.optimizer.Optimizer):
            held = thing._parameter_list or []
            tensors = [p for each in held for p in (each["params"] if isinstance(each, dict) else [each])]
            if any(id(parameter) in parameters for parameter in tensors):
                warnings.warn(
                    f"this {type(thing).__name__} was made before the conversion and will not train the {count} new "
                    "parameters: convert first, then make the optimizer.",
                    stacklevel=4,
                )
