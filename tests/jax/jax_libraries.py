"""One small network in each of JAX's libraries: what the bodies of this folder's tests need of them.

A stem, three residual blocks, a head after a mean over space. `stages` are its parts, to mix between them by hand.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import mixlayers.equinox
import mixlayers.jax
import mixlayers.linen
import mixlayers.nnx

WIDTH = 4
BLOCKS = ("layer1", "layer2", "layer3")
PLACES = ["input", "layer1", "layer2"]


def batch(size=6, seed=0):
    """Images (N, 6, 6, 3) and labels of four classes."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((size, 6, 6, 3), dtype=np.float32), rng.permutation(np.arange(size) % 4)


class Nnx:
    """Flax NNX; what is differentiated is the module itself."""

    name, face, channel_dim = "nnx", mixlayers.nnx, -1

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(WIDTH, WIDTH, (3, 3), rngs=rngs)

        def __call__(self, x):
            return nnx.relu(x + self.conv(x))

    class Net(nnx.Module):
        def __init__(self, rngs, block=None):
            block = block or Nnx.Block
            self.stem = nnx.Conv(3, WIDTH, (3, 3), rngs=rngs)
            self.layer1, self.layer2, self.layer3 = block(rngs), block(rngs), block(rngs)
            self.head = nnx.Linear(WIDTH, 4, rngs=rngs)

        def __call__(self, x):
            for layer in (self.stem, self.layer1, self.layer2, self.layer3):
                x = layer(x)
            return self.head(x.mean((1, 2)))

    def images(self, x):
        return x

    def model(self, **options):
        return self.Net(nnx.Rngs(0), **options)

    def mixer(self, model, method=None, layers="auto", **options):
        return mixlayers.nnx.Mixer(
            model, method, layers, example=options.pop("example", batch()[0]), **options
        )

    def audit(self, model, x):
        return mixlayers.nnx.audit(model, x)

    def forward(self, mixer, model, x, y, plan):
        return model(x, target=y, plan=plan)

    def stages(self, model):
        named = [(name, getattr(model, name)) for name in ("stem", *BLOCKS)]
        return [*named, ("head", lambda x: model.head(x.mean((1, 2))))]

    def gradients(self, loss, model):
        """The loss and the gradients by name."""
        graph, state = nnx.split(model)
        value, found = jax.value_and_grad(lambda state: loss(nnx.merge(graph, state)))(state)
        return value, found


class Linen:
    """Flax Linen; what is differentiated is the parameters."""

    name, face, channel_dim = "linen", mixlayers.linen, -1

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(x + nn.Conv(WIDTH, (3, 3), name="conv")(x))

    class Net(nn.Module):
        block: type = None

        def setup(self):
            block = self.block or Linen.Block
            self.stem = nn.Conv(WIDTH, (3, 3))
            self.layer1, self.layer2, self.layer3 = block(), block(), block()
            self.head = nn.Dense(4)

        def __call__(self, x):
            for layer in (self.stem, self.layer1, self.layer2, self.layer3):
                x = layer(x)
            return self.head(x.mean((1, 2)))

    def images(self, x):
        return x

    def model(self, **options):
        self.net = self.Net(**options)
        return self.net.init(jax.random.key(0), batch()[0])

    def mixer(self, model, method=None, layers="auto", **options):
        return mixlayers.linen.Mixer(
            self.net, method, layers, example=options.pop("example", batch()[0]), **options
        )

    def audit(self, model, x):
        return mixlayers.linen.audit(self.net, x)

    def forward(self, mixer, model, x, y, plan):
        return mixer.apply(model, x, target=y, plan=plan)

    def stages(self, model):
        def stage(name):
            return lambda x: self.net.apply(model, x, method=lambda net, x: getattr(net, name)(x))

        named = [(name, stage(name)) for name in ("stem", *BLOCKS)]
        return [*named, ("head", lambda x: stage("head")(x.mean((1, 2))))]

    def gradients(self, loss, model):
        return jax.value_and_grad(loss)(model)


class Equinox:
    """Equinox; what is differentiated is the model. Images are (C, H, W)."""

    name, face, channel_dim = "equinox", mixlayers.equinox, 1

    class Block(eqx.Module):
        conv: eqx.nn.Conv2d

        def __init__(self, key):
            self.conv = eqx.nn.Conv2d(WIDTH, WIDTH, 3, padding=1, key=key)

        def __call__(self, x):
            return jax.nn.relu(x + self.conv(x))

    class Net(eqx.Module):
        stem: eqx.nn.Conv2d
        layer1: eqx.Module
        layer2: eqx.Module
        layer3: eqx.Module
        head: eqx.nn.Linear

        def __init__(self, key, block=None):
            keys, block = jax.random.split(key, 5), block or Equinox.Block
            self.stem = eqx.nn.Conv2d(3, WIDTH, 3, padding=1, key=keys[0])
            self.layer1, self.layer2, self.layer3 = (block(key) for key in keys[1:4])
            self.head = eqx.nn.Linear(WIDTH, 4, key=keys[4])

        def __call__(self, x):
            for layer in (self.stem, self.layer1, self.layer2, self.layer3):
                x = layer(x)
            return self.head(x.mean((1, 2)))

    def images(self, x):
        return np.moveaxis(x, -1, 1)

    def model(self, **options):
        return self.Net(jax.random.key(0), **options)

    def mixer(self, model, method=None, layers="auto", **options):
        example = self.images(options.pop("example", batch()[0]))
        return mixlayers.equinox.Mixer(model, method, layers, example=example, **options)

    def audit(self, model, x):
        return mixlayers.equinox.audit(model, self.images(x))

    def forward(self, mixer, model, x, y, plan):
        return jax.vmap(mixer.mixed(model, plan))(x), mixer.target(y, plan)

    def stages(self, model):
        named = [(name, jax.vmap(getattr(model, name))) for name in ("stem", *BLOCKS)]
        return [*named, ("head", lambda x: jax.vmap(model.head)(x.mean((2, 3))))]

    def gradients(self, loss, model):
        value, found = eqx.filter_value_and_grad(loss)(model)
        return value, found


class Function:
    """A function of parameters; its places are named where they are."""

    name, face, channel_dim = "function", mixlayers.jax, -1

    def images(self, x):
        return x

    def model(self):
        rng = np.random.default_rng(1)
        shapes = {"stem": (3, WIDTH), **dict.fromkeys(BLOCKS, (WIDTH, WIDTH)), "head": (WIDTH, 4)}
        return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    def net(self, model, x, plan=None):
        x = mixlayers.jax.blend(x, plan, "input")
        for name, stage in self.stages(model):
            x = mixlayers.jax.blend(stage(x), plan, name)
        return x

    def mixer(self, model, method=None, layers="auto", **options):
        example = options.pop("example", batch()[0])
        return mixlayers.jax.Mixer(
            lambda x, plan: self.net(model, x, plan), method, layers, example=example, **options
        )

    def audit(self, model, x):
        return mixlayers.jax.audit(lambda x, plan: self.net(model, x, plan), x)

    def forward(self, mixer, model, x, y, plan):
        return self.net(model, x, plan), mixer.target(y, plan)

    def stages(self, model):
        def block(name):
            return lambda x: x + jnp.tanh(x @ model[name])

        named = [("stem", lambda x: x @ model["stem"]), *((name, block(name)) for name in BLOCKS)]
        return [*named, ("head", lambda x: x.mean((1, 2)) @ model["head"])]

    def gradients(self, loss, model):
        return jax.value_and_grad(loss)(model)


LIBRARIES = [Nnx(), Linen(), Equinox(), Function()]


def by_hand(lib, model, x, how, place):
    """The output with the features mixed at a place by JAX's own operators; how None: clean."""

    def mix(h):
        lam = jnp.asarray(how.lam, jnp.float32).reshape(-1, *(1,) * (h.ndim - 1))
        mixed = lam * h + (1 - lam) * h[how.perm]
        return mixed if how.mask is None else jnp.where(how.mask, mixed, h)

    x = mix(x) if place == "input" else x
    for name, stage in lib.stages(model):
        x = stage(x)
        x = mix(x) if name == place else x
    return x


def same(ours, theirs, tolerance=2e-6):
    """Compare two trees, by the largest number of theirs."""
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs) > 0
    scale = max(float(np.abs(leaf).max()) for leaf in theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * scale, rtol=0)
