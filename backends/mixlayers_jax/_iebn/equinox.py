"""IEBN for Equinox."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import norms_to_convert, norms_to_revert, report
from mixlayers_jax._equinox_tree import layer_at, named_modules
from mixlayers_jax._iebn.plain import STARTS, folded, gated, kept_output


class IEBN(eqx.nn.BatchNorm):
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

    weight_readjust: Any
    bias_readjust: Any

    def __init__(self, input_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(input_size, *args, **kwargs)
        self.weight_readjust, self.bias_readjust = _attention(self, kwargs.get("dtype"))

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
    chosen = norms_to_convert(
        model,
        {"": model, **named_modules(model)},
        skip,
        is_norm=lambda module: isinstance(module, eqx.nn.BatchNorm) and not isinstance(module, IEBN),
        is_known=lambda norm: type(norm) is eqx.nn.BatchNorm,
        bare=lambda norm: "channelwise_affine=False" if preserve_output and norm.weight is None else None,
    )
    model = _replaced(model, {name: _iebn_of(norm, preserve_output) for name, norm in chosen.items()})
    report(chosen, len(chosen), "IEBN", sum(len(STARTS) * norm.input_size for norm in chosen.values()))
    return model


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
    layers = {"": model, **named_modules(model)}
    chosen = norms_to_revert(model, layers, lambda module: isinstance(module, IEBN), preserve_output)

    def reverted(norm: Any) -> Any:
        weight = folded(norm.weight, norm.bias_readjust) if preserve_output else norm.weight
        return _made(eqx.nn.BatchNorm, norm, weight=weight)

    model = _replaced(model, {name: reverted(norm) for name, norm in chosen.items()})
    report(chosen, len(chosen), "BatchNorm", -sum(len(STARTS) * norm.input_size for norm in chosen.values()))
    return model


def _replaced(model: Any, new: dict[str, Any]) -> Any:
    """The model with other layers of these names."""
    for name, layer in new.items():
        model = eqx.tree_at(partial(layer_at, name), model, layer) if name else layer
    return model


def _iebn_of(norm: Any, preserve_output: bool) -> Any:
    """An IEBN with everything that a BatchNorm has."""
    weight = kept_output(norm.weight) if preserve_output else norm.weight
    return _made(IEBN, norm, weight=weight, **dict(zip(STARTS, _attention(norm), strict=True)))


def _made(kind: type, norm: Any, **changed: Any) -> Any:
    """A norm of another kind, with what a BatchNorm has and what is changed."""
    new: Any = object.__new__(kind)
    fields = {name: getattr(norm, name) for name in eqx.nn.BatchNorm.__dataclass_fields__}
    for name, value in (fields | changed).items():
        object.__setattr__(new, name, value)
    return new


def _attention(norm: Any, dtype: Any = None) -> list[Any]:
    """The two parameters' first values, of the weight's shape and dtype if there is one."""
    like = jnp.empty(norm.input_size, dtype) if norm.weight is None else norm.weight
    return [jnp.full_like(like, start) for start in STARTS.values()]
