"""Turn a model's batch norms into IEBN, and back."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import paddle
from paddle import nn

from mixlayers._layers import Layers, select_layers
from mixlayers_paddle._iebn import _IEBN, ATTENTION, IEBN1D, IEBN2D, IEBN3D
from mixlayers_paddle._iebn_sync import SyncIEBN

Model = TypeVar("Model", bound=nn.Layer)

_IEBN_OF: dict[type[nn.Layer], Any] = {kind.host: kind for kind in (IEBN1D, IEBN2D, IEBN3D, SyncIEBN)}
_HOOKS = tuple(name for name in vars(nn.Layer()) if name.startswith("_forward_"))
_LOG = logging.getLogger("mixlayers")


def convert_iebn(model: Model, *, skip: Layers = (), preserve_output: bool = False) -> Model:
    """Replace a model's BatchNorm1D, 2D, 3D and SyncBatchNorm layers by IEBN, in place.

    Weights, statistics, modes and hooks stay, frozen layers stay frozen, and a layer used twice stays one
    layer. What was replaced is logged ("mixlayers", INFO). The new parameters must reach the optimizer:
    convert first, then make it; if one holds parameters of the model already, a warning says so.

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
    layers = _layers(model)
    chosen = {name: norm for name, norm in layers.items() if type(norm) in _IEBN_OF}
    if not (isinstance(skip, tuple | list) and not skip):
        left = select_layers(skip, layers)
        chosen = {name: norm for name, norm in chosen.items() if name not in left}
    if not chosen:
        raise ValueError(f"{type(model).__name__} holds no BatchNorm layer to convert: check skip={skip!r}.")
    bare = [name for name, norm in chosen.items() if norm.weight is None]
    if preserve_output and bare:
        raise ValueError(
            f"preserve_output needs norms with a weight, got weight_attr=False in {bare[0]!r}: skip it."
        )

    def convert(norm: Any) -> nn.Layer:
        new = _IEBN_OF[type(norm)].from_batchnorm(norm)
        affine = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
        if affine and all(parameter.stop_gradient for parameter in affine):
            for name in ATTENTION:
                getattr(new, name).stop_gradient = True
        if preserve_output:
            new.weight.set_value(new.weight / new.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, convert, "by IEBN")


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
    every = {name: norm for name, norm in _layers(model).items() if isinstance(norm, _IEBN)}
    chosen = {name: norm for name, norm in every.items() if not preserve_output or _folds(norm)}
    if not chosen:
        reason = "no IEBN whose weight_readjust is 0 and that has a weight" if every else "no IEBN layer"
        raise ValueError(f"{type(model).__name__} holds {reason}: nothing to revert.")
    left = [name for name in every if name not in chosen]
    if left:
        _LOG.info("left as IEBN, since their attention does not fold: %s", ", ".join(left))

    def revert(norm: Any) -> nn.Layer:
        new = norm.to_batchnorm()
        if preserve_output:
            new.weight.set_value(new.weight * norm.bias_readjust.sigmoid())
        return _with_hooks_of(norm, new)

    return _replace(model, chosen, revert, "by BatchNorm")


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


def _folds(norm: _IEBN) -> bool:
    return norm.weight is not None and not bool(norm.weight_readjust.any())


def _replace(model: Model, chosen: dict[str, Any], convert: Callable[[Any], nn.Layer], by: str) -> Model:
    before = {id(parameter) for parameter in model.parameters()}
    new = {id(norm): convert(norm) for norm in chosen.values()}
    for parent in model.sublayers(include_self=True):
        for name, child in parent._sub_layers.items():
            if id(child) in new:
                parent._sub_layers[name] = new[id(child)]
    result: Any = new.get(id(model), model)
    added = [parameter for parameter in result.parameters() if id(parameter) not in before]
    _LOG.info(
        "replaced %d norms %s, %+d parameters: %s",
        len(new),
        by,
        sum(parameter.size for parameter in added),
        ", ".join(name or "the model itself" for name in chosen),
    )
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
