"""IEBN and RBN for Flax NNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import jax.numpy as jnp
from flax import nnx

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import (
    IEBN_STARTS,
    RBN_STARTS,
    average_statistics,
    check_sharing,
    norms_to_convert,
    norms_to_revert,
    report,
)
from mixlayers_jax._iebn.plain import (
    Bare,
    affine,
    channel_axes,
    folded,
    gated,
    kept_output,
    recentred,
)

Model = TypeVar("Model", bound=nnx.Module)

_MODES: Final = ("use_running_average", "deterministic")
"""What `model.train()` sets."""


class PerInstance(nnx.BatchNorm):
    """A BatchNorm that reads each sample by itself: what IEBN and RBN have in common.

    Args:
        num_features, args, kwargs: As of `nnx.BatchNorm`.
    """

    starts: ClassVar[Mapping[str, float]]
    weight_readjust: nnx.Param[Any]
    bias_readjust: nnx.Param[Any]

    def __init__(self, num_features: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.add_starts()

    def add_starts(self) -> None:
        """Give the layer the parameters that BatchNorm has not."""
        for name, start in self.starts.items():
            setattr(self, name, nnx.Param(jnp.full(self.mean.shape, start, self.param_dtype)))


class IEBN(PerInstance):
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

    starts = IEBN_STARTS

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


class RBN(PerInstance):
    """Representative Batch Normalization: BatchNorm that moves and scales each sample by what stands out in it.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (scale * a) + bias,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    xhat is BatchNorm's output for x', without its affine part; each mean is one number a sample and channel. Gao, Han,
    Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y is
    sigmoid(1) = 0.731 times BatchNorm's output.

    The statistics are `nnx.BatchNorm`'s own, of x'; what is said there of `axis_name`, `momentum` and the rest holds.

    Args:
        num_features, args, kwargs: As of `nnx.BatchNorm`.
    """

    starts = RBN_STARTS
    weight_recenter: nnx.Param[Any]

    def __call__(self, x: Any, use_running_average: bool | None = None, *, mask: Any = None) -> Any:
        """Normalise and scale.

        Args:
            x, use_running_average, mask: As of `IEBN`.
        """
        features = channel_axes(self.axis, x.ndim)
        x = recentred(x, self.weight_recenter[...], features=features, mask=mask)
        bare: Any = Bare(self, scale=None, bias=None)
        xhat = nnx.BatchNorm.__call__(bare, x, use_running_average, mask=mask)
        scale, bias = (None if each is None else each[...] for each in (self.scale, self.bias))
        normed = affine(xhat, scale, bias, features, self.dtype)
        attention = self.weight_readjust[...], self.bias_readjust[...]
        return gated(xhat, normed, bias, *attention, features=features, mask=mask)


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
    return _convert(model, IEBN, skip, preserve_output)


def convert_rbn(model: Model, *, skip: Layers = (), preserve_output: bool = False) -> Model:
    """Make a model's `nnx.BatchNorm` layers RBN, in place: all that `convert_iebn` says holds.

    Args:
        model, skip: As of `convert_iebn`.
        preserve_output: Divide each scale by sigmoid(bias_readjust), 0.73 at first, so that the model computes the same
            function before its first step. Meant for pretrained models.

    Returns:
        The model.

    Raises:
        ValueError: As `convert_iebn`.
    """
    return _convert(model, RBN, skip, preserve_output)


def _convert(model: Model, kind: type[PerInstance], skip: Layers, preserve_output: bool) -> Model:
    chosen = norms_to_convert(
        model,
        _modules(model),
        skip,
        is_norm=lambda module: isinstance(module, nnx.BatchNorm) and not isinstance(module, PerInstance),
        is_known=lambda norm: type(norm) is nnx.BatchNorm,
        bare=lambda norm: "use_scale=False" if preserve_output and norm.scale is None else None,
    )
    if preserve_output:
        _check_sharing(model, chosen, folding=False)
        for scale in {id(norm.scale): norm.scale for norm in chosen.values()}.values():  # norms may share one
            scale[...] = kept_output(scale[...], kind.starts)
    for norm in chosen.values():
        object.__setattr__(norm, "__class__", kind)
        norm.add_starts()
    added = sum(len(kind.starts) * norm.mean.size for norm in chosen.values())
    report(chosen, len(chosen), kind.__name__, added)
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
    return _revert(model, IEBN, preserve_output)


def revert_rbn(model: Model, *, preserve_output: bool = False) -> Model:
    """Make a model's RBN layers `nnx.BatchNorm`, in place: what `convert_rbn` did, undone.

    Args:
        model, preserve_output: As of `revert_iebn`; exact where weight_readjust and weight_recenter are 0.

    Returns:
        The model.

    Raises:
        ValueError: If there is no layer to revert.
    """
    return _revert(model, RBN, preserve_output)


def _revert(model: Model, kind: type[PerInstance], preserve_output: bool) -> Model:
    zero = [name for name, start in kind.starts.items() if start == 0.0]

    def folds(norm: Any) -> bool:
        return norm.scale is not None and not any(bool(getattr(norm, name)[...].any()) for name in zero)

    chosen = norms_to_revert(model, _modules(model), kind, kind.__name__, preserve_output, folds)
    if preserve_output:
        _check_sharing(model, chosen, folding=True)
        for norm in {id(norm.scale): norm for norm in chosen.values()}.values():
            norm.scale[...] = folded(norm.scale[...], norm.bias_readjust[...])
    for norm in chosen.values():
        for name in kind.starts:
            delattr(norm, name)
        object.__setattr__(norm, "__class__", nnx.BatchNorm)
    removed = sum(len(kind.starts) * norm.mean.size for norm in chosen.values())
    report(chosen, len(chosen), "BatchNorm", -removed)
    return model


def update_bn(batches: Iterable[Any], model: nnx.Module) -> None:
    """One pass over the data sets the running statistics of a model's IEBN, RBN and BatchNorm layers.

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
        average_statistics(norms, "momentum", partial(_watched, norms), model, batches if norms else ())
    finally:
        for module, name, mode in modes:
            setattr(module, name, mode)


def _check_sharing(model: nnx.Module, chosen: Mapping[str, Any], *, folding: bool) -> None:
    norms = {
        name: norm
        for name, norm in _modules(model).items()
        if isinstance(norm, nnx.BatchNorm) and norm.scale is not None
    }
    check_sharing(norms, chosen.values(), lambda norm: norm.scale, folding)


@contextmanager
def _watched(norms: Iterable[Any], count: Callable[[Any], None]) -> Iterator[None]:
    """Give norms a class that tells of each use before it; Flax has no hooks for that."""
    kinds = [type(norm) for norm in norms]

    def watching(kind: Any) -> Any:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            count(self)
            return kind.__call__(self, *args, **options)

        return type(kind.__name__, (kind,), {"__call__": call})

    watches = {kind: watching(kind) for kind in set(kinds)}
    try:
        for norm, kind in zip(norms, kinds, strict=True):
            object.__setattr__(norm, "__class__", watches[kind])
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            object.__setattr__(norm, "__class__", kind)


def _modules(model: nnx.Module) -> dict[str, Any]:
    """All layers by name, the model itself as ''."""
    return {".".join(map(str, path)): module for path, module in nnx.iter_modules(model)}
