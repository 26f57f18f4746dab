"""`mixlayers audit`: find or build a model by its name, and show where all of it can be mixed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import typer

from mixlayers.cli.stop import WRONG_USE, Stop, cause

DEFAULT_SHAPE: Final = (3, 224, 224)


def run_audit(name: str, shape: str | None, *, folded: bool = True) -> None:
    """Print the audit of a model.

    Raises:
        Stop: If the model is not found, cannot be built, or does not run on such an input.
    """
    wanted = None if shape is None else parse_shape(shape)
    if find_spec("torch") is None:
        raise Stop("The audit needs torch, which is not installed: pip install torch")
    import torch

    from mixlayers.torch import audit

    model = find_model(name)
    if not isinstance(model, torch.nn.Module):
        raise Stop(
            f"{name} gives a {type(model).__name__}, not a torch module: name a callable that returns one."
        )
    size = wanted or declared_shape(model) or DEFAULT_SHAPE
    example = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    try:
        report = audit(model, example)
    except Exception as error:  # the model's own code runs here
        given = "" if wanted else "; give the shape of an input with --shape"
        raise Stop(
            f"{name} cannot be audited on an input of shape (2, {_listed(size)}): {cause(error)}{given}"
        ) from error
    typer.echo(f"{name}, input of shape (2, {_listed(size)})\n")
    typer.echo(report.table(folded=folded))


def parse_shape(text: str) -> tuple[int, ...]:
    """ "3,224,224" or "3x224x224" as numbers.

    Raises:
        Stop: If it is none of them.
    """
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise Stop(
            f"--shape takes whole numbers separated by commas, such as 3,224,224; got {text!r}.", WRONG_USE
        )
    return shape


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def declared_shape(model: Any) -> tuple[int, ...] | None:
    """The input that a model of timm (`default_cfg`) or pytorchcv (`in_size`) says it is for."""
    settings = getattr(model, "default_cfg", None)
    if isinstance(settings, dict) and settings.get("input_size"):
        return tuple(settings["input_size"])
    size = getattr(model, "in_size", None)
    return (getattr(model, "in_channels", 3), *size) if isinstance(size, tuple) else None


def find_model(name: str) -> Any:
    """Build the model of that name.

    Raises:
        Stop: If nothing has that name, with what was tried; or if building it fails.
    """
    tried: list[str] = []
    for find in (_by_path, _in_torchvision, _in_timm, _in_pytorchcv):
        build = find(name, tried)
        if build is None:
            continue
        try:
            return build()
        except Exception as error:  # anybody's code runs here
            raise Stop(f"{name} was found but cannot be built: {cause(error)}") from error
    raise Stop(
        f"No model {name!r}. Tried: {'; '.join(tried)}. A model of your own is named package.module:callable.",
        WRONG_USE,
    )


def _by_path(name: str, tried: list[str]) -> Callable[[], Any] | None:
    """package.module:callable or package.module.callable, also from the working directory."""
    if ":" not in name and "." not in name:
        return None
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module_name, path in _readings(name):
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and (
                module_name == error.name or module_name.startswith(error.name + ".")
            ):
                tried.append(f"no module {error.name}")
                continue
            raise Stop(f"{module_name} cannot be imported: {cause(error)}") from error
        except Exception as error:  # anybody's code runs here
            raise Stop(f"{module_name} cannot be imported: {cause(error)}") from error
        for part in path:
            found = getattr(found, part, None)
        if found is None:
            tried.append(f"{module_name} has no {'.'.join(path)}")
            continue
        return _builder(found)
    return None


def _readings(name: str) -> Iterator[tuple[str, list[str]]]:
    """Splits into a module and a path in it, longest module first."""
    if ":" in name:
        module, _, path = name.partition(":")
        yield module, path.split(".")
        return
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:cut]), parts[cut:]


def _builder(found: Any) -> Callable[[], Any]:
    import torch

    if isinstance(found, torch.nn.Module) or not callable(found):
        return lambda: found
    return lambda: found()


def _in_torchvision(name: str, tried: list[str]) -> Callable[[], Any] | None:
    models = _package("torchvision.models", tried)
    if models is None:
        return None
    if name not in models.list_models():
        tried.append("torchvision has no model of that name")
        return None
    return lambda: models.get_model(name, weights=None)


def _in_timm(name: str, tried: list[str]) -> Callable[[], Any] | None:
    timm = _package("timm", tried)
    if timm is None:
        return None
    if not timm.is_model(name):
        tried.append("timm has no model of that name")
        return None
    return lambda: timm.create_model(name, pretrained=False)


def _in_pytorchcv(name: str, tried: list[str]) -> Callable[[], Any] | None:
    provider = _package("pytorchcv.model_provider", tried)
    if provider is None:
        return None
    if name.lower() not in provider._models:
        tried.append("pytorchcv has no model of that name")
        return None
    return lambda: provider.get_model(name, pretrained=False)


def _package(module: str, tried: list[str]) -> Any:
    """The module, or None with a note on why not."""
    package = module.partition(".")[0]
    if find_spec(package) is None:
        tried.append(f"{package} is not installed")
        return None
    try:
        return import_module(module)
    except Exception as error:  # a package that does not fit the installed torch may raise anything
        tried.append(f"{package} cannot be imported ({cause(error)})")
        return None
