"""Mixing for a framework that mixlayers does not know
===================================================

The framework is HIPS autograd, whose models are plain functions. What the core asks of a framework is
`mixlayers.extend.Framework`. autograd traces NumPy's arrays, so the few operations that differ are below; then every
method, pair policy and kind of target works. A network of two layers learns scikit-learn's digits with Manifold
Mixup, and the gradient through the mix is compared with finite differences.
"""

import autograd.numpy as anp
import numpy as np
from autograd import grad
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval
from sklearn.datasets import load_digits

from mixlayers import ManifoldMixup, MixedTarget
from mixlayers.extend import NumPy, mix_batch

# %%
# Four operations differ from NumPy's own.


class Autograd(NumPy):
    """autograd's boxes, which hold NumPy's arrays while a gradient is recorded."""

    def is_tensor(self, x):
        return isinstance(x, np.ndarray | ArrayBox)

    def to_numpy(self, x):
        return getval(x)

    def blend(self, x, how, partners):
        share = np.reshape(1.0 - np.asarray(how.lam), (-1, *(1 for _ in x.shape[1:])))
        weight = share if how.mask is None else share * how.mask
        return x + weight * (x[how.perm] - x)

    def replace(self, x, how):
        return anp.where(how.mask, how.fill, how.scale * x)


# %%
# A model that is a function has no layers to hook: its author calls `mix` where it should mix.


def mix(x, target, method, step):
    """Mix a batch of features at any depth of a model, and its target."""
    return mix_batch(
        Autograd(),
        x,
        target,
        method,
        step=step,
        seed=0,
        rank=0,
        batch_dim=0,
        channel_dim=1,
    )


def loss(weights, x, y, step):
    """Cross-entropy of a network of two layers, mixed after the first."""
    first, second = weights
    hidden = anp.tanh(x @ first)
    target = MixedTarget(y)
    if step is not None:
        hidden, target = mix(hidden, y, ManifoldMixup(), step)
    logits = hidden @ second
    logs = logits - anp.log(anp.sum(anp.exp(logits), axis=1, keepdims=True))
    return target.blend(
        lambda labels: -anp.mean(logs[anp.arange(len(labels)), labels])
    )


def check_gradient(weights, x, y):
    """Compare the gradient through a mixed step with finite differences."""
    direction = [np.random.default_rng(1).normal(size=w.shape) for w in weights]
    slope = sum(
        (g * d).sum()
        for g, d in zip(grad(loss)(weights, x, y, 0), direction, strict=True)
    )
    ahead, behind = (
        loss([w + e * d for w, d in zip(weights, direction, strict=True)], x, y, 0)
        for e in (1e-5, -1e-5)
    )
    if abs(slope - (ahead - behind) / 2e-5) > 1e-6:
        raise SystemExit("the gradient through the mix is wrong")


# %%
# Check the gradient, then train.

digits = load_digits()
images, labels = digits.data / 16.0, digits.target
rng = np.random.default_rng(0)
order = rng.permutation(len(images))
train, test = order[:1200], order[1200:]
weights = [rng.normal(size=shape) * 0.2 for shape in ((64, 64), (64, 10))]
check_gradient(weights, images[train[:20]], labels[train[:20]])
for step in range(400):
    batch = rng.choice(train, 100)
    gradients = grad(loss)(weights, images[batch], labels[batch], step)
    weights = [w - 0.5 * g for w, g in zip(weights, gradients, strict=True)]
predicted = (np.tanh(images[test] @ weights[0]) @ weights[1]).argmax(1)
accuracy = (predicted == labels[test]).mean()
print(
    f"accuracy of a network in autograd, mixed after its first layer: {accuracy:.3f}"
)
if accuracy < 0.9:
    raise SystemExit("the network has not learnt")
