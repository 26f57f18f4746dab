"""Method x compiled x checkpointed x half precision, on one device: the values and gradients of mixing by hand.

docs/combinations.md lists them with those of several devices and of trainers; what it says is checked here.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mixlayers import MixPlan
from mixlayers.torch import cross_entropy, get_mixer
from tests.torch.distributed_combinations import METHODS, Pictures, combinations, mixed

ROOT = Path(__file__).parents[2]
STEPS = 5
SPECIAL = ("compiled", "checkpointed", "bf16")
COMPILED_HALF = ("ManifoldMixup", "PatchUp soft")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Network(Pictures):
    """Its convolutions may be recomputed in backward, with what their hooks do."""

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.one, self.two):
            x = checkpoint(part, x, use_reentrant=False) if self.recompute else part(x)
        return self.head(x.mean((2, 3)))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 3, 9, 9, generator=generator), torch.randint(3, (6,), generator=generator)


def step_by_hand(model: Network, plan: MixPlan, x: Tensor, y: Tensor, amp: bool) -> Tensor:
    """The loss of a step whose plan is known, in PyTorch's own operations."""
    perm, s = torch.tensor(plan.perm), 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        for place, part in (("input", nn.Identity()), ("one", model.one), ("two", model.two)):
            x = part(x)
            if place == plan.place:
                how = plan.blend(tuple(x.shape))
                both = how.lam * x + (1 - how.lam) * x[perm]
                x, s = both if how.mask is None else torch.where(torch.tensor(how.mask), both, x), how.s
        output = model.head(x.mean((2, 3))).float()
    return (1 - s) * F.cross_entropy(output, y) + s * F.cross_entropy(output, y[perm])


CASES = [
    (method, compiled, recompute, amp)
    for method in METHODS
    for compiled in ("eager", "compiled")
    for recompute in ("kept", "checkpointed")
    for amp in ("float32", "bf16")
    # compiling takes seconds: in half precision, two of the methods, with everything else at once
    if (compiled, amp) != ("compiled", "bf16") or (recompute == "checkpointed" and method in COMPILED_HALF)
]


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_equals_mixing_by_hand(case: tuple[str, str, str, str]) -> None:
    method, (compiled, recompute, amp) = case[0], (word in SPECIAL for word in case[1:])
    model = Network()
    model.recompute = recompute
    plain = copy.deepcopy(model)
    run = mixed(torch.compile(model, backend="aot_eager") if compiled else model, method)
    places = set()
    for step in range(STEPS):
        x, y = batch(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            output, target = run(x, target=y)
        loss = cross_entropy(output.float(), target)
        plan = get_mixer(run).last
        expected = step_by_hand(plain, plan, x, y, amp)
        for network, value in ((model, loss), (plain, expected)):
            network.zero_grad()
            value.backward()
        close = {"rtol": 2e-2, "atol": 2e-2} if amp else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(loss, expected, **close)
        for (name, own), other in zip(model.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(
                own.grad, other.grad, **close, msg=lambda text, name=name: f"{name}: {text}"
            )
        places.add(plan.place)
    assert len(places) > 1 or not get_mixer(run).method.hidden


PAGE = (ROOT / "docs" / "combinations.md").read_text(encoding="utf-8")


def table(columns: dict[str, set[str]]) -> str:
    """A row for each method, a column for each way to train, of the methods with which it is tested."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for method in METHODS:
        cells = ("yes" if method in tested else "not tested" for tested in columns.values())
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_page_says_what_is_tested_on_one_device() -> None:
    columns: dict[str, set[str]] = {}
    for method, compiled, recompute, amp in CASES:
        columns.setdefault(
            ", ".join(word for word in (compiled, recompute, amp) if word not in ("kept", "float32")), set()
        ).add(method)
    assert table(columns) in PAGE, f"put this into docs/combinations.md:\n{table(columns)}"


def test_the_page_says_what_is_tested_in_two_processes() -> None:
    columns: dict[str, set[str]] = {}
    for scene in combinations():
        kind, method = scene.split(", ")
        columns.setdefault(kind, set()).add(method)
    assert table(columns) in PAGE, f"put this into docs/combinations.md:\n{table(columns)}"


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./([\w/]+\.py)\)", PAGE)
    assert len(named) == PAGE.count("[`test_") > 20
    for name, path in named:
        found = re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert found, f"docs/combinations.md names {name} of {path}, which is not there"
