"""Equinox: hidden mixing under jax.vmap
======================================

The model takes one sample; the plan is put into it inside the loss, and mixes where vmap brings the samples together.
"""

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from mixlayers.equinox import ManifoldMixup, Mixer
from mixlayers.jax import accuracy, cross_entropy

digits = load_digits()
images, labels = (digits.data / 16.0).astype(np.float32), digits.target
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1200], order[1200:]
model = eqx.nn.MLP(64, 10, width_size=64, depth=3, key=jax.random.key(0))
mixer = Mixer(
    model, ManifoldMixup(), ["input", "layers.0", "layers.1"], example=images[:64]
)
print(mixer.audit)
optimizer = optax.adam(2e-3)


@eqx.filter_jit
def step(model, state, x, y, plan):
    """Train on a batch."""

    def loss(model):
        logits = jax.vmap(mixer.mixed(model, plan))(x)
        return cross_entropy(logits, mixer.target(y, plan))

    gradients = eqx.filter_grad(loss)(model)
    changes, state = optimizer.update(gradients, state)
    return eqx.apply_updates(model, changes), state


state, rng = optimizer.init(eqx.filter(model, eqx.is_array)), np.random.default_rng(1)
for _ in range(300):
    batch = rng.choice(train, 64, replace=False)
    model, state = step(model, state, images[batch], labels[batch], mixer.plan(64))
right = float(accuracy(jax.vmap(model)(images[test]), labels[test]))
print(f"{mixer.history}\naccuracy: {right:.3f}")
if right < 0.9:
    raise SystemExit("the network has not learnt")
