"""torch.compile: the numbers of eager mode, few graphs, no break, and never a graph that does not mix."""

import copy
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, Method, MixingError, OneOf, PatchUp
from mixlayers.torch import Mixer, cross_entropy, get_mixer, unwrap, wrap
from tests.torch.traced_step import Plain, compare

config = torch._dynamo.config
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(x))


def residual(blocks: int) -> nn.Sequential:
    torch.manual_seed(0)
    body = [Block(4) for _ in range(blocks)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def compiled(model: nn.Module, **options: Any) -> Any:
    return torch.compile(model, backend="eager", **options)


WAYS: dict[str, Callable[..., Any]] = {
    "eager": lambda model, *how: wrap(model, *how),
    "compile(wrap)": lambda model, *how: compiled(wrap(model, *how)),
    "wrap(compile)": lambda model, *how: wrap(compiled(model, fullgraph=True), *how),
}


def train(
    way: str, blocks: int, method: Method, sizes: tuple[int, ...], steps: int
) -> list[tuple[float, Any]]:
    """Loss and place of each step."""
    model = residual(blocks)
    places = ["input", *(str(index) for index in range(blocks + 1))]
    run = WAYS[way](model, method, places)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for step in range(steps):
        generator, size = torch.Generator().manual_seed(step), sizes[step % len(sizes)]
        output, target = run(torch.randn(size, 3, 12, 12, generator=generator), target=torch.arange(size) % 5)
        loss = cross_entropy(output, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        plan = get_mixer(run).last
        seen.append((loss.item(), plan.place if plan else None))
    return seen


METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", block_size=3),
    OneOf({ManifoldMixup(): 0.4, PatchUp("soft", block_size=3): 0.3, CutMix(): 0.2}),
]


@pytest.mark.parametrize("way", ["compile(wrap)", "wrap(compile)"])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_compiled_steps_equal_eager_ones(way: str, method: Method) -> None:
    sizes = (8, 8, 5)
    expected = train("eager", 2, method, sizes, 9)
    torch._dynamo.utils.counters.clear()
    found = train(way, 2, method, sizes, 9)
    assert [place for _, place in found] == [place for _, place in expected]
    assert len({place for _, place in found}) > 2
    for (one, _), (other, _) in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("way", ["compile(wrap)", "wrap(compile)"])
@pytest.mark.parametrize("blocks", [3, 9])
@config.patch(fail_on_recompile_limit_hit=True)
def test_graphs_are_few_and_the_limit_is_not_reached(way: str, blocks: int) -> None:
    expected = train("eager", blocks, ManifoldMixup(), (6, 6, 4), 18)
    torch._dynamo.utils.counters.clear()
    found = train(way, blocks, ManifoldMixup(), (6, 6, 4), 18)
    for one, other in zip(found, expected, strict=True):
        assert one[1] == other[1] and one[0] == pytest.approx(other[0], rel=1e-4)
    assert (
        torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2 * 3
    )  # two groups and none, for two kinds of size


@config.patch(recompile_limit=16)
def test_a_higher_limit_gives_each_place_its_graph() -> None:
    train("wrap(compile)", 3, ManifoldMixup(), (6,), 40)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4 + 1  # hidden places; input


def test_a_graph_selects_what_it_does_not_mix() -> None:
    """Places that share a graph with the step's pass inf and NaN on as they are."""
    model = nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity())
    run = wrap(compiled(model, fullgraph=True), ManifoldMixup(), ["0", "1", "2", "3"])
    x = torch.randn(6, 2)
    x[0], x[1] = torch.inf, torch.nan
    for _ in range(4):
        output, target = run(x, target=torch.arange(6))
        plan = get_mixer(run).last
        expected = x * plan.lam + x[plan.perm] * (1 - plan.lam)
        torch.testing.assert_close(output, expected, equal_nan=True)
        target.soft(6)


def test_a_backend_that_traces_the_backward_pass() -> None:
    compare("aot_eager")


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
def test_backends_that_trace_the_backward_pass(tmp_path: Path) -> None:
    """In a process of its own, with a cache of its own: its kernels bring another OpenMP than other frameworks."""
    folders = os.pathsep.join(str(ROOT / folder) for folder in (".", "backends"))
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": folders}
    script = [sys.executable, str(Path(__file__).with_name("traced_step.py")), "inductor"]
    ran = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_half_precision_keeps_the_digits_of_lam() -> None:
    model = nn.Sequential(nn.Identity())
    run = wrap(compiled(model, fullgraph=True), ManifoldMixup(), "0")
    x = torch.stack((torch.zeros(64), torch.full((64,), 256.0))).bfloat16()
    for step in range(6):
        output, target = run(x, target=torch.arange(2))
        plan = get_mixer(run).last
        expected = (x.double() * plan.lam + x.double()[plan.perm] * (1 - plan.lam)).bfloat16()
        torch.testing.assert_close(output, expected, rtol=2**-8, atol=0)
        assert get_mixer(run).step == step + 1
        target.soft(2)


def run_before(model: nn.Module, x: Tensor) -> None:
    compiled(model)(x)


def called_before(x: Tensor) -> Any:
    model = Plain()
    run_before(model, x)
    return compiled(wrap(model, layers=["a", "b"]))


def a_twin_called_before(x: Tensor) -> Any:
    run_before(Plain(), x)
    return compiled(wrap(Plain(), layers=["a", "b"]))


def container_called_before(x: Tensor) -> Any:
    run = compiled(Plain())
    run(x)
    return wrap(run, layers=["a", "b"])


def called_in_eval_before_auto_chose(x: Tensor) -> Any:
    run = compiled(wrap(Plain(), layers="auto"))
    run.eval()
    run(x)
    return run.train()


@pytest.mark.parametrize(
    "prepare",
    [called_before, a_twin_called_before, container_called_before, called_in_eval_before_auto_chose],
)
@pytest.mark.parametrize("implicit", [False, True], ids=["target=", "mixer.loss"])
def test_what_was_compiled_before_does_not_stop_mixing(
    prepare: Callable[[Tensor], Any], implicit: bool
) -> None:
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    run = prepare(x)
    mixer = get_mixer(run)
    criterion = mixer.loss(nn.CrossEntropyLoss()) if implicit else None
    places = set()
    for _ in range(8):
        if criterion is None:
            cross_entropy(*run(x, target=y)).backward()
        else:
            criterion(run(x), y).backward()
        places.add(mixer.last.place)
    assert len(places) == 2


def test_a_twin_whose_graphs_are_taken_instead_is_noticed() -> None:
    x, y = torch.randn(8, 6), torch.arange(8) % 3

    def alternate() -> None:
        twin, run = compiled(Plain()), compiled(wrap(Plain(), layers=["a", "b"]))
        for _ in range(4):
            twin(x)
            cross_entropy(*run(x, target=y)).backward()

    with pytest.raises(MixingError, match="skip_nnmodule_hook_guards = False"):
        alternate()
    torch.compiler.reset()
    with config.patch(skip_nnmodule_hook_guards=False):
        alternate()


def test_eval_and_unwrap_give_the_models_own_numbers() -> None:
    model, x = residual(1), torch.randn(4, 3, 12, 12)
    run = wrap(compiled(model), ManifoldMixup(), ["0", "1"])
    cross_entropy(*run(x, target=torch.arange(4))).backward()
    run.eval()
    expected = residual(1)
    expected.load_state_dict(model.state_dict())
    assert torch.equal(run(x), expected.eval()(x))
    unwrap(run)
    assert torch.equal(run(x), expected(x))
    assert not model[0]._forward_hooks


def saved_and_loaded(whole: Any) -> Any:
    file = io.BytesIO()
    torch.save(whole, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
@pytest.mark.parametrize("way", ["compile(wrap)", "wrap(compile)"])
def test_a_copy_of_a_compiled_model_goes_on_mixing(way: str, copied: Callable[[Any], Any]) -> None:
    model = WAYS[way](residual(1), ManifoldMixup(), ["input", "1"])
    criterion = get_mixer(model).loss(nn.CrossEntropyLoss())
    x, y = torch.randn(4, 3, 12, 12), torch.arange(4)
    criterion(model(x), y)
    twin, same = copied((model, criterion))
    losses = [loss(run(x), y) for run, loss in ((model, criterion), (twin, same))]
    assert torch.equal(*losses) and not torch.equal(
        losses[0], nn.functional.cross_entropy(model.eval()(x), y)
    )
    assert get_mixer(twin) is not get_mixer(model) and get_mixer(twin).last is not None
    with pytest.raises(ValueError, match="is not wrapped"):
        get_mixer(unwrap(twin))


def test_a_scope_around_a_compiled_model() -> None:
    model = Plain()
    mixer = Mixer(model, layers=["a", "b"])
    run = compiled(model)
    for _ in range(3):
        with mixer(torch.arange(8) % 3) as target:
            output = run(torch.randn(8, 6))
        cross_entropy(output, target).backward()
    assert mixer.step == 3
