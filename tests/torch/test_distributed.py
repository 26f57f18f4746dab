"""Two processes over gloo: each mixes by plans of its own, and all train one model, as one process would."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers.torch import get_mixer, wrap
from tests.torch.distributed_combinations import COMPILED, KINDS, Pictures, combinations, mixed, picture_step
from tests.torch.distributed_combinations import STEPS as FEW_STEPS
from tests.torch.distributed_scenes import (
    PLACES,
    SAVED,
    SCENES,
    STEPS,
    Net,
    full,
    joint_images,
    normed,
    optimiser_of,
    resume,
    step_of,
)
from tests.torch.distributed_work import work

WORLDS = [1, 3]


def by_hand(
    model: nn.Module,
    wrapped: Callable[[nn.Module, int], Any],
    step_of: Callable[[Any, int, int], None],
    steps: int,
    worlds: Callable[[int], int] = lambda step: 2,
    accumulate: int = 1,
) -> dict[str, Tensor]:
    """The same training in one process: all ranks' gradients, averaged; `worlds` tells their number in a step."""
    replicas = [wrapped(copy.deepcopy(model), rank) for rank in range(max(map(worlds, range(steps))))]
    optimiser = optimiser_of(model)
    for step in range(steps):
        now = replicas[: worlds(step)]
        for rank, replica in enumerate(now):
            replica.load_state_dict(model.state_dict())
            get_mixer(replica).load_state_dict({"step": step})
            step_of(replica, rank, step)
        if (step + 1) % accumulate == 0:
            for own, *others in zip(
                model.parameters(), *(replica.parameters() for replica in now), strict=True
            ):
                own.grad = sum(other.grad for other in others) / len(others)
            optimiser.step()
            for replica in now:
                replica.zero_grad()
    return full(model)


def one_process(same: bool = False, **options: Any) -> dict[str, Tensor]:
    return by_hand(
        Net(),
        lambda model, rank: wrap(model, ManifoldMixup(), PLACES, rank=0 if same else rank),
        step_of,
        STEPS,
        **options,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the two processes, and those that go on after them, have left their results."""
    folder = str(tmp_path_factory.mktemp("distributed"))
    mp.spawn(work, args=(folder,), nprocs=2)
    others = [mp.spawn(resume, args=(folder, world), nprocs=world, join=False) for world in WORLDS]
    for other in others:
        while not other.join():
            pass
    return folder


@pytest.fixture(scope="module")
def results(folder: str) -> list[dict[str, dict[str, Any]]]:
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("scene", [*(scene.__name__ for scene in SCENES), *combinations()])
def test_weights_stay_equal(results: Any, scene: str) -> None:
    first, second = (result[scene]["state"] for result in results)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(
    "scene",
    [
        "ddp",
        "ddp_wrapped_afterwards",
        "ddp_compiled",
        "fsdp",
        "fsdp_wrapped_before",
        "fsdp_checkpointed",
        "fsdp_resumed",
    ],
)
def test_two_processes_do_what_one_does_with_both_plans(results: Any, scene: str) -> None:
    close(results[0][scene]["state"], one_process())
    assert not set(results[0][scene]["lams"]) & set(results[1][scene]["lams"])


def test_gradients_are_accumulated_without_syncing(results: Any) -> None:
    close(results[0]["ddp_accumulating"]["state"], one_process(accumulate=2))


def test_equal_ranks_draw_equal_plans(results: Any) -> None:
    assert results[0]["ddp_same_plans"]["lams"] == results[1]["ddp_same_plans"]["lams"]
    close(results[0]["ddp_same_plans"]["state"], one_process(same=True))


@pytest.mark.parametrize("scene", list(combinations()))
def test_a_combination_does_what_one_process_does_by_hand(results: Any, scene: str) -> None:
    kind, method = scene.split(", ")
    options = {**KINDS, **COMPILED}[kind]
    amp = options.get("amp", False)
    expected = by_hand(
        Pictures(),
        lambda model, rank: mixed(model, method, rank),
        lambda run, rank, step: picture_step(run, rank, step, amp),
        FEW_STEPS,
    )
    close(results[0][scene]["state"], expected)


@pytest.mark.parametrize("world", WORLDS)
def test_two_processes_may_go_on_as_another_number(results: Any, folder: str, world: int) -> None:
    """Each rank's plans go on from the saved step; the parameters are those of as many processes by hand."""
    resumed = [torch.load(Path(folder) / f"{world}.{rank}.pt") for rank in range(world)]
    expected = one_process(worlds=lambda step: 2 if step < SAVED else world)
    for result in resumed:
        close(result["state"], expected)
    old = [results[rank]["fsdp"]["lams"][SAVED:] for rank in (0, 1)]
    assert [result["lams"] for result in resumed[:2]] == old[:world]
    assert len({lam for result in resumed for lam in result["lams"]}) == world * (STEPS - SAVED)


def test_synchronised_iebn_equals_one_process_with_the_joint_batch(results: Any) -> None:
    model = normed()
    images, labels = joint_images()
    nn.functional.cross_entropy(model(images), labels).backward()
    expected = {**full(model), **{f"grad {name}": p.grad for name, p in model.named_parameters()}}
    close(results[0]["iebn_joint"]["state"], expected)
