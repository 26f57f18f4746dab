"""Loader-side mixing: soft targets, any batch size, and no two workers or epochs alike."""

import numpy as np
import paddle
import pytest
from paddle.io import DataLoader, Dataset

from mixlayers import CutMix, Mixup
from mixlayers.paddle import MixCollate


class Pictures(Dataset):
    def __init__(self, shape=()):
        self.shape = shape

    def __getitem__(self, index):
        x = np.random.default_rng(index).standard_normal((3, 6, 6), dtype=np.float32)
        return x, np.full(self.shape, index % 5)

    def __len__(self):
        return 30


def epoch(workers):
    np.random.seed(0)  # noqa: NPY002  # Paddle's loader draws its workers' seeds from it
    collate = MixCollate(Mixup(), num_classes=5)
    loader = DataLoader(Pictures(), batch_size=7, collate_fn=collate, num_workers=workers)
    return [[y.numpy() for _, y in loader] for _ in range(2)]


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize(
    "method", [Mixup(), CutMix(lam_per="sample"), Mixup(pairs="different_class")], ids=repr
)
def test_batches_have_soft_targets(method, shape):
    collate = MixCollate(method, num_classes=5, smoothing=0.1)
    criterion = paddle.nn.CrossEntropyLoss(soft_label=True)
    for x, y in DataLoader(Pictures(shape), batch_size=7, collate_fn=collate):  # the last batch has two
        assert y.shape == [len(x), 5] and y.dtype == paddle.float32
        assert np.allclose(y.numpy().sum(1), 1.0) and y.numpy().min() >= 0.02 - 1e-6
        assert criterion(paddle.zeros([len(x), 5]), y).item() == pytest.approx(np.log(5), rel=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_and_workers_draw_differently_and_reproducibly(workers):
    first, again = epoch(workers), epoch(workers)
    lams = [y.max(1).min() for batches in first for y in batches]
    assert len(set(lams)) > 6
    for run, rerun in zip(first, again, strict=True):
        for a, b in zip(run, rerun, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0][0], first[1][0])


def test_samples_of_tensors_leave_as_arrays_and_meet_no_operator(monkeypatch):
    """A worker of Paddle 3.3 may free a tensor before it is sent, and an operator can hang in a fork."""
    monkeypatch.setattr(paddle, "stack", None)
    samples = [{"x": paddle.to_tensor(Pictures()[i][0]), "y": paddle.to_tensor(i % 5)} for i in range(4)]
    batch = MixCollate(Mixup(), num_classes=5)(samples)
    assert {name: type(value) for name, value in batch.items()} == {"x": np.ndarray, "y": np.ndarray}
    arrays = [{name: value.numpy() for name, value in sample.items()} for sample in samples]
    again = MixCollate(Mixup(), num_classes=5)(arrays)
    assert all(np.array_equal(batch[name], again[name]) for name in again)
