"""What turning a model's norms into IEBN, and back, has in common in all frameworks: which, and what is said of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mixlayers._core.audit.places import Layers, select_layers

_LOG = logging.getLogger("mixlayers")


def norms_to_convert(
    model: Any,
    layers: Mapping[str, Any],
    skip: Layers,
    *,
    is_norm: Callable[[Any], bool],
    is_known: Callable[[Any], bool],
    bare: str | None,
) -> dict[str, Any]:
    """The norms to convert, by name; a warning, meant for the caller's caller, names those of unknown classes.

    Args:
        layers: All of the model's, by name, itself as ''.
        skip: Which to leave alone.
        is_norm: Whether a layer is a BatchNorm, or of a subclass.
        is_known: Whether a BatchNorm is of a class that IEBN can stand in for.
        bare: How one makes a norm without a weight, if outputs are to be preserved, which needs weights; else None.

    Raises:
        ValueError: If there is none, if `skip` matches no layer, or if one lacks the weight that it needs.
    """
    skipped = () if isinstance(skip, tuple | list) and not skip else select_layers(skip, layers)
    norms = {name: norm for name, norm in layers.items() if name not in skipped and is_norm(norm)}
    chosen = {name: norm for name, norm in norms.items() if is_known(norm)}
    warn_of_left({name: norm for name, norm in norms.items() if name not in chosen}, stacklevel=4)
    if not chosen:
        raise ValueError(f"{type(model).__name__} holds no BatchNorm layer to convert: check skip={skip!r}.")
    without = [name for name, norm in chosen.items() if norm.weight is None]
    if bare is not None and without:
        raise ValueError(f"preserve_output needs norms with a weight, got {bare} in {without[0]!r}: skip it.")
    return chosen


def warn_of_left(norms: Mapping[str, Any], stacklevel: int) -> None:
    """Warn of norms of unknown classes, by name, if there are any.

    Args:
        stacklevel: As of `warnings.warn`, 1 being this function.
    """
    if norms:
        names = list(norms)
        warnings.warn(
            f"left as they are: {', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}, of type "
            f"{type(norms[names[0]]).__name__}, since a class of its own may do more than normalise (a lazy one is "
            "BatchNorm after its first batch: convert then). skip= says that this is meant.",
            stacklevel=stacklevel,
        )


def norms_to_revert(
    model: Any, layers: Mapping[str, Any], is_iebn: Callable[[Any], bool], preserve_output: bool
) -> dict[str, Any]:
    """The IEBN layers to turn back, by name: all, or those whose attention folds into their weight.

    Raises:
        ValueError: If there is none.
    """
    every = {name: norm for name, norm in layers.items() if is_iebn(norm)}
    chosen = {
        name: norm
        for name, norm in every.items()
        if not preserve_output or (norm.weight is not None and not bool(norm.weight_readjust.any()))
    }
    if not chosen:
        reason = "no IEBN whose weight_readjust is 0 and that has a weight" if every else "no IEBN layer"
        raise ValueError(f"{type(model).__name__} holds {reason}: nothing to revert.")
    if left := [name for name in every if name not in chosen]:
        _LOG.info("left as IEBN, since their attention does not fold: %s", ", ".join(left))
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
