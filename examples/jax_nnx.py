"""A Flax NNX loop
===============

A small residual network learns scikit-learn's digits. The plan of each step is drawn
outside of the compiled step, and is one of its arguments.
"""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from mixlayers import view
from mixlayers.jax import accuracy
from mixlayers.nnx import Mixer, PatchUp

# %%
# An ordinary network.


class Block(nnx.Module):
    """A convolution and the way round it."""

    def __init__(self, width, rngs):
        self.conv = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(x + self.norm(self.conv(x)))


class Net(nnx.Module):
    """A stem, three blocks and a head."""

    def __init__(self, rngs, width=16):
        self.stem = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.layer1, self.layer2, self.layer3 = (Block(width, rngs) for _ in range(3))
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.mean((1, 2)))


# %%
# The mixer traces the network once, with an example of the batch, and finds the layers
# that everything passes through: the blocks, and not the convolutions inside them.

digits = load_digits()
images = (digits.images[..., None] / 16.0).astype(np.float32)
labels = digits.target
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1200], order[1200:]
net = Net(nnx.Rngs(0))
mixer = Mixer(net, PatchUp("soft", block_size=3), example=images[:64])
print(mixer.audit)


# %%
# The network takes ``target`` and ``plan``, and returns the logits with the mixed
# target. ``blend`` calls the loss for the samples' own labels and for their partners'.


@nnx.jit
def step(net, optimizer, x, y, plan):
    """Train on a batch; the loss blends as the plan mixed."""

    def loss(net):
        logits, target = net(x, target=y, plan=plan)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return target.blend(lambda y: cross_entropy(logits, y)).mean()

    value, gradients = nnx.value_and_grad(loss)(net)
    optimizer.update(net, gradients)
    return value


# %%
# Each step gets a plan of its own. The step is compiled once for each place.

optimizer = nnx.Optimizer(net, optax.adam(5e-3), wrt=nnx.Param)
rng = np.random.default_rng(1)
for _ in range(300):
    batch = rng.choice(train, 64, replace=False)
    step(net, optimizer, images[batch], labels[batch], mixer.plan(64))
net.eval()
right = float(accuracy(net(jnp.asarray(images[test])), labels[test]))
print(f"{mixer.history}\naccuracy: {right:.3f}")
if right < 0.9:
    raise SystemExit("the network has not learnt")

# %%
# What was mixed, and how much of it.

view.history(mixer.history)
