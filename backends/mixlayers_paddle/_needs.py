"""Says the way out where paddle is not installed."""

from mixlayers._core.install import check_installed

check_installed("paddle", "mixlayers.paddle", "'paddlepaddle>=3.3'")
