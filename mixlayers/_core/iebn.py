"""What frameworks have in common of IEBN and RBN: what these are given, which of a model's norms become them or stop.

Also the running statistics of an average of weights, made anew from data.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
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


def check_channels(shape: Sequence[int], sizes: Iterable[int]) -> None:
    """Refuse an input whose channels are not the norm's: compiled passes would read past the ends of its vectors.

    Args:
        shape: Of the input (N, C, ...).
        sizes: Of the vectors.

    Raises:
        ValueError: If they are not of C numbers.
    """
    for size in sizes:
        if size != shape[1]:
            raise ValueError(
                f"the norm has {size} channels, got {shape[1]} in an input {tuple(shape)} of axes (N, C, ...): make it "
                "for as many, or bring the axes in this order."
            )


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


def check_sharing(
    norms: Mapping[str, Any], chosen: Iterable[Any], numbers: Callable[[Any], Any], folding: bool
) -> None:
    """Refuse to scale a weight that a norm shares with one that is not scaled alike.

    Args:
        norms: The model's norms, old and new, that have a weight, by name.
        chosen: Those whose weight is to be scaled.
        numbers: What holds a norm's weight.
        folding: Whether by the attention that each has learned, or by the same start.

    Raises:
        ValueError: If there is one.
    """
    picked, first = {id(norm) for norm in chosen}, dict[int, tuple[str, Any]]()

    def start(norm: Any) -> Any:
        own = norm.bias_readjust
        return own.array if hasattr(own, "array") else own[...]

    for name, norm in norms.items():
        other, one = first.setdefault(id(numbers(norm)), (name, norm))
        if one is norm or not {id(one), id(norm)} & picked:
            continue
        both = id(one) in picked and id(norm) in picked
        if not both or (folding and bool((start(one) != start(norm)).any())):
            raise ValueError(
                f"{other!r} and {name!r} share a weight, and preserve_output would scale it for one of them alone: "
                "give each its own weight first."
            )


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
    norms: Sequence[Any],
    name: str,
    watched: Callable[[Callable[[Any], None]], AbstractContextManager[object]],
    run: Callable[[Any], object],
    batches: Iterable[Any],
) -> None:
    """Give norms the average of all batches' statistics, of all uses where a norm is used several times in a batch.

    Args:
        name: Of the attribute that holds the old value's share of the running statistics; it is left as it was.
        watched: While it is entered, what it is given is called with a norm before each use of it.
        run: Runs the model in training on a batch's first item, if it is a tuple or list.
        batches: The batches.
    """
    before = [getattr(norm, name) for norm in norms]
    uses = dict.fromkeys(map(id, norms), 0)

    def give(norm: Any, seen: int) -> None:
        setattr(norm, name, seen / (seen + 1.0))

    def count(norm: Any) -> None:
        if (seen := uses.get(id(norm))) is not None:
            give(norm, seen)
            uses[id(norm)] = seen + 1

    try:
        with watched(count):
            for number, batch in enumerate(batches):
                for norm in norms:
                    if not uses[id(norm)]:  # a transformation may run a copy of it, which nobody watches
                        give(norm, number)
                run(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for norm, share in zip(norms, before, strict=True):
            setattr(norm, name, share)
