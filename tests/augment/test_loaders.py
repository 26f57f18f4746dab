"""One pipeline in every framework's data set: the same seed gives the same images in any number of workers."""

import multiprocessing
from importlib import import_module

import numpy as np
import pytest
import torch

from mixlayers.augment import Compose, Cutout, Normalize, RandomErasing, RandomResizedCrop, TrivialAugmentWide

TRANSFORM = Compose(
    [
        RandomResizedCrop(16),
        TrivialAugmentWide(),
        Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        RandomErasing(value="random"),
    ]
)
NOISE = Cutout(8, value="pixel")  # which never comes out the same by chance
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 20, 24, 3), dtype=np.uint8)


class Photos:
    """A map-style data set, as PyTorch, PaddlePaddle and Chainer all take it."""

    def __init__(self, epoch=0, explicit=True):
        self.epoch, self.explicit = epoch, explicit

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        if self.explicit:
            return TRANSFORM(IMAGES[index], index=index, epoch=self.epoch, seed=5)
        return NOISE(IMAGES[0])


def expected(epoch=0):
    return np.stack([TRANSFORM(image, index=i, epoch=epoch, seed=5) for i, image in enumerate(IMAGES)])


def loaded(photos, workers, **options):
    loader = torch.utils.data.DataLoader(photos, batch_size=4, num_workers=workers, **options)
    return np.concatenate([batch.numpy() for batch in loader])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_in_any_number_of_torch_workers(workers):
    for epoch in (0, 1):
        assert np.array_equal(loaded(Photos(epoch), workers), expected(epoch))
    assert not np.array_equal(expected(0), expected(1))


def test_the_same_in_paddle():
    import paddle

    class PaddlePhotos(Photos, paddle.io.Dataset):
        pass

    loader = paddle.io.DataLoader(PaddlePhotos(), batch_size=4, num_workers=0)
    assert np.array_equal(np.concatenate([np.asarray(batch) for batch in loader]), expected())


def test_the_same_in_chainer():
    import_module("mixlayers.chainer")  # before chainer, which it helps to be imported
    from chainer.iterators import MultithreadIterator, SerialIterator

    for iterator in (
        SerialIterator(Photos(), 4, repeat=False, shuffle=False),
        MultithreadIterator(Photos(), 4, repeat=False, shuffle=False, n_threads=2),
    ):
        assert np.array_equal(np.stack([image for batch in iterator for image in batch]), expected())
        iterator.finalize()


def test_the_plain_call_differs_in_every_worker():
    """Workers are forks of one process: a generator that they inherit would draw the same in each."""
    drawn = loaded(Photos(explicit=False), 2)
    again = loaded(Photos(explicit=False), 2)
    assert len({image.tobytes() for image in (*drawn, *again)}) == 24
    assert multiprocessing.active_children() == []
