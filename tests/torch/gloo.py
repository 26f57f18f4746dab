"""A group of processes for tests of DistributedDataParallel."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def gloo(meet: str, rank: int, world: int) -> Iterator[None]:
    """The group, which outlives what is made within; make that in a function of its own.

    A DistributedDataParallel that is the last to hold a group ends it with the interpreter's lock held, and waits for
    ever if one of the group's threads wants that, which happens now and then.
    """
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world)
    group = dist.group.WORLD
    try:
        yield
    finally:
        gc.collect()
        dist.destroy_process_group()
        del group  # which lets go of the lock
