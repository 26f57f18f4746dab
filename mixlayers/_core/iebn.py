"""What frameworks have in common of IEBN and RBN: what these are given, which of a model's norms become them or stop.

Also the running statistics of an average of weights, made anew from data.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mixlayers._core.audit.places import Layers, select_layers

_LOG = logging.getLogger("mixlayers")

IEBN_STARTS: Final = MappingProxyType({"weight_readjust": 0.0, "bias_readjust": -1.0})
"""The parameters that IEBN has and BatchNorm has not, and their first values."""

RBN_STARTS: Final = MappingProxyType({"weight_readjust": 0.0, "bias_readjust": 1.0, "weight_recenter": 0.0})
"""The same for RBN."""


class Parameters(NamedTuple):
    """What IEBN learns: the framework's tensors, (C,) each.

    Attributes:
        weight, bias: BatchNorm's; None for 1 and 0.
        weight_readjust, bias_readjust: The attention's.
    """

    weight: Any
    bias: Any
    weight_readjust: Any
    bias_readjust: Any


class RBNParameters(NamedTuple):
    """What RBN learns, in the same form.

    Attributes:
        weight, bias: BatchNorm's; None for 1 and 0.
        weight_readjust, bias_readjust: The scale's.
        weight_recenter: The share of its own mean that each instance gets added.
    """

    weight: Any
    bias: Any
    weight_readjust: Any
    bias_readjust: Any
    weight_recenter: Any


@dataclass
class Statistics:
    """What to normalise with: mean and variance of the batch, or of the past.

    Attributes:
        mean, var: Running statistics (C,), updated in place where `batch`; None: there are none.
        batch: Whether the batch's own statistics are used, as in training, or the running ones.
        factor: Share of the new batch in the running statistics.
        eps: Added to the variance.
    """

    mean: Any
    var: Any
    batch: bool
    factor: float
    eps: float


def norms_to_convert(
    model: Any,
    layers: Mapping[str, Any],
    skip: Layers,
    *,
    is_norm: Callable[[Any], bool],
    is_known: Callable[[Any], bool],
    bare: Callable[[Any], str | None],
    weight: str = "weight",
    hint: str = "",
    stacklevel: int = 5,
) -> dict[str, Any]:
    """The norms to convert, by name; a warning names those of unknown classes.

    Args:
        layers: All of the model's, by name, itself as ''.
        skip: Which to leave alone.
        is_norm: Whether a layer is a BatchNorm, or of a subclass.
        is_known: Whether a BatchNorm is of a class that can be stood in for.
        bare: Why the output of a norm cannot be preserved, if it is to be; else None.
        weight: The name of a norm's weight, for the error.
        hint: What else may be wrong where there is none.
        stacklevel: The warning's; by default it is of the caller of the caller's caller.

    Raises:
        ValueError: If there is none, if `skip` matches no layer, or if one lacks the weight that it needs.
    """
    names = () if isinstance(skip, tuple | list) and not skip else select_layers(skip, layers)
    skipped = {id(layers[name]) for name in names}  # a layer may have several names
    norms = {name: norm for name, norm in layers.items() if id(norm) not in skipped and is_norm(norm)}
    chosen = {name: norm for name, norm in norms.items() if is_known(norm)}
    warn_of_left({name: norm for name, norm in norms.items() if name not in chosen}, stacklevel)
    if not chosen:
        way_out = f": check skip={skip!r}" if names else ""
        raise ValueError(f"{type(model).__name__} holds no BatchNorm layer to convert{way_out}.{hint}")
    for name, norm in chosen.items():
        if (why := bare(norm)) is not None:
            raise ValueError(f"preserve_output needs norms with a {weight}, got {why} in {name!r}: skip it.")
    return chosen


_CLASS_OF_ITS_OWN: Final = (
    "since a class of its own may do more than normalise (a lazy one is BatchNorm after its first batch: convert "
    "then)"
)


def warn_of_left(norms: Mapping[str, Any], stacklevel: int, why: str = _CLASS_OF_ITS_OWN) -> None:
    """Warn of norms that are not converted, by name, if there are any.

    Args:
        stacklevel: As of `warnings.warn`, 1 being this function.
        why: Why not.
    """
    if norms:
        names = list(norms)
        warnings.warn(
            f"left as they are: {', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}, of type "
            f"{type(norms[names[0]]).__name__}, {why}. skip= says that this is meant.",
            stacklevel=stacklevel,
        )


def norms_to_revert(
    model: Any,
    layers: Mapping[str, Any],
    kind: type[Any],
    name: str,
    preserve_output: bool,
    folds: Callable[[Any], bool] | None = None,
    weight: str = "weight",
) -> dict[str, Any]:
    """The layers to turn back, by name: all, or those whose attention folds into their weight.

    Args:
        layers: All of the model's, by name, itself as ''.
        kind: Of those to turn back; `starts` holds their parameters' first values.
        name: Of their method.
        preserve_output: Whether only those that fold.
        folds: Whether a layer has a weight, and an attention that is the same for all samples; None: as its own
            parameters say, which are compared with those of `starts`.
        weight: The name of a layer's weight, for the error.

    Raises:
        ValueError: If there is none.
    """
    zeros = [own for own, start in kind.starts.items() if start == 0.0]

    def at_start(norm: Any) -> bool:
        return norm.weight is not None and not any(bool(getattr(norm, own).any()) for own in zeros)

    folds = at_start if folds is None else folds
    every = {place: norm for place, norm in layers.items() if isinstance(norm, kind)}
    chosen = {place: norm for place, norm in every.items() if not preserve_output or folds(norm)}
    if not chosen:
        reason = (
            f"no {name} whose {' and '.join(zeros)} is 0 and that has a {weight}"
            if every
            else f"no {name} layer"
        )
        raise ValueError(f"{type(model).__name__} holds {reason}: nothing to revert.")
    if left := [place for place in every if place not in chosen]:
        _LOG.info("left as %s, since their attention does not fold: %s", name, ", ".join(left))
    return chosen


def report(names: Iterable[str], count: int, by: str, added: int) -> None:
    """Log what was replaced.

    Args:
        names: Of the places.
        count: Of the norms; one may be in several places.
        by: What took their place.
        added: Numbers that are now learned in addition.
    """
    places = ", ".join(name or "the model itself" for name in names)
    _LOG.info("replaced %d norms by %s, %+d parameters: %s", count, by, added, places)


def average_statistics(
    norms: Sequence[Any], name: str, run: Callable[[Any], object], batches: Iterable[Any], *, old: bool
) -> None:
    """Give norms the average of all batches' statistics.

    Args:
        name: Of the attribute that holds a share of the running statistics; it is left as it was.
        run: Runs the model in training on a batch's first item, if it is a tuple or list.
        batches: The batches.
        old: Whether it is the old value's share, or the new one's.
    """
    before = [getattr(norm, name) for norm in norms]
    try:
        for seen, batch in enumerate(batches):
            for norm in norms:
                setattr(norm, name, (seen if old else 1.0) / (seen + 1.0))
            run(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for norm, share in zip(norms, before, strict=True):
            setattr(norm, name, share)
