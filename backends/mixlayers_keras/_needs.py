"""Says the way out where Keras is not installed, or is to run on what is not mixed on."""

from mixlayers._core.install import check_installed

check_installed("keras", "mixlayers.keras", "'keras>=3.15'")

try:
    import keras
except ImportError as error:  # of TensorFlow, on which it runs by default
    raise ImportError(
        f"mixlayers.keras: Keras cannot be imported ({error}): install tensorflow, or set "
        'os.environ["KERAS_BACKEND"] = "jax", or "torch", before keras is imported for the first time.'
    ) from error

if keras.config.backend() not in ("jax", "tensorflow", "torch"):
    raise ImportError(
        "mixlayers.keras mixes where Keras runs on JAX, PyTorch or TensorFlow, got "
        f"KERAS_BACKEND={keras.config.backend()!r}: set one of these before keras is imported for the first time."
    )
