"""JAX, as the shared test bodies use it that need no hooks."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

import mixlayers.jax
from tests.support.fw_base import Arrays

blended = jax.jit(mixlayers.jax.blend, static_argnums=2)


class Collate(mixlayers.jax.MixCollate):
    channel_dim = 1


class Jax(Arrays):
    """With 64 bits, as the tests ask for both precisions; channels second, as the shared bodies have them."""

    name = "jax"
    face = SimpleNamespace(
        MixCollate=Collate,
        accuracy=partial(mixlayers.jax.accuracy, axis=1),
        binary_cross_entropy=partial(mixlayers.jax.binary_cross_entropy, axis=1),
        calibration_error=mixlayers.jax.calibration_error,
        cross_entropy=partial(mixlayers.jax.cross_entropy, axis=1),
        mix=partial(mixlayers.jax.mix, channel_dim=1),
        mix_detection=mixlayers.jax.mix_detection,
        temperature=mixlayers.jax.temperature,
    )

    def __enter__(self):
        self.wide = jax.enable_x64(True)
        self.wide.__enter__()
        return self

    def __exit__(self, *error):
        self.wide.__exit__(*error)

    def tensor(self, array, dtype=None):
        """Labels are NumPy's, as loaders hand them out."""
        array = np.array(array, dtype)
        return jnp.asarray(array) if array.dtype.kind == "f" else array

    def numpy(self, tensor):
        return np.asarray(tensor, np.float64)

    def dtype(self, tensor):
        return str(tensor.dtype)

    def gradient(self, f, x, upstream):
        return self.numpy(jax.vjp(f, x)[1](upstream.astype(x.dtype))[0])

    def cross_entropy(self, output, y):
        return optax.softmax_cross_entropy_with_integer_labels(output, y).mean()

    def mix_hidden(self, x, y, method, *, step, seed=0):
        """In a compiled function of one place, called "0"."""
        plan = method.plan(step=step, seed=seed, batch_size=len(y), places=["0"])
        data = mixlayers.jax.Plan.of(plan, x.shape, 1)
        return blended(x, data, "0"), mixlayers.jax.mixed_target(y, data)
