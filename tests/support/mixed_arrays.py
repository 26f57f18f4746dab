"""A batch of NumPy arrays, mixed: the core alone, without a framework."""

from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.framework.numpy_arrays import NUMPY


def mixed(x, y, method, step=0):
    return mix_batch(NUMPY, x, y, method, step=step, seed=0, rank=0, batch_dim=0, channel_dim=1)
