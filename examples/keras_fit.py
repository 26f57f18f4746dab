"""A Keras fit
===========

A small residual network learns scikit-learn's digits, and `fit` mixes. With
KERAS_BACKEND=torch, or tensorflow, the same script runs there.
"""

import os

os.environ.setdefault(
    "KERAS_BACKEND", "jax"
)  # before keras is imported for the first time

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import mixlayers.keras
from mixlayers import view
from mixlayers.keras import PatchUp

# %%
# An ordinary functional model.


def block(x, width, name):
    """A convolution and the way round it."""
    h = layers.BatchNormalization(momentum=0.9)(
        layers.Conv2D(width, 3, padding="same")(x)
    )
    return layers.Activation("relu", name=name)(layers.Add()([x, h]))


keras.utils.set_random_seed(0)
digits = load_digits()
images, labels = (digits.images[..., None] / 16.0).astype(np.float32), digits.target
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1200], order[1200:]

inputs = keras.Input((8, 8, 1))
x = layers.Conv2D(16, 3, padding="same", name="stem")(inputs)
for number in (1, 2, 3):
    x = block(x, 16, f"layer{number}")
net = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))

# %%
# ``wrap`` returns the model that it was given. The layers that are named are checked:
# everything must pass through them.

mixlayers.keras.wrap(
    net, PatchUp("soft", block_size=3), ["input", "layer1", "layer2"]
)
mixer = mixlayers.keras.get_mixer(net)
print(mixer.audit)

# %%
# Compile and fit as always. The callback adds to the logs what was mixed; validation is
# never mixed.

loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
net.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
logs = net.fit(
    images[train],
    labels[train],
    batch_size=64,
    epochs=15,
    validation_data=(images[test], labels[test]),
    verbose=0,
    callbacks=[mixlayers.keras.Mixing()],
)
right = logs.history["val_accuracy"][-1]
print(f"{mixer.history}\naccuracy: {right:.3f}")
if right < 0.9:
    raise SystemExit("the network has not learnt")

# %%
# What was mixed, and how much of it.

view.history(mixer.history)
