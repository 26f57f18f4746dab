"""What each of two processes runs for test_distributed.py: all scenes, one after another."""

import torch

from tests.torch.distributed_combinations import combinations
from tests.torch.distributed_scenes import SCENES
from tests.torch.gloo import gloo


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    with gloo(f"{folder}/meet", rank, 2):
        scenes = {**{scene.__name__: scene for scene in SCENES}, **combinations()}
        torch.save({name: scene(rank, folder) for name, scene in scenes.items()}, f"{folder}/{rank}.pt")
