"""IEBN for Equinox."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import norms_to_convert, report
from mixlayers_jax._equinox_tree import layer_at, named_modules
from mixlayers_jax._iebn.plain import STARTS, gated, kept_output


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
    added = 0
    for name, norm in chosen.items():
        new = _in_place_of(norm, preserve_output)
        added += new.weight_readjust.size + new.bias_readjust.size
        model = eqx.tree_at(partial(layer_at, name), model, new) if name else new
    report(chosen, len(chosen), "IEBN", added)
    return model


def _in_place_of(norm: Any, preserve_output: bool) -> IEBN:
    """An IEBN with everything that a BatchNorm has."""
    new = object.__new__(IEBN)
    fields = {name: getattr(norm, name) for name in eqx.nn.BatchNorm.__dataclass_fields__}
    if preserve_output:
        fields["weight"] = kept_output(norm.weight)
    for name, value in (fields | dict(zip(STARTS, _attention(norm), strict=True))).items():
        object.__setattr__(new, name, value)
    return new


def _attention(norm: Any, dtype: Any = None) -> list[Any]:
    """The two parameters' first values, of the weight's shape and dtype if there is one."""
    like = jnp.empty(norm.input_size, dtype) if norm.weight is None else norm.weight
    return [jnp.full_like(like, start) for start in STARTS.values()]
