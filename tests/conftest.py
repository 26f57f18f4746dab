"""One fixture for every framework: `fw`, with which the shared test bodies build networks and train them."""

import gc
import os
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# read when JAX starts: four devices that are one, and half the time of compiling
_XLA = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA}"

os.environ.setdefault("KERAS_BACKEND", "jax")  # one for each process, read when Keras is imported

if find_spec("hypothesis") is not None:  # one of the opt-in lanes has none
    from hypothesis import settings

    settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault
    settings.load_profile("unhurried")

FRAMEWORKS = ("torch", "paddle", "chainer")

FIRST = (
    "repo/test_site.py",
    "repo/test_docs.py",
    "keras/test_other_backend.py",  # all of Keras' tests again, as one
    "programs/test_programs.py",
    "repo/test_benchmarks.py",
    "repo/test_gpu.py",
    "cli/test_demo.py",
    "cli/test_cifar10.py",
    "torch/test_distributed.py",
    "torch/test_iebn_gpu.py",
    "torch/test_audit_ranks.py",
)
"""Files that take long, or of few tests. `make test` hands out files whole: at the end no process shall wait for one
of these."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order: the long files, then by their number of tests."""
    folder = Path(__file__).parent
    files = {item: item.path.relative_to(folder).as_posix() for item in items if folder in item.path.parents}
    tests = Counter(files.values())

    def place(item: pytest.Item) -> tuple[int, int]:
        file = files.get(item, "")
        return FIRST.index(file) if file in FIRST else len(FIRST), -tests[file]

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def _own_objects() -> Iterator[None]:
    """What a file leaves alive, in the end millions of objects, is none of the next files' garbage collections."""
    yield
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what ends with the process is looked for once more


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
