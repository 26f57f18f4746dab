"""Layers, features and numbers for the tests of IEBN in Keras."""

import keras
import numpy as np

CHANNELS = 5
NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "weight_readjust": "weight_readjust",
    "bias_readjust": "bias_readjust",
}
SHAPES = {"vectors": (8, CHANNELS), "series": (8, CHANNELS, 6), "maps": (8, CHANNELS, 4, 3)}
CASES = [("vectors", -1), ("series", 1), ("maps", -1), ("maps", 1)]


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape) * 1.5 + 0.7


def values():
    """Random parameters by the reference's names, and a moving mean and variance."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(CHANNELS) for name in NAMES}, {
        "mean": rng.standard_normal(CHANNELS),
        "var": 0.5 + rng.random(CHANNELS),
    }


def given(layer, x):
    """The layer, built for x and with the values above, as far as it has them."""
    if not layer.built:
        layer.build(x.shape)
    parameters, statistics = values()
    for name, ours in NAMES.items():
        if getattr(layer, ours, None) is not None:
            getattr(layer, ours).assign(parameters[name])
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
