"""The shared test bodies of tests/, run on a device without pytest: each is a function of the framework `fw`."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from device import stand_in
from device.cases import Case, LeftOut
from device.machine import Device

MODULES = (
    "parity", "targets", "tokens", "padding", "dropblock", "detection", "training", "wrap", "passes",
    "passes_again", "passes_inside", "passes_kept", "refusals", "loss_calls", "history",
)  # fmt: skip
"""Those that move arrays and need no packages but NumPy."""

MASKS = ("tokens", "padding")
"""Those of padding masks, which no link of Chainer takes."""


def torch_bodies(device: Device) -> Iterator[Case]:
    """Of PyTorch, on the device."""
    _find_pytest()
    return _bodies(import_module("tests.support.fw_torch_device").TorchDevice(device.torch))


def paddle_bodies(device: Device) -> Iterator[Case]:
    """Of PaddlePaddle: its tensors are made on the device that is set."""
    _need("paddle")
    _find_pytest()
    framework = import_module("tests.support.fw_paddle").Paddle()
    paddle = import_module("paddle")
    if device.cuda and not paddle.is_compiled_with_cuda():
        raise LeftOut("this PaddlePaddle was built without CUDA")
    paddle.set_device(f"gpu:{device.torch.index}" if device.cuda else "cpu")
    return _bodies(framework)


def jax_bodies(device: Device) -> Iterator[Case]:
    """Of JAX: its arrays are made on the first device that it finds."""
    _need("jax", "mixlayers_jax")
    _find_pytest()
    platform = import_module("jax").devices()[0].platform
    if device.cuda and platform != "gpu":
        raise LeftOut(f"this JAX sees no GPU, only {platform}")
    return _bodies(import_module("tests.support.fw_jax").Jax())


def chainer_bodies(device: Device) -> Iterator[Case]:
    """Of Chainer, on CuPy's arrays or on NumPy's."""
    _need("chainer", *["cupy"] * device.cuda)
    _find_pytest()
    import_module("mixlayers.chainer")  # before chainer itself, which it helps to be imported
    on = import_module("tests.support.fw_chainer_device").ChainerOn
    return _bodies(on(f"@cupy:{device.torch.index}" if device.cuda else "@numpy"), without=MASKS)


def _need(*modules: str) -> None:
    for name in modules:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder may be called alike
            raise LeftOut(f"{name} is not here")


def _find_pytest() -> None:
    if find_spec("pytest") is None:
        stand_in.install()


def _bodies(framework: Any, without: Sequence[str] = ()) -> Iterator[Case]:
    """A case for each module, of all its bodies and their parameters."""
    for module in MODULES:
        if module not in without:
            yield Case(
                f"{framework.name}: tests/shared/test_{module}.py",
                partial(_run, f"tests.shared.test_{module}", framework),
            )


def _run(module: str, fw: Any) -> str:
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        raise LeftOut(f"needs {error.name}") from error
    held, failed, asking = 0, [], set()
    for name, body in vars(found).items():
        wanted = set(inspect.signature(body).parameters) if name.startswith("test_") else set()
        if "fw" not in wanted or not _is_for(body, fw):
            continue
        for arguments in _parameters(body):
            if wanted - {"fw", *arguments}:
                asking.add(name)
                continue
            try:
                with warnings.catch_warnings(), fw:
                    warnings.simplefilter("ignore")
                    body(fw, **arguments)
                held += 1
            except Exception as error:
                said = " ".join(str(error).split())
                failed.append(f"{name}({_short(arguments)}): {type(error).__name__}: {said[:300]}")
    if failed:
        raise AssertionError(f"{len(failed)} of {held + len(failed)} bodies failed: {'; '.join(failed[:5])}")
    if not held:
        raise LeftOut("no body of it runs there")
    rest = f"; {len(asking)} need pytest" if asking else ""
    return f"{held} bodies{rest}"


def _is_for(body: Any, fw: Any) -> bool:
    """Whether a body runs on a framework: on one without hooks where its mark says so."""
    return fw.name != "jax" or any(mark.args[:1] == ("fw",) for mark in getattr(body, "pytestmark", []))


def _parameters(body: Any) -> Iterator[Mapping[str, Any]]:
    """Every combination of a test's parameters."""
    axes = []
    for mark in getattr(body, "pytestmark", []):
        if mark.name == "parametrize" and mark.args[0] != "fw":
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
