"""IEBN and RBN as layers of Keras 3, on any of its backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import keras
from keras import ops

from mixlayers._core.iebn import IEBN_STARTS, RBN_STARTS

Norm = TypeVar("Norm", bound="PerInstance")
_Map = Callable[[Any], Any]


class PerInstance(keras.layers.BatchNormalization):
    """A BatchNormalization that reads each sample by itself: what IEBN and RBN have in common.

    Args:
        args, kwargs: As of `keras.layers.BatchNormalization`. Its `axis` is the channels'; the samples' is axis 0.
    """

    starts: ClassVar[Mapping[str, float]]
    weight_readjust: Any
    bias_readjust: Any

    @classmethod
    def from_batchnorm(cls: type[Norm], norm: keras.layers.BatchNormalization) -> Norm:
        """A layer with a norm's arguments, name and weights; one of a subclass keeps what BatchNormalization has."""
        new = cast(Norm, like(norm, cls))
        take(new, norm)
        return new

    def build(self, input_shape: Any) -> None:
        """Make the weights.

        Raises:
            ValueError: If the axis is the samples'.
        """
        if self.axis in (0, -len(input_shape)):
            raise ValueError(
                f"{type(self).__name__} scales each sample's channels, so axis 0 of an input {tuple(input_shape)} "
                "cannot be the samples' and the channels': axis= names the channels, and the samples come first."
            )
        super().build(input_shape)
        for name, start in self.starts.items():
            weight = self.add_weight(
                shape=(input_shape[self.axis],),
                name=name,
                initializer=keras.initializers.Constant(start),
                autocast=False,
            )
            setattr(self, name, weight)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise and scale.

        Args:
            inputs: Samples along the first axis.
            training, mask: As of `keras.layers.BatchNormalization`.

        Raises:
            ValueError: If there is a mask and the channels are not the last axis, which Keras' masks leave out.
        """
        rank = len(inputs.shape)
        channels = self.axis % rank
        if mask is not None and channels != rank - 1:
            raise ValueError(
                "a mask of Keras has the input's axes but the last, so the channels must be there, got "
                f"axis={self.axis} of an input {tuple(inputs.shape)}: permute the axes, or drop the mask."
            )
        kind = keras.backend.result_type(inputs.dtype, "float32")  # half precision would move the attention
        space = tuple(axis for axis in range(1, rank) if axis != channels)
        shape = [-1 if axis == channels else 1 for axis in range(rank)]

        def spread(vector: Any) -> Any:
            return ops.reshape(ops.cast(vector, kind), shape)

        normalise = partial(
            keras.layers.BatchNormalization.call, _Bare(self, kind), training=training, mask=mask
        )
        xhat, gap = self._read(
            ops.cast(inputs, kind), normalise, partial(_mean, space=space, mask=mask), spread
        )
        scale = ops.sigmoid(spread(self.weight_readjust) * gap + spread(self.bias_readjust))
        if self.scale:
            scale = scale * spread(self.gamma)
        y = xhat * scale
        if self.center:
            y = y + spread(self.beta)
        return ops.cast(y, self.compute_dtype)

    def _read(self, x: Any, normalise: _Map, mean: _Map, spread: _Map) -> tuple[Any, Any]:
        """The normalised input, and the means that the attention is made of.

        Args:
            x: The input, float32 at least.
            normalise: Keras' own, without gamma and beta.
            mean: Over space.
            spread: Makes a weight (C,) broadcastable to x.
        """
        raise NotImplementedError


class _Bare:
    """A layer to BatchNormalization's eyes, without gamma and beta, and of another precision."""

    scale = center = False

    def __init__(self, layer: PerInstance, compute_dtype: str) -> None:
        self._layer, self.compute_dtype = layer, compute_dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


@keras.saving.register_keras_serializable("mixlayers")
class IEBN(PerInstance):
    """Instance Enhancement Batch Normalization: BatchNormalization whose scale every sample adjusts for itself.

        y = xhat * (gamma * a) + beta,    a = sigmoid(weight_readjust * mean_over_space(x) + bias_readjust)

    xhat is BatchNormalization's output without its affine part; a is made of the raw x, one number a sample and
    channel. Liang et al., "Instance Enhancement Batch Normalization: An Adaptive Regulator of Batch Noise", AAAI 2020.
    At its start y is sigmoid(-1) = 0.269 times BatchNormalization's output.

    The statistics are `keras.layers.BatchNormalization`'s own: `synchronized` and `renorm` mean what they mean there,
    the moving variance is the biased one, `momentum` is the old value's share, and where `trainable` is False the
    moving statistics normalise. Positions that a mask leaves out count neither for them nor for the mean over space.

    Args:
        args, kwargs: As of `keras.layers.BatchNormalization`. Its `axis` is the channels'; the samples' is axis 0.
    """

    starts = IEBN_STARTS

    def _read(self, x: Any, normalise: _Map, mean: _Map, spread: _Map) -> tuple[Any, Any]:
        return normalise(x), mean(x)


@keras.saving.register_keras_serializable("mixlayers")
class RBN(PerInstance):
    """Representative Batch Normalization: it moves and scales each sample by what stands out in it, and normalises.

        x' = x + weight_recenter * mean_over_space(x)
        y = xhat * (gamma * a) + beta,    a = sigmoid(weight_readjust * mean_over_space(xhat) + bias_readjust)

    xhat is BatchNormalization's output for x', without its affine part; each mean is one number a sample and channel.
    Gao, Han, Li, Cheng, Peng, "Representative Batch Normalization with Feature Calibration", CVPR 2021. At its start y
    is sigmoid(1) = 0.731 times BatchNormalization's output.

    The statistics are BatchNormalization's own, of x'; what is said of `IEBN`'s holds.

    Args:
        args, kwargs: As of `keras.layers.BatchNormalization`. Its `axis` is the channels'; the samples' is axis 0.
    """

    starts = RBN_STARTS
    weight_recenter: Any

    def _read(self, x: Any, normalise: _Map, mean: _Map, spread: _Map) -> tuple[Any, Any]:
        xhat = normalise(x + spread(self.weight_recenter) * mean(x))
        return xhat, mean(xhat)


def _mean(x: Any, space: tuple[int, ...], mask: Any) -> Any:
    """The mean over space, which stays with the length 1, of what the mask (N, *space) lets through."""
    if mask is None:
        return ops.mean(x, space, keepdims=True) if space else x
    counts = ops.cast(ops.expand_dims(mask, -1), "bool")
    kept = ops.where(counts, x, 0.0)
    if not space:
        return kept
    number = ops.sum(ops.cast(counts, x.dtype), space, keepdims=True)
    return ops.sum(kept, space, keepdims=True) / ops.maximum(number, 1.0)  # a sample may be all padding


def like(norm: Any, kind: type[keras.layers.BatchNormalization]) -> keras.layers.BatchNormalization:
    """A norm of another class, not yet built, with the arguments that BatchNormalization has, and the name."""
    new: keras.layers.BatchNormalization = kind.from_config(keras.layers.BatchNormalization.get_config(norm))
    return new


def take(new: keras.Layer, norm: keras.Layer) -> None:
    """Give a norm the weights of another one that both have, if that one is built."""
    if not norm.built:
        return
    if not new.built:
        new.build_from_config(norm.get_build_config())
    theirs = {weight.name: weight for weight in norm.weights}
    for weight in new.weights:
        if weight.name in theirs:
            assign(weight, theirs[weight.name])


def assign(variable: Any, other: Any) -> None:
    """Give a variable the value of another one, in memory of its own: JAX's trainer gives away what it trains."""
    variable.assign(ops.copy(other.value))
