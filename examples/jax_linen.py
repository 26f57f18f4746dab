"""Flax Linen: hidden mixing in the place of apply
================================================

The model is left as it is; `mixer.apply` takes a target and a plan beside what `model.apply` takes.
"""

import jax
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

from mixlayers.jax import accuracy, cross_entropy
from mixlayers.linen import ManifoldMixup, Mixer


class Net(nn.Module):
    """Three layers with norms, and a head."""

    @nn.compact
    def __call__(self, x, train):
        for at in range(3):
            x = nn.Dense(64, name=f"layer{at}")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(10, name="head")(x)


digits = load_digits()
images, labels = (digits.data / 16.0).astype(np.float32), digits.target
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1200], order[1200:]
net = Net()
variables = net.init(jax.random.key(0), images[:64], train=True)
mixer = Mixer(net, ManifoldMixup(), example={"x": images[:64], "train": True})
print(mixer)
optimizer = optax.adam(2e-3)


@jax.jit
def step(variables, state, x, y, plan):
    """Train on a batch, and move the norms' statistics."""

    def loss(parameters):
        (logits, updates), target = mixer.apply(
            {**variables, "params": parameters},
            x,
            train=True,
            target=y,
            plan=plan,
            mutable=["batch_stats"],
        )
        return cross_entropy(logits, target, label_smoothing=0.1), updates

    (_, updates), gradients = jax.value_and_grad(loss, has_aux=True)(
        variables["params"]
    )
    changes, state = optimizer.update(gradients, state)
    return {
        "params": optax.apply_updates(variables["params"], changes),
        **updates,
    }, state


state, rng = optimizer.init(variables["params"]), np.random.default_rng(1)
for _ in range(200):
    batch = rng.choice(train, 64, replace=False)
    variables, state = step(
        variables, state, images[batch], labels[batch], mixer.plan(64)
    )
right = float(accuracy(net.apply(variables, images[test], train=False), labels[test]))
print(f"{mixer.history}\naccuracy: {right:.3f}")
if right < 0.9:
    raise SystemExit("the network has not learnt")
