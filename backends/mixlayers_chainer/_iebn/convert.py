"""Turn a model's batch normalisations into IEBN or RBN, and back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Parameter

from mixlayers._core.audit.places import Layers, select_layers
from mixlayers._core.iebn import report, warn_of_left
from mixlayers_chainer._hooks import _plain, named_layers
from mixlayers_chainer._iebn import holders
from mixlayers_chainer._iebn.layer import IEBN, PerInstance, become, checked_axis
from mixlayers_chainer._iebn.rbn import RBN

Model = TypeVar("Model", bound=chainer.Link)
Also = Mapping[type[chainer.Link], Callable[[Any], object]]

_LOG = logging.getLogger("mixlayers")


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
    return _convert(model, IEBN, skip, preserve_output, also)


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
    return _convert(model, RBN, skip, preserve_output, also)


def _convert(model: Model, kind: type[PerInstance], skip: Layers, preserve_output: bool, also: Also) -> Model:
    links = _links(model)
    known = (L.BatchNormalization, *also)
    norms = {name: norm for name, norm in links.items() if isinstance(norm, known)}
    if not (isinstance(skip, tuple | list) and not skip):
        skipped = {id(links.get(name)) for name in select_layers(skip, links)}
        norms = {name: norm for name, norm in norms.items() if id(norm) not in skipped}
    chosen = {name: norm for name, norm in norms.items() if _plain(type(norm)) in known}
    warn_of_left({name: norm for name, norm in norms.items() if name not in chosen}, stacklevel=4)
    if not chosen:
        raise ValueError(
            f"{type(model).__name__} holds no L.BatchNormalization to convert: check skip={skip!r}. "
            "chainermn.links.create_mnbn_model comes after the conversion."
        )
    for name, norm in chosen.items():
        if _plain(type(norm)) in also:
            continue
        if norm.axis is not None:
            try:
                checked_axis(tuple(norm.axis))
            except ValueError as error:
                raise ValueError(f"{name!r} cannot be {kind.__name__}, skip it: {error}") from None
        if preserve_output and (norm.gamma is None or not norm.gamma.is_initialized):
            why = "use_gamma=False" if norm.gamma is None else "no size yet (run the model once)"
            raise ValueError(f"preserve_output needs norms with a gamma, got {why} in {name!r}: skip it.")

    held = list(model.params())
    before = {id(parameter) for parameter in held}
    converted, own = _once(chosen.values()), []
    for norm in converted:
        if (by := also.get(_plain(type(norm)))) is not None:
            by(norm)
        else:
            own.append(kind.from_batchnorm(norm))
    if preserve_output:
        _scale_gammas(own, -1)
    added = [each for each in _once(model.params()) if id(each) not in before]
    report(chosen, len(converted), kind.__name__, sum(each.size for each in added if each.is_initialized))
    if any(each.update_rule is not None and each.update_rule.enabled for each in held):
        warnings.warn(
            f"an optimizer was set up before the conversion and will not train the {len(added)} new parameters: "
            "convert first, or go on with `for p in iebn_parameters(model)[1]: p.update_rule = "
            "optimizer.create_update_rule()`.",
            stacklevel=3,
        )
    if added:
        holders.warn(model, added)
    return model


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
    return _revert(model, IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """Make a model's RBN links L.BatchNormalization, in place: what `convert_rbn` did, undone.

    Args:
        model: Any link; an RBN that is the model itself is reverted.
        preserve_output: Fold the scale in: multiply each gamma by sigmoid(bias_readjust). Exact where weight_readjust
            and weight_recenter are 0; other links stay RBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no link to revert.
    """
    return _revert(model, RBN, preserve_output)


def _revert(model: Model, kind: type[PerInstance], preserve_output: bool) -> Model:
    kept = kind.__name__
    every = {name: norm for name, norm in _links(model).items() if isinstance(norm, kind)}
    chosen = {name: norm for name, norm in every.items() if not preserve_output or _folds(norm)}
    if not chosen:
        zeros = " and ".join(_zeros(kind))
        reason = f"no {kept} whose {zeros} is 0 and that has a gamma" if every else f"no {kept}"
        raise ValueError(f"{type(model).__name__} holds {reason}: nothing to revert.")
    left = [name for name in every if name not in chosen]
    if left:
        _LOG.info("left as %s, since their attention does not fold: %s", kept, ", ".join(left))
    norms = _once(chosen.values())
    if preserve_output:
        _scale_gammas(norms, 1)
    lost = 0
    for norm in norms:
        for name in norm.starts:
            lost += getattr(norm, name).size if getattr(norm, name).is_initialized else 0
            delattr(norm, name)
        vars(norm).pop("comm", None)
        become(norm, L.BatchNormalization)
    report(chosen, len(norms), "L.BatchNormalization", -lost)
    return model


def iebn_parameters(model: chainer.Link) -> tuple[list[Parameter], list[Parameter]]:
    """The parameters that BatchNormalization has too, or other links, and those that IEBN and RBN add to it.

    Weight decay pulls bias_readjust from IEBN's -1, or RBN's 1, to 0, which lets every sample through at half scale. To
    decay the others alone: `for p in iebn_parameters(model)[0]: p.update_rule.add_hook(WeightDecay(1e-4))`, after
    `optimizer.setup`.

    Raises:
        ValueError: If the model holds no IEBN or RBN.
    """
    norms = _once(norm for norm in _links(model).values() if isinstance(norm, PerInstance))
    if not norms:
        raise ValueError(f"{type(model).__name__} holds no IEBN or RBN: convert_iebn(model) first.")
    attention = [getattr(norm, name) for norm in norms for name in norm.starts]
    known = {id(parameter) for parameter in attention}
    return [each for each in _once(model.params()) if id(each) not in known], attention


def _links(model: chainer.Link) -> dict[str, Any]:
    """All links by name, the model itself as ''."""
    return {"": model, **dict(named_layers(model))}


def _once(things: Iterable[Any]) -> list[Any]:
    """Each thing once."""
    return list({id(thing): thing for thing in things}.values())


def _zeros(kind: type[PerInstance]) -> list[str]:
    """The parameters that are 0 at first."""
    return [name for name, start in kind.starts.items() if start == 0.0]


def _folds(norm: PerInstance) -> bool:
    own = [getattr(norm, name) for name in _zeros(type(norm))]
    return norm.gamma is not None and all(each.is_initialized and not each.array.any() for each in own)


def _scale_gammas(norms: list[Any], power: int) -> None:
    """Multiply each gamma by sigmoid(bias_readjust) ** power; arrays that links share once."""
    scaled: dict[int, Any] = {}
    for norm in norms:
        gamma = norm.gamma.array
        if id(gamma) not in scaled:
            scaled[id(gamma)] = gamma
            with chainer.using_device(norm.device), chainer.no_backprop_mode():
                gamma *= (F.sigmoid(norm.bias_readjust).array ** power).astype(gamma.dtype)
