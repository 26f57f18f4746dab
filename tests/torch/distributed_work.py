"""What each of two processes runs for test_distributed.py: all scenes, one after another."""

import torch
import torch.distributed as dist

from tests.torch.distributed_combinations import combinations
from tests.torch.distributed_scenes import SCENES


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    scenes = {**{scene.__name__: scene for scene in SCENES}, **combinations()}
    torch.save({name: scene(rank, folder) for name, scene in scenes.items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
