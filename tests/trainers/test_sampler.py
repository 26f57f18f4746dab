"""Repeated augmentation in trainers that deal a sampler's indices to the processes themselves."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import DataLoader

from mixlayers._core.batch.sampler import repeat_order
from mixlayers.torch import RepeatedAugmentationSampler

DATA = list(range(24))


def sampler(**options: int) -> RepeatedAugmentationSampler:
    return RepeatedAugmentationSampler(DATA, 3, shuffle=False, **options)


def test_lightning_leaves_it_as_it_is() -> None:
    """Whose Trainer replaces or wraps any sampler but a DistributedSampler."""
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, enable_checkpointing=False
    )
    loader = DataLoader(DATA, 4, sampler=sampler(num_replicas=2, rank=1))
    connector = trainer._data_connector
    assert not connector._requires_distributed_sampler(loader)
    assert connector._requires_distributed_sampler(DataLoader(DATA, 4))
    prepared = connector._prepare_dataloader(loader, shuffle=True, mode=RunningStage.TRAINING)
    assert prepared.sampler is loader.sampler and len(prepared) == 3
    expected = repeat_order(np.arange(24), repeats=3, rank=1, world=2)
    assert [i for batch in prepared for i in batch.tolist()] == expected.tolist()


def test_accelerate_deals_it_once_or_it_raises() -> None:
    own = DataLoader(DATA, 4, sampler=sampler(num_replicas=2, rank=1))
    dealt = prepare_data_loader(own, num_processes=2, process_index=1, put_on_device=False)
    with pytest.raises(ValueError, match="to 2 processes by itself, and BatchSamplerShard would deal"):
        list(dealt)
    whole = DataLoader(DATA, 4, sampler=sampler(num_replicas=1, rank=0))
    seen = []
    for rank in range(2):
        whole.sampler.set_epoch(0)  # type: ignore[attr-defined]
        dealt = prepare_data_loader(whole, num_processes=2, process_index=rank, put_on_device=False)
        seen += [i for batch in dealt for i in batch.tolist()]
    assert sorted(seen) == sorted(repeat_order(np.arange(24), repeats=3).tolist())


def test_a_wrapper_that_deals_once_more_is_refused() -> None:
    wrapped = DistributedSamplerWrapper(sampler(num_replicas=2, rank=0), num_replicas=2, rank=0)
    with pytest.raises(
        ValueError, match="DistributedSamplerWrapper would deal them once more, 1 / 2 of an epoch"
    ):
        list(wrapped)
