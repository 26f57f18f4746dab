"""Says the way out where JAX is not installed."""

from mixlayers._core.install import check_installed

check_installed("jax", "mixlayers.jax", "'jax>=0.10'")
