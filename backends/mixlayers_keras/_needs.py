"""Says the way out where Keras is not installed, or is to run on what is not mixed on."""

from typing import Final

from mixlayers._core.install import check_installed

check_installed("keras", "mixlayers.keras", "'keras>=3.15'")

WAY_OUT: Final = (
    'set os.environ["KERAS_BACKEND"] = "jax", or "torch", before keras is imported for the first time.'
)

try:
    import keras
except ImportError as error:  # of TensorFlow, on which it runs by default
    raise ImportError(f"mixlayers.keras: Keras cannot be imported ({error}): {WAY_OUT}") from error

if keras.config.backend() not in ("jax", "torch"):
    raise ImportError(
        f"mixlayers.keras mixes where Keras runs on JAX or PyTorch, got KERAS_BACKEND={keras.config.backend()!r}: "
        f"{WAY_OUT}"
    )
