"""MultiNodeIEBN: two ranks with unequal batches do what one does with the joint batch.

The ranks are threads, and their communicator has what is used of ChainerMN's.
"""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Sequential, Variable

from mixlayers_chainer._iebn.convert import convert_iebn, revert_iebn
from mixlayers_chainer._iebn.layer import IEBN
from mixlayers_chainer._iebn.sync import MultiNodeIEBN

SHAPE = (12, 3, 4, 5)


class Communicator:
    """One of two ranks."""

    size = 2

    def __init__(self, rank: int, barrier: Barrier, posted: list[Any]) -> None:
        self.rank, self.barrier, self.posted = rank, barrier, posted

    def allreduce_obj(self, thing: Any) -> Any:
        self.posted[self.rank] = copy.deepcopy(thing)
        self.barrier.wait()
        total = self.posted[0] + self.posted[1]
        self.barrier.wait()
        return total

    def __deepcopy__(self, memo: Any) -> "Communicator":
        raise TypeError("a communicator has no copy")


class Alone:
    size = 1


def on_two_ranks(work: Callable[[Communicator], Any]) -> list[Any]:
    barrier, posted = Barrier(2, timeout=30), [None, None]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank: work(Communicator(rank, barrier, posted)), range(2)))


def random(seed: int = 0, mean: float = 0.0, dtype: str = "float64") -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(SHAPE) + 2 * rng.standard_normal((SHAPE[0], 1, 1, 1)) + mean).astype(dtype)


def layer(kind: Callable[..., IEBN], dtype: str = "float64") -> IEBN:
    norm, rng = kind(3, dtype=dtype), np.random.default_rng(5)
    for _, parameter in sorted(norm.namedparams()):
        parameter.array[...] = rng.standard_normal(3)
    return norm


def run(norm: IEBN, x: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    variable = Variable(x)
    norm.cleargrads()
    y = norm(variable)
    y.grad = gradient
    y.backward()
    found = {"y": y.array, "x": variable.grad, "avg_mean": norm.avg_mean, "avg_var": norm.avg_var}
    with chainer.using_config("train", False):
        found["test"] = norm(x).array
    return found | {name: each.grad for name, each in norm.namedparams()}


@pytest.mark.parametrize("first", [5, 1, 0], ids=lambda n: f"{n} of 12")
@pytest.mark.parametrize(
    ("dtype", "mean", "tolerance"), [("float64", 0, 1e-11), ("float32", 0, 1e-5), ("float32", 1000, 1e-4)]
)
def test_equals_one_process_with_the_joint_batch(
    dtype: str, mean: float, tolerance: float, first: int
) -> None:
    x, gradient = random(0, mean, dtype), random(1, 0, dtype)
    attention = 1.0 if mean == 0 else 1e-3

    def scaled(norm: IEBN) -> IEBN:
        norm.weight_readjust.array *= attention
        return norm

    whole = run(scaled(layer(IEBN, dtype)), x, gradient)
    shares = [slice(0, first), slice(first, None)]

    def work(comm: Communicator) -> dict[str, np.ndarray]:
        own = shares[comm.rank]
        norm = scaled(layer(lambda size, **rest: MultiNodeIEBN(size, comm, **rest), dtype))
        return run(norm, x[own], gradient[own])

    one, other = on_two_ranks(work)
    for name, expected in whole.items():
        if name in ("y", "x", "test"):  # each rank has its share
            found = np.concatenate((one[name], other[name]))
        elif name.startswith("avg"):
            assert np.array_equal(one[name], other[name])
            found = one[name]
        else:  # each rank has its own gradient
            found = one[name] + other[name]
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), name


def test_alone_it_is_iebn() -> None:
    x, gradient = random(), random(1)
    expected = run(layer(IEBN), x, gradient)
    found = run(layer(lambda size, **rest: MultiNodeIEBN(size, Alone(), **rest)), x, gradient)
    assert all(np.array_equal(found[name], each) for name, each in expected.items())


def test_a_second_derivative_is_refused() -> None:
    def work(comm: Communicator) -> str:
        x = Variable(random())
        y = F.sum(layer(lambda size, **rest: MultiNodeIEBN(size, comm, **rest))(x))
        with pytest.raises(NotImplementedError, match="use IEBN in one process"):
            chainer.grad([y], [x], enable_double_backprop=True)
        return "refused"

    assert on_two_ranks(work) == ["refused"] * 2


def test_conversion_keeps_arrays_sharing_and_the_communicator_of_copies() -> None:
    shared, plain = L.BatchNormalization(3), L.BatchNormalization(3)
    comm = Communicator(0, Barrier(1), [None])
    model = Sequential(shared, F.relu, shared, plain)
    convert_iebn(model, skip=plain)
    before = model[0].weight_readjust
    assert MultiNodeIEBN.convert_multi_node_iebn(model, comm) is model
    assert type(model[0]) is MultiNodeIEBN and model[0] is model[2] and model[0] is shared
    assert model[0].weight_readjust is before
    assert type(model[3]) is L.BatchNormalization
    twin = copy.deepcopy(model)
    assert twin[0].comm is comm and twin[0] is twin[2] and twin[0] is not shared
    assert np.array_equal(twin[0].gamma.array, shared.gamma.array)
    assert twin[0].gamma.array is not shared.gamma.array
    revert_iebn(model)
    assert type(shared) is L.BatchNormalization and not hasattr(shared, "comm")
    with pytest.raises(ValueError, match=r"convert_iebn\(model\) first"):
        MultiNodeIEBN.convert_multi_node_iebn(model, comm)
