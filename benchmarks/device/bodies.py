"""The shared test bodies of tests/, run on a device without pytest: each is a function of the framework `fw`."""

from __future__ import annotations

import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from device import stand_in
from device.cases import Case, LeftOut
from device.machine import Device

TESTS = Path(__file__).parents[2] / "tests"
FOLDERS = ("", "frameworks", "torch", "paddle", "chainer", "jax")
MODULES = (
    "parity", "targets", "tokens", "padding", "dropblock", "detection", "training", "wrap", "passes",
    "passes_again", "passes_inside", "passes_kept", "refusals", "iebn", "loss_calls", "history",
)  # fmt: skip
"""Those that move arrays, need no packages but NumPy, and hold for every framework."""


def torch_bodies(device: Device) -> Iterator[Case]:
    """Of PyTorch, on the device."""
    return _bodies("torch", lambda: _made("torch_device", str(device.torch)))


def paddle_bodies(device: Device) -> Iterator[Case]:
    """Of PaddlePaddle: its tensors are made on the device that is set."""

    def made() -> Any:
        _need("paddle", "mixlayers_paddle")
        framework = _made("paddle")
        paddle = sys.modules["paddle"]
        if device.cuda and not paddle.is_compiled_with_cuda():
            raise LeftOut("this PaddlePaddle was built without CUDA")
        paddle.set_device("gpu:0" if device.cuda else "cpu")
        return framework

    return _bodies("paddle", made)


def jax_bodies(device: Device) -> Iterator[Case]:
    """Of JAX: its arrays are made on the first device that it finds."""

    def made() -> Any:
        _need("jax", "mixlayers_jax")
        jax = import_module("jax")
        platform = jax.devices()[0].platform
        if device.cuda and platform != "gpu":
            raise LeftOut(f"this JAX sees no GPU, only {platform}")
        return _made("jax")

    return _bodies("jax", made)


def _need(*modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise LeftOut(f"{', '.join(missing)} is not here")


def _made(name: str, *args: Any) -> Any:
    module = import_module(f"fw_{name}")
    return getattr(module, name.title().replace("_", ""))(*args)


def _bodies(name: str, make: Callable[[], Any]) -> Iterator[Case]:
    """A case for each module, of all its bodies and their parameters."""
    sys.path[:0] = [str(TESTS / folder) for folder in FOLDERS]
    if find_spec("pytest") is None:
        stand_in.install()
    made: list[Any] = []

    def framework() -> Any:
        if not made:
            made.append(make())
        return made[0]

    for module in MODULES:
        yield Case(f"{name}: tests/test_{module}.py", partial(_run, f"test_{module}", framework))


def _run(module: str, framework: Callable[[], Any]) -> str:
    fw = framework()
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        raise LeftOut(f"needs {error.name}") from error
    held, failed, asking = 0, [], set()
    for name, body in vars(found).items():
        wanted = set(inspect.signature(body).parameters) if name.startswith("test_") else set()
        if "fw" not in wanted:
            continue
        for arguments in _parameters(body):
            if wanted - {"fw", *arguments}:
                asking.add(name)
                continue
            try:
                with warnings.catch_warnings(), np.errstate():
                    body(fw, **arguments)
                held += 1
            except Exception as error:
                said = " ".join(str(error).split())
                failed.append(f"{name}({_short(arguments)}): {type(error).__name__}: {said[:300]}")
    if failed:
        raise AssertionError(f"{len(failed)} of {held + len(failed)} bodies failed: {'; '.join(failed[:5])}")
    rest = f"; {len(asking)} need pytest" if asking else ""
    return f"{held} bodies{rest}"


def _parameters(body: Any) -> Iterator[Mapping[str, Any]]:
    """Every combination of a test's parameters."""
    axes = []
    for mark in getattr(body, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0]
            keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
            axes.append([dict(zip(keys, _values(case, len(keys)), strict=True)) for case in mark.args[1]])
    for chosen in itertools.product(*axes):
        yield {key: value for part in chosen for key, value in part.items()}


def _values(case: Any, keys: int) -> Any:
    if type(case).__name__ in ("ParameterSet", "_Param"):
        return case.values
    return (case,) if keys == 1 else case


def _short(arguments: Mapping[str, Any]) -> str:
    return ", ".join(str(value)[:40] for value in arguments.values())
