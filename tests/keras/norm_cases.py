"""Layers, features and numbers for the tests of IEBN and RBN in Keras."""

import keras
import numpy as np

from tests.support.reference_norms import REFERENCES

CHANNELS = 5
OURS = {"weight": "gamma", "bias": "beta"}
"""The names of the reference's vectors in Keras, where they are others."""
SHAPES = {"vectors": (8, CHANNELS), "series": (8, CHANNELS, 6), "maps": (8, CHANNELS, 4, 3)}
CASES = [("vectors", -1), ("series", 1), ("maps", -1), ("maps", 1)]


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape) * 1.5 + 0.7


def last(x):
    """(N, C, ...) with the channels last, float32."""
    return np.moveaxis(x, 1, -1).astype("float32")


def values(kind="RBN"):
    """Random vectors in the order of the kind's reference, and a moving mean and variance."""
    rng = np.random.default_rng(0)
    statistics = {"mean": rng.standard_normal(CHANNELS), "var": 0.5 + rng.random(CHANNELS)}
    vectors = [rng.standard_normal(CHANNELS) for _ in REFERENCES[kind].names]
    vectors[4:] = [
        0.5 * vector for vector in vectors[4:]
    ]  # at -1 it would leave nothing to normalise of (N, C)
    return vectors, statistics


def given(layer, x):
    """The layer, built for x and with the values above, as far as it has them."""
    if not layer.built:
        layer.build(x.shape)
    vectors, statistics = values()
    for name, vector in zip(REFERENCES["RBN"].names, vectors, strict=True):
        if getattr(layer, OURS.get(name, name), None) is not None:
            getattr(layer, OURS.get(name, name)).assign(vector)
    layer.moving_mean.assign(statistics["mean"])
    layer.moving_variance.assign(statistics["var"])
    return layer


def run(layer, x, gradient, training):
    """The output, and the gradients of `(y * gradient).sum()`, of x and by the weights' names."""
    x, gradient = x.astype("float32"), gradient.astype("float32")
    if keras.backend.backend() == "torch":
        import torch

        at = torch.tensor(x, requires_grad=True)
        y = layer(at, training=training)
        (y * torch.tensor(gradient)).sum().backward()
        found = {weight.name: weight.value.grad.numpy() for weight in layer.trainable_weights}
        return y.detach().numpy(), at.grad.numpy(), found
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
                total = tf.reduce_sum(y * gradient)
            return y, tape.gradient(total, [x, *(weight.value for weight in layer.trainable_weights)])

        y, (on_x, *on_weights) = step(tf.constant(x))
        names = [weight.name for weight in layer.trainable_weights]
        return y, on_x, dict(zip(names, on_weights, strict=True))
    import jax

    trained, others = layer.trainable_variables, layer.non_trainable_variables

    def loss(trained, x):
        y, new = layer.stateless_call(trained, [each.value for each in others], x, training=training)
        return (y * gradient).sum(), (y, new)

    found, (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))([each.value for each in trained], x)
    for each, value in zip(others, new, strict=True):
        each.assign(value)
    return y, found[1], {weight.name: each for weight, each in zip(trained, found[0], strict=True)}


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def close(ours, theirs, tolerance):
    """Alike, by the largest value there is."""
    ours = numpy(ours)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))
