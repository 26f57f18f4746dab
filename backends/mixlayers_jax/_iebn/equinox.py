"""IEBN and RBN for Equinox."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import IEBN_STARTS, RBN_STARTS, norms_to_convert, norms_to_revert, report
from mixlayers_jax._equinox_tree import layer_at, named_modules
from mixlayers_jax._iebn.plain import Bare, affine, folded, gated, kept_output, recentred


class PerInstance(eqx.nn.BatchNorm):
    """A BatchNorm that reads each sample by itself: what IEBN and RBN have in common.

    Args:
        input_size, args, kwargs: As of `equinox.nn.BatchNorm`.
    """

    starts: ClassVar[Mapping[str, float]]
    weight_readjust: Any
    bias_readjust: Any

    def __init__(self, input_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(input_size, *args, **kwargs)
        for name, vector in _started(self, type(self), kwargs.get("dtype")).items():
            setattr(self, name, vector)


class IEBN(PerInstance):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every sample adjusts for itself.

        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    xhat is BatchNorm's output without its affine part; a is made of the raw x, one number a sample and channel. Liang
    et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020. At its start y
    is sigmoid(-1) = 0.269 times BatchNorm's output.

    The statistics are `equinox.nn.BatchNorm`'s own: `axis_name`, `mode` and the state mean what they mean there, the
    running variance is the biased one, and `momentum` is the old value's share.

    Args:
        input_size, args, kwargs: As of `equinox.nn.BatchNorm`.
    """

    starts = IEBN_STARTS

    def __call__(
        self, x: Any, state: eqx.nn.State, *, key: Any = None, inference: bool | None = None
    ) -> tuple[Any, eqx.nn.State]:
        """Normalise and scale one sample, (C, ...), under a vmap with the layer's `axis_name`.

        Args:
            x, state, key, inference: As of `equinox.nn.BatchNorm`.
        """
        normed, state = super().__call__(x, state, key=key, inference=inference)
        attention = self.weight_readjust, self.bias_readjust
        return gated(x, normed, self.bias, *attention, features=(0,), samples=()), state


class RBN(PerInstance):
    """Representative Batch Normalization: BatchNorm that moves and scales each sample by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (weight * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    xhat is BatchNorm's output for x', without its affine part; each mean is one number a sample and channel. Gao, Han,
    Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y is
    sigmoid(1) = 0.731 times BatchNorm's output.

    The statistics are `equinox.nn.BatchNorm`'s own, of x'; what is said there of `axis_name`, `mode` and the rest
    holds.

    Args:
        input_size, args, kwargs: As of `equinox.nn.BatchNorm`.
    """

    starts = RBN_STARTS
    weight_recenter: Any

    def __call__(
        self, x: Any, state: eqx.nn.State, *, key: Any = None, inference: bool | None = None
    ) -> tuple[Any, eqx.nn.State]:
        """Normalise and scale one sample, (C, ...), under a vmap with the layer's `axis_name`.

        Args:
            x, state, key, inference: As of `equinox.nn.BatchNorm`.
        """
        where: Any = {"features": (0,), "samples": ()}
        bare: Any = Bare(self, channelwise_affine=False, weight=None, bias=None)
        x = recentred(x, self.weight_recenter, **where)
        xhat, state = eqx.nn.BatchNorm.__call__(bare, x, state, key=key, inference=inference)
        normed = affine(xhat, self.weight, self.bias, (0,), None)
        return gated(xhat, normed, self.bias, self.weight_readjust, self.bias_readjust, **where), state


def convert_iebn(model: Any, *, skip: Layers = (), preserve_output: bool = False) -> Any:
    """A model whose `equinox.nn.BatchNorm` layers are IEBN; the one given is left as it is.

    Weights and modes stay, and so does the state, of which the new model's layers hold the same keys:
    `model, state = eqx.nn.make_with_state(Net)(key); model = convert_iebn(model)`. What was replaced is logged
    ("mixlayers", INFO). Convert first, then `optimizer.init`. Subclasses of BatchNorm are left as they are, and a
    warning names them.

    Args:
        model: Any module; one that is a BatchNorm itself is converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.27 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.

    Returns:
        The new model.

    Raises:
        ValueError: If nothing is there to convert, if `skip` matches no layer, or if the output of a norm without a
            weight is to be preserved.
    """
    return _convert(model, IEBN, skip, preserve_output)


def convert_rbn(model: Any, *, skip: Layers = (), preserve_output: bool = False) -> Any:
    """A model whose `equinox.nn.BatchNorm` layers are RBN: all that `convert_iebn` says holds.

    Args:
        model, skip: As of `convert_iebn`.
        preserve_output: Divide each weight by sigmoid(bias_readjust), 0.73 at first, so that the model computes the
            same function before its first step. Meant for pretrained models.

    Returns:
        The new model.

    Raises:
        ValueError: As `convert_iebn`.
    """
    return _convert(model, RBN, skip, preserve_output)


def _convert(model: Any, kind: type[PerInstance], skip: Layers, preserve_output: bool) -> Any:
    chosen = norms_to_convert(
        model,
        {"": model, **named_modules(model)},
        skip,
        is_norm=lambda module: isinstance(module, eqx.nn.BatchNorm) and not isinstance(module, PerInstance),
        is_known=lambda norm: type(norm) is eqx.nn.BatchNorm,
        bare=lambda norm: "channelwise_affine=False" if preserve_output and norm.weight is None else None,
    )
    new = {name: _in_place_of(norm, kind, preserve_output) for name, norm in chosen.items()}
    added = sum(getattr(norm, own).size for norm in new.values() for own in kind.starts)
    report(chosen, len(chosen), kind.__name__, added)
    return _replaced(model, new)


def revert_iebn(model: Any, *, preserve_output: bool = False) -> Any:
    """A model whose IEBN layers are `equinox.nn.BatchNorm`: what `convert_iebn` did, undone.

    Args:
        model: Any module; one that is an IEBN itself is reverted. It is left as it is.
        preserve_output: Fold the attention in: multiply each weight by sigmoid(bias_readjust). Exact where
            weight_readjust is 0; other layers stay IEBN, and the log names them.

    Returns:
        The new model, for the state that there was.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return _revert(model, IEBN, preserve_output)


def revert_rbn(model: Any, *, preserve_output: bool = False) -> Any:
    """A model whose RBN layers are `equinox.nn.BatchNorm`: what `convert_rbn` did, undone.

    Args:
        model, preserve_output: As of `revert_iebn`; exact where weight_readjust and weight_recenter are 0.

    Returns:
        The new model, for the state that there was.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return _revert(model, RBN, preserve_output)


def _revert(model: Any, kind: type[PerInstance], preserve_output: bool) -> Any:
    layers = {"": model, **named_modules(model)}
    chosen = norms_to_revert(model, layers, kind, kind.__name__, preserve_output)
    new = {}
    for name, norm in chosen.items():
        weight = folded(norm.weight, norm.bias_readjust) if preserve_output else norm.weight
        new[name] = _made(eqx.nn.BatchNorm, norm, weight=weight)
    removed = sum(getattr(norm, own).size for norm in chosen.values() for own in kind.starts)
    report(chosen, len(chosen), "BatchNorm", -removed)
    return _replaced(model, new)


def _replaced(model: Any, new: Mapping[str, Any]) -> Any:
    """The model with other layers of these names."""
    for name, layer in new.items():
        model = eqx.tree_at(partial(layer_at, name), model, layer) if name else layer
    return model


def _in_place_of(norm: Any, kind: type[PerInstance], preserve_output: bool) -> Any:
    """A layer with everything that a BatchNorm has."""
    weight = kept_output(norm.weight, kind.starts) if preserve_output else norm.weight
    return _made(kind, norm, weight=weight, **_started(norm, kind))


def _made(kind: type, norm: Any, **changed: Any) -> Any:
    """A norm of another kind, with what a BatchNorm has and what is changed."""
    new: Any = object.__new__(kind)
    fields = {name: getattr(norm, name) for name in eqx.nn.BatchNorm.__dataclass_fields__}
    for name, value in (fields | changed).items():
        object.__setattr__(new, name, value)
    return new


def _started(norm: Any, kind: type[PerInstance], dtype: Any = None) -> dict[str, Any]:
    """The first values of the parameters that BatchNorm has not, of the weight's shape and dtype if there is one."""
    like = jnp.empty(norm.input_size, dtype) if norm.weight is None else norm.weight
    return {name: jnp.full_like(like, start) for name, start in kind.starts.items()}
