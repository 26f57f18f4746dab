"""IEBN for Flax NNX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar

import jax.numpy as jnp
from flax import nnx

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import average_statistics, norms_to_convert, norms_to_revert, report
from mixlayers_jax._iebn.plain import STARTS, channel_axes, folded, gated, kept_output

Model = TypeVar("Model", bound=nnx.Module)

_MODES: Final = ("use_running_average", "deterministic")
"""What `model.train()` sets."""


class IEBN(nnx.BatchNorm):
    """Instance Enhancement Batch Normalization: BatchNorm whose scale every sample adjusts for itself.

        y = xhat * (scale * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    xhat is BatchNorm's output without its affine part; a is made of the raw x, one number a sample and channel. Liang
    et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020. At its start y
    is sigmoid(-1) = 0.269 times BatchNorm's output.

    The statistics are `nnx.BatchNorm`'s own: `axis_name`, `use_fast_variance` and the rest mean what they mean there,
    the running variance is the biased one, and `momentum` is the old value's share.

    Args:
        num_features, args, kwargs: As of `nnx.BatchNorm`.
    """

    weight_readjust: nnx.Param[Any]
    bias_readjust: nnx.Param[Any]

    def __init__(self, num_features: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_features, *args, **kwargs)
        _add_attention(self)

    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """Normalise and scale.

        Args:
            x: Samples along the first axis.
            use_running_average, mask: As of `nnx.BatchNorm`; a mean over space leaves out what the mask does.
        """
        normed = super().__call__(x, use_running_average, mask=mask)
        bias = None if self.bias is None else self.bias[...]
        attention = self.weight_readjust[...], self.bias_readjust[...]
        return gated(x, normed, bias, *attention, features=channel_axes(self.axis, x.ndim), mask=mask)


def convert_iebn(model: Model, *, skip: Layers = (), preserve_output: bool = False) -> Model:
    """Make a model's `nnx.BatchNorm` layers IEBN, in place: weights, statistics and modes stay.

    The very layers change their class and gain two parameters, so whoever holds one holds the IEBN. What was replaced
    is logged ("mixlayers", INFO). Convert first, then make the optimizer and what `nnx.split` or `nnx.jit` cached:
    an `nnx.Optimizer` made before has no state for the new parameters. Subclasses of BatchNorm are left as they are,
    and a warning names them.

    Args:
        model: Any module; one that is a BatchNorm itself is converted.
        skip: Norms to leave alone, in any form that `layers=` takes: names, globs, a predicate.
        preserve_output: Divide each scale by sigmoid(bias_readjust), 0.27 at first, so that the model computes the same
            function before its first step. Meant for pretrained models.

    Returns:
        The model.

    Raises:
        ValueError: If nothing is there to convert, if `skip` matches no layer, or if the output of a norm without a
            scale is to be preserved.
    """
    chosen = norms_to_convert(
        model,
        _modules(model),
        skip,
        is_norm=lambda module: isinstance(module, nnx.BatchNorm) and not isinstance(module, IEBN),
        is_known=lambda norm: type(norm) is nnx.BatchNorm,
        bare=lambda norm: "use_scale=False" if preserve_output and norm.scale is None else None,
    )
    if preserve_output:
        for scale in {id(norm.scale): norm.scale for norm in chosen.values()}.values():  # norms may share one
            scale[...] = kept_output(scale[...])
    for norm in chosen.values():
        object.__setattr__(norm, "__class__", IEBN)
        _add_attention(norm)
    report(chosen, len(chosen), "IEBN", sum(len(STARTS) * norm.mean.size for norm in chosen.values()))
    return model


def revert_iebn(model: Model, *, preserve_output: bool = False) -> Model:
    """Make a model's IEBN layers `nnx.BatchNorm`, in place: what `convert_iebn` did, undone.

    Args:
        model: Any module; one that is an IEBN itself is reverted.
        preserve_output: Fold the attention in: multiply each scale by sigmoid(bias_readjust). Exact where
            weight_readjust is 0; other layers stay IEBN, and the log names them.

    Returns:
        The model.

    Raises:
        ValueError: If there is no layer to revert.
    """
    chosen = norms_to_revert(
        model, _modules(model), lambda module: isinstance(module, IEBN), preserve_output, "scale"
    )
    if preserve_output:
        for norm in {id(norm.scale): norm for norm in chosen.values()}.values():
            norm.scale[...] = folded(norm.scale[...], norm.bias_readjust[...])
    for norm in chosen.values():
        for name in STARTS:
            delattr(norm, name)
        object.__setattr__(norm, "__class__", nnx.BatchNorm)
    report(chosen, len(chosen), "BatchNorm", -sum(len(STARTS) * norm.mean.size for norm in chosen.values()))
    return model


def update_bn(batches: Iterable[Any], model: nnx.Module) -> None:
    """One pass over the data sets the running statistics of a model's IEBN and BatchNorm layers.

    For models whose weights were averaged (EMA). Call it outside of jit: the average is taken batch by batch.

    Args:
        batches: Batches; of a tuple or list the first item is what the model takes.
        model: Its norms get new statistics, the average of all batches'; its modes stay.
    """
    every = list(_modules(model).values())
    norms = [module for module in every if isinstance(module, nnx.BatchNorm)]
    modes = [
        (module, name, getattr(module, name)) for module in every for name in _MODES if hasattr(module, name)
    ]
    try:
        model.train()
        average_statistics(norms, "momentum", model, batches if norms else (), old=True)
    finally:
        for module, name, mode in modes:
            setattr(module, name, mode)


def _modules(model: nnx.Module) -> dict[str, Any]:
    """All layers by name, the model itself as ''."""
    return {".".join(map(str, path)): module for path, module in nnx.iter_modules(model)}


def _add_attention(norm: Any) -> None:
    for name, start in STARTS.items():
        setattr(norm, name, nnx.Param(jnp.full(norm.mean.shape, start, norm.param_dtype)))
