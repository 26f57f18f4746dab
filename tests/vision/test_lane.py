"""What the lane is made of: it fails, and skips nothing, where a package is missing."""

from importlib import import_module, metadata

import pytest


@pytest.mark.parametrize("package", ["torchvision", "timm", "fastai", "kornia", "mixlayers"])
def test_package_is_installed(package: str) -> None:
    assert metadata.version(package)
    assert import_module(package)
