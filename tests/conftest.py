"""One fixture for every framework: `fw`, with which the shared test bodies build networks and train them."""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

# read when JAX starts: four devices that are one
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

HERE = Path(__file__).parent
FRAMEWORKS = ("torch", "paddle", "chainer")

sys.path[:0] = [
    str(HERE / folder)
    for folder in ("support", "frameworks", "trainers", "programs", "install", "jax", *FRAMEWORKS)
]


def made(name: str) -> Any:
    import_module(f"mixlayers.{name.partition('_')[0]}")  # before chainer, which it helps to be imported
    module = import_module(f"fw_{name}")
    return getattr(module, name.title().replace("_", ""))()


@pytest.fixture
def frameworks() -> list[Any]:
    """All of them, for tests that compare."""
    return [made(name) for name in FRAMEWORKS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs on every framework; on JAX, which has no hooks, if it is marked as one of arrays alone."""
    if "fw" in metafunc.fixturenames:
        arrays = metafunc.definition.get_closest_marker("arrays") is not None
        names = [*FRAMEWORKS, "chainer_device", *(["jax"] if arrays else [])]
        metafunc.parametrize("fw", names, indirect=True)


@pytest.fixture
def fw(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of the frameworks; chainer_device is Chainer with a stand-in for a GPU."""
    with made(request.param) as framework:
        yield framework
