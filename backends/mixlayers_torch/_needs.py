"""Says the way out where torch is not installed."""

from mixlayers._core.install import check_installed

check_installed("torch", "mixlayers.torch", "'torch>=2.8'")
