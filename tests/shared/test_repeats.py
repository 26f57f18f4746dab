"""Repeated augmentation: DeiT's indices where those are defined, never an empty epoch, the same in every framework."""

import mixlayers.chainer  # isort: skip  # before chainer, which it helps to be imported

import chainer
import numpy as np
import paddle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mixlayers.paddle
import mixlayers.torch
from mixlayers._core.batch.sampler import repeat_order

FACES = [mixlayers.torch, mixlayers.paddle, mixlayers.chainer]


def deit(order, repeats, rank, world):
    """What DeiT's sampler yields, put as its paper and code define it."""
    flat = [index for index in order for _ in range(repeats)]
    padded = -(-len(flat) // world) * world
    flat += flat[: padded - len(flat)]
    return flat[rank::world][: len(order) // 256 * 256 // world]


@pytest.mark.parametrize(("size", "world"), [(256, 1), (1000, 1), (1000, 3), (700, 4), (2560, 8)])
@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_equals_deit(size, world, repeats):
    order = np.random.default_rng(0).permutation(size)
    for rank in range(world):
        ours = repeat_order(order, repeats=repeats, rank=rank, world=world, round_to=256)
        assert ours.tolist() == deit(order.tolist(), repeats, rank, world)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 9))
def test_every_process_has_as_many_indices_and_never_none(size, repeats, world):
    order = np.arange(size)
    ranks = [repeat_order(order, repeats=repeats, rank=rank, world=world) for rank in range(world)]
    assert {len(each) for each in ranks} == {-(-size // world)}
    together = np.stack(ranks, 1).reshape(-1)  # in the order in which they were dealt
    assert (together == np.resize(np.repeat(order, repeats), len(together))).all()


@pytest.mark.parametrize(
    "arguments", [{}, {"num_replicas": 2, "rank": 1}, {"shuffle": False}, {"repeats": 2}]
)
def test_every_framework_draws_the_same(arguments):
    data = list(range(37))
    drawn = []
    for face in FACES:
        sampler = face.RepeatedAugmentationSampler(data, **{"seed": 3, **arguments})
        epochs = [epoch_of(sampler, data) for _ in range(3)]
        assert {len(each) for each in epochs} == {len(sampler)}
        sampler.set_epoch(1)
        assert epoch_of(sampler, data) == epochs[1]
        drawn.append(epochs)
    assert drawn[0] == drawn[1] == drawn[2]
    assert (drawn[0][0] != drawn[0][1]) == arguments.get("shuffle", True)


def epoch_of(sampler, data):
    if isinstance(sampler, chainer.iterators.OrderSampler):
        return sampler(np.arange(len(data)), 0).tolist()
    return list(sampler)


def test_loaders_take_it():
    class Data(paddle.io.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return np.int64(index)

    ours = mixlayers.torch.RepeatedAugmentationSampler(Data())
    expected = list(ours)
    ours.set_epoch(0)
    in_torch = torch.cat(list(torch.utils.data.DataLoader(Data(), 8, sampler=ours))).tolist()
    sampler = mixlayers.paddle.RepeatedAugmentationSampler(Data())
    batches = paddle.io.BatchSampler(sampler=sampler, batch_size=8)
    in_paddle = [
        int(x) for batch in paddle.io.DataLoader(Data(), batch_sampler=batches) for x in batch.numpy()
    ]
    order = mixlayers.chainer.RepeatedAugmentationSampler(Data())
    in_chainer = [
        int(x)
        for batch in chainer.iterators.SerialIterator(Data(), 8, repeat=False, order_sampler=order)
        for x in batch
    ]
    assert in_torch == in_paddle == in_chainer == expected


def test_a_resumed_iterator_of_chainer_goes_on(tmp_path):
    def iterator():
        order = mixlayers.chainer.RepeatedAugmentationSampler(range(10), seed=5)
        return chainer.iterators.SerialIterator(list(range(10)), 4, order_sampler=order)

    whole = iterator()
    first = [next(whole) for _ in range(7)]
    chainer.serializers.save_npz(tmp_path / "iterator.npz", whole)
    resumed = iterator()
    chainer.serializers.load_npz(tmp_path / "iterator.npz", resumed)
    assert len(first) == 7 and [next(resumed) for _ in range(9)] == [next(whole) for _ in range(9)]


def test_an_order_of_another_sampler_is_refused(monkeypatch):
    monkeypatch.setattr("mixlayers_chainer._sampler._EPOCHS", 5)
    order = mixlayers.chainer.RepeatedAugmentationSampler(range(10))
    with pytest.raises(ValueError, match="of no epoch of this sampler: resume with the same data set"):
        order(np.array([3, 3, 3, 1, 1, 1, 0, 0, 0, 2]), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"round_to": 0}, r"round_to must be in \[1, .*\], got 0: None rounds nothing"),
        ({"num_replicas": 2, "rank": 2}, r"rank must be in \[0, world\), got rank 2 of world 2"),
        (
            {"round_to": 256},
            "round_to=256 leaves none of 20 samples for each of 1 processes: use round_to=None",
        ),
    ],
)
@pytest.mark.parametrize("face", FACES)
def test_refusals(face, arguments, message):
    with pytest.raises(ValueError, match=message):
        face.RepeatedAugmentationSampler(range(20), **arguments)


@pytest.mark.parametrize("face", FACES)
def test_an_empty_data_set_is_refused(face):
    with pytest.raises(ValueError, match="the data set is empty"):
        face.RepeatedAugmentationSampler([])
