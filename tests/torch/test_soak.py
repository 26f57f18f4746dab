"""Two thousand steps: no growth of hooks, graphs, objects or memory, and a history of bounded size."""

import copy
import gc
import resource
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
import torch._dynamo
from torch import nn

import mixlayers._core.model.history
from mixlayers import CutMix, ManifoldMixup, OneOf, PatchUp, Scheduled
from mixlayers.torch import cross_entropy, get_mixer, unwrap, wrap
from mixlayers_torch import _traced

WARM, KEPT = 300, 100
METHOD = Scheduled(
    OneOf(
        {
            ManifoldMixup(): 2,
            ManifoldMixup(lam_per="sample"): 1,
            PatchUp("soft", block_size=3): 2,
            CutMix(): 1,
        },
        prob=0.9,
    ),
    warmup=50,
)
PLACES = ["input", "0", "2"]


@pytest.fixture(autouse=True)
def _short_history_and_no_graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The history's own records stop growing within the warm-up, so that what grows is a leak."""
    monkeypatch.setattr(mixlayers._core.model.history, "KEPT", KEPT)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def hooks(model: nn.Module) -> int:
    """Hooks on the modules, and on the parameters' gradients."""
    on_modules = sum(
        len(found)
        for module in model.modules()
        for name, found in vars(module).items()
        if name.endswith("hooks") and isinstance(found, dict)
    )
    return on_modules + sum(len(p._backward_hooks or ()) for p in model.parameters())


def train(run: nn.Module, way: str) -> Callable[[int], None]:
    """The next steps of a run."""
    x, y = torch.randn(4, 2, 8, 8), torch.tensor([0, 1, 2, 0])
    optimiser = torch.optim.SGD(run.parameters(), lr=0.01, momentum=0.9)
    mixer = get_mixer(run)
    criterion = mixer.loss(nn.CrossEntropyLoss(reduction="none")) if way == "loss" else None

    def steps(count: int) -> None:
        for _ in range(count):
            if criterion is not None:
                loss = criterion(run(x), y).mean()
            elif way == "scope":
                with mixer(y) as target:
                    output = run(x)
                loss = cross_entropy(output, target)
            else:
                loss = cross_entropy(*run(x, target=y))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return steps


def measure(model: nn.Module) -> dict[str, int]:
    gc.collect()
    return {
        "hooks": hooks(model),
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "objects": len(found := gc.get_objects()),
        "tensors": sum(issubclass(type(each), torch.Tensor) for each in found),
        "mixers known to graphs": len(_traced._mixers),
        "blocks of Python's memory": sys.getallocatedblocks(),
        "peak KiB of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


SLACK = {"tensors": 10, "objects": 50, "blocks of Python's memory": 500, "peak KiB of the process": 32 * 1024}
"""What may come and go: caches of the interpreter and of malloc. One leaked object a step would be hundreds."""


@pytest.mark.parametrize(
    ("compiled", "way", "total"),
    [
        (None, "target", 2000),
        (None, "scope", 600),
        (None, "loss", 600),
        ("eager", "target", 1200),
        ("aot_eager", "target", 600),
    ],
)
def test_nothing_grows(compiled: str | None, way: str, total: int) -> None:
    model = network()
    run = model if compiled is None else torch.compile(model, backend=compiled, fullgraph=True)
    wrap(run, METHOD, PLACES)
    steps = train(run, way)
    steps(WARM)
    before = measure(model)
    steps(total - WARM)
    after = measure(model)
    for name, value in after.items():
        assert value <= before[name] + SLACK.get(name, 0), (name, before[name], value)
    history = get_mixer(run).history
    assert (history.steps, len(history)) == (total, KEPT)
    assert set(history.counts) == {None, *PLACES}
    if compiled is not None:
        assert 0 < after["graphs"] <= 8  # dynamo's own limit, after which it would go on eagerly


def test_wrapping_copying_and_unwrapping_leave_nothing_behind() -> None:
    model = network()
    x, y = torch.randn(4, 2, 8, 8), torch.tensor([0, 1, 2, 0])

    def cycle() -> None:
        wrap(model, METHOD, PLACES)
        twin = copy.deepcopy(model)
        for run in (model, twin):
            cross_entropy(*run(x, target=y)).backward()
        unwrap(model)

    for _ in range(20):
        cycle()
    before = measure(model)
    for _ in range(100):
        cycle()
    after = measure(model)
    assert after["hooks"] == before["hooks"] == 0
    for name in ("objects", "tensors"):
        assert after[name] <= before[name] + 20, name
