"""Loader-side mixing: soft targets, any batch size, and no two workers or epochs alike."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mixlayers import CutMix, Mixup
from mixlayers.torch import MixCollate

DATA = TensorDataset(torch.randn(30, 3, 6, 6), torch.arange(30) % 5)


def epoch(workers, seed=0, method=None):
    torch.manual_seed(seed)
    collate = MixCollate(method or Mixup(), num_classes=5)
    loader = DataLoader(DATA, batch_size=7, collate_fn=collate, num_workers=workers)
    return [[y for _, y in loader] for _ in range(2)]


@pytest.mark.parametrize("method", [Mixup(), CutMix(lam_per="sample")], ids=repr)
def test_batches_have_soft_targets(method):
    collate = MixCollate(method, num_classes=5, smoothing=0.1)
    for x, y in DataLoader(DATA, batch_size=7, collate_fn=collate):  # the last batch has two
        assert y.shape == (len(x), 5) and y.dtype == torch.float32
        assert torch.allclose(y.sum(1), torch.ones(len(x))) and y.min() >= 0.02 - 1e-6


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_and_workers_draw_differently_and_reproducibly(workers):
    first, again = epoch(workers), epoch(workers)
    lams = [y.max(1).values.min().item() for batches in first for y in batches]
    assert len(set(lams)) > 6
    assert all(
        torch.equal(a, b)
        for run, rerun in zip(first, again, strict=True)
        for a, b in zip(run, rerun, strict=True)
    )
    assert not torch.equal(first[0][0], first[1][0])
