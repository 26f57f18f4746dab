"""One fixture for every framework: `fw`, with which the shared test bodies build networks and train them."""

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

# read when JAX starts: four devices that are one, and half the time of compiling
_XLA = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA}"

os.environ.setdefault("KERAS_BACKEND", "jax")  # one for each process, read when Keras is imported

FRAMEWORKS = ("torch", "paddle", "chainer")


def made(name: str) -> Any:
    import_module(f"mixlayers.{name.partition('_')[0]}")  # before chainer, which it helps to be imported
    module = import_module(f"tests.support.fw_{name}")
    return getattr(module, name.title().replace("_", ""))()


@pytest.fixture
def frameworks() -> list[Any]:
    """All of them, for tests that compare."""
    return [made(name) for name in FRAMEWORKS]


@pytest.fixture(params=[*FRAMEWORKS, "chainer_device"])
def fw(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of them; the last is Chainer with a stand-in for a GPU. JAX is a fifth, see tests/support/everywhere.py."""
    with made(request.param) as framework:
        yield framework
