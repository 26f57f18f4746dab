"""Small Keras networks, and training steps by hand on whatever Keras runs on."""

import keras
import numpy as np
from keras import layers, ops

BACKEND = keras.config.backend()
ON_JAX = BACKEND == "jax"
RATE = 0.5


def seeded(seed=0):
    keras.utils.set_random_seed(seed)


def sequential(outputs=4):
    """Three convolutions and a head, on images (8, 8, 3)."""
    seeded()
    return keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", name="one"),
            layers.ReLU(name="one_relu"),
            layers.Conv2D(6, 3, padding="same", strides=2, name="two"),
            layers.ReLU(name="two_relu"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(outputs, name="head"),
        ]
    )


def residual():
    """A functional model with a block that something goes round."""
    seeded()
    x = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    inner = layers.Conv2D(4, 3, padding="same", name="inner")(stem)
    joined = layers.Add(name="joined")([stem, inner])
    return keras.Model(x, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(joined)))


class Block(keras.Layer):
    """A convolution and a norm."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(width, 3, padding="same", name="conv")
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return ops.relu(self.norm(self.conv(x), training=training))


class Subclassed(keras.Model):
    """Three blocks and a head."""

    def __init__(self, outputs=4, **options):
        super().__init__(**options)
        self.blocks = [Block(4, name=f"block_{at}") for at in range(3)]
        self.pool = layers.GlobalAveragePooling2D(name="pool")
        self.head = layers.Dense(outputs, name="head")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.pool(x))


def two_heads():
    seeded()
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    h = layers.GlobalAveragePooling2D(name="pool")(h)
    return keras.Model(x, [layers.Dense(4, name="kind")(h), layers.Dense(1, name="size")(h)])


def batch(size=8, classes=4, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((size, 8, 8, 3), dtype=np.float32)
    return x, rng.integers(classes, size=size)


def loss(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def compiled(model, **options):
    options = {"loss": loss(), "optimizer": keras.optimizers.SGD(RATE), **options}
    model.compile(**options)
    return model


def inside(path):
    """A variable's path without the model's name."""
    return path.partition("/")[2]


def weights(model):
    return {inside(weight.path): np.array(ops.convert_to_numpy(weight)) for weight in model.weights}


def stepped(model, value):
    """The trainable weights after one step of SGD on what value() calculates."""
    variables = model.trainable_variables
    if ON_JAX:
        import jax

        def of(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return value()

        gradients = jax.grad(of)([variable.value for variable in variables])
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            found = value()
        gradients = tape.gradient(found, [variable.value for variable in variables])
    else:
        import torch

        gradients = torch.autograd.grad(value(), [variable.value for variable in variables])
    return {
        inside(variable.path): ops.convert_to_numpy(variable.value) - RATE * ops.convert_to_numpy(gradient)
        for variable, gradient in zip(variables, gradients, strict=True)
    }


def mixed_by_hand(x, plan):
    """A feature mixed by Keras' own operations."""
    x = ops.convert_to_tensor(x)
    how = plan.blend(tuple(x.shape), -1)
    lam = np.reshape(how.lam, (-1, *(1,) * (x.ndim - 1))).astype(np.float32)
    one, other = map(ops.convert_to_tensor, (lam, 1 - lam))
    mixed = one * x + other * ops.take(x, plan.perm, axis=0)
    return (mixed if how.mask is None else ops.where(how.mask, mixed, x)), how.s


def run(model, x, plan):
    """A sequential model with the plan's place mixed by hand: its output, and the partner's share."""
    s = 0.0
    if plan.place == "input":
        x, s = mixed_by_hand(x, plan)
    for layer in model.layers:
        x = layer(x, training=True)
        if layer.name == plan.place:
            x, s = mixed_by_hand(x, plan)
    return x, s


def close(ours, theirs, atol=1e-6):
    assert theirs
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=1e-5, atol=atol, err_msg=path)


def cross_entropy(output, y):
    """One value a sample."""
    return keras.losses.sparse_categorical_crossentropy(y, output, from_logits=True)


def blended(output, y, plan, s, weight=None):
    weight = np.ones(len(y)) if weight is None else weight
    own, theirs = (np.asarray(each, np.float32) for each in ((1 - s) * weight, s * weight[plan.perm]))
    one, other = cross_entropy(output, y), cross_entropy(output, y[plan.perm])
    return ops.mean(ops.convert_to_tensor(own) * one + ops.convert_to_tensor(theirs) * other)


def by_hand(model, method, place, x, y, weight=None):
    labels = y if method.needs_classes else None
    plan = method.plan(step=0, batch_size=len(x), places=[place], labels=labels)

    def value():
        output, s = run(model, x, plan)
        return blended(output, y, plan, s, weight) * plan.loss_scale

    return stepped(model, value)
