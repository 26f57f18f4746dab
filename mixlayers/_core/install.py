"""Hints on what to install; none names a package that no index has."""

from __future__ import annotations

from importlib.util import find_spec


def extra(name: str) -> str:
    """The line that installs one of mixlayers' extras."""
    return f"pip install '.[{name}]' in a checkout of mixlayers"


def check_installed(module: str, face: str, package: str) -> None:
    """Raise, in one line, unless what a face stands on is installed.

    Args:
        module: What is imported.
        face: Who needs it, such as mixlayers.torch.
        package: Its name on the index, as `pip install` takes it.

    Raises:
        ModuleNotFoundError: If it is not.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(
            f"{face} needs {module}, which is not installed: pip install {package}", name=module
        )
