"""Two processes over gloo: each mixes by plans of its own, and all train one model, as one process would."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from distributed_scenes import (
    PLACES,
    SCENES,
    STEPS,
    Net,
    full,
    joint_images,
    normed,
    optimiser_of,
    step_of,
    work,
)
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers.torch import wrap


def one_process(accumulate: int = 1, same: bool = False) -> dict[str, Tensor]:
    """The same training by hand: both processes' gradients, averaged."""
    model = Net()
    replicas = [
        wrap(copy.deepcopy(model), ManifoldMixup(), PLACES, rank=0 if same else rank) for rank in (0, 1)
    ]
    optimiser = optimiser_of(model)
    for step in range(STEPS):
        for rank, replica in enumerate(replicas):
            replica.load_state_dict(model.state_dict())
            step_of(replica, rank, step)
        if (step + 1) % accumulate == 0:
            for own, *others in zip(
                model.parameters(), *(replica.parameters() for replica in replicas), strict=True
            ):
                own.grad = sum(other.grad for other in others) / 2
            optimiser.step()
            for replica in replicas:
                replica.zero_grad()
    return full(model)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = str(tmp_path_factory.mktemp("distributed"))
    mp.spawn(work, args=(folder,), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("scene", [scene.__name__ for scene in SCENES])
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


def test_synchronised_iebn_equals_one_process_with_the_joint_batch(results: Any) -> None:
    model = normed()
    images, labels = joint_images()
    nn.functional.cross_entropy(model(images), labels).backward()
    expected = {**full(model), **{f"grad {name}": p.grad for name, p in model.named_parameters()}}
    close(results[0]["iebn_joint"]["state"], expected)
