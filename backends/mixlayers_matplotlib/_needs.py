"""Says the way out where matplotlib is not installed."""

from mixlayers._core.install import check_installed

check_installed("matplotlib", "mixlayers.view", "'matplotlib>=3.8'")
