"""A function of parameters: hidden mixing in bare JAX
====================================================

Its author names the places, and `lax.scan` runs ten steps at a time: plans for all places are alike then.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from mixlayers.jax import (
    ManifoldMixup,
    Mixer,
    accuracy,
    blend,
    cross_entropy,
    stacked,
)


def net(weights, x, plan=None):
    """Logits of a network of three layers."""
    x = blend(x, plan, "input")
    x = blend(jnp.tanh(x @ weights[0]), plan, "first")
    x = blend(jnp.tanh(x @ weights[1]), plan, "second")
    return x @ weights[2]


digits = load_digits()
images, labels = (digits.data / 16.0).astype(np.float32), digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(images))
train, test = order[:1200], order[1200:]
weights = [
    0.2 * rng.normal(size=shape).astype(np.float32)
    for shape in ((64, 64), (64, 64), (64, 10))
]
mixer = Mixer(
    lambda x, plan: net(weights, x, plan),
    ManifoldMixup(),
    example=images[:64],
    one_compilation=True,
)
print(mixer.audit)


def step(weights, batch):
    """One of many steps."""
    x, y, plan = batch
    loss, gradients = jax.value_and_grad(
        lambda w: cross_entropy(net(w, x, plan), mixer.target(y, plan))
    )(weights)
    return jax.tree.map(lambda w, g: w - 0.3 * g, weights, gradients), loss


ten_steps = jax.jit(partial(jax.lax.scan, step))
for _ in range(40):
    rows = np.stack([rng.choice(train, 64, replace=False) for _ in range(10)])
    plans = stacked([mixer.plan(64) for _ in rows])
    weights, losses = ten_steps(weights, (images[rows], labels[rows], plans))
right = float(accuracy(net(weights, images[test]), labels[test]))
print(f"{mixer.history}\nlast losses {losses.mean():.2f}, accuracy: {right:.3f}")
if right < 0.9:
    raise SystemExit("the network has not learnt")
