"""Says the way out where PIL is not installed."""

from mixlayers._core.install import check_installed

check_installed("PIL", "mixlayers.augment", "'pillow>=10'")
