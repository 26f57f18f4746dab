"""Statistics and sums of several ranks, joined."""

from __future__ import annotations

from typing import Any

import numpy as np
from chainer import backend

from mixlayers_chainer._iebn.passes import Array


def joint_moments(mean: Array, squares: Array, count: float, comm: Any) -> tuple[Array, Array, float]:
    """Mean, squares about it and count of all ranks' values, from each one's own (float64)."""
    device = backend.get_device_from_array(mean)
    host = backend.CpuDevice()
    gathered = comm.allreduce_obj([(host.send(mean), host.send(squares), count)])  # lists add up to one list
    whole = sum(each[2] for each in gathered)
    means, all_squares = (np.stack([each[i] for each in gathered]) for i in (0, 1))
    counts = np.array([[each[2]] for each in gathered], np.float64)
    joint = (means * counts).sum(0) / max(whole, 1)
    both = (all_squares + counts * (means - joint) ** 2).sum(0)
    return device.send(joint), device.send(both), whole


def joint_sum(array: Array, comm: Any) -> Array:
    """The sum of an array over all ranks."""
    total = comm.allreduce_obj(backend.CpuDevice().send(array))
    return backend.get_device_from_array(array).send(total)
