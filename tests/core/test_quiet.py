"""What an audit puts back, and the host's chance while it runs."""

import random
from collections import deque
from types import SimpleNamespace

import numpy as np

from mixlayers._core.audit.attributes import kept_attributes, put_back
from mixlayers._core.audit.host_chance import host_chance


def test_containers_stay_the_same_objects_in_the_same_order():
    names = {f"name {i}" for i in range(9)}
    owner = SimpleNamespace(
        calls=0, seen=[1, 2], last=deque([1], maxlen=1), names=names, map={"b": 1, "a": 2}, _hooks={}
    )
    order, objects = list(names), {name: value for name, value in vars(owner).items() if name != "calls"}
    kept = kept_attributes(owner)
    put_back(vars(owner), *kept)
    assert list(names) == order
    owner.calls += 1
    owner.seen.append(3)
    owner.last.append(5)
    owner.names.add("more")
    owner.map["c"] = owner.map.pop("b")
    owner.fresh = 1
    put_back(vars(owner), *kept)
    assert owner.calls == 0 and not hasattr(owner, "fresh")
    assert all(vars(owner)[name] is value for name, value in objects.items())
    assert (owner.seen, list(owner.last), list(owner.map.items())) == ([1, 2], [1], [("b", 1), ("a", 2)])
    assert owner.names == {f"name {i}" for i in range(9)}


def test_equal_calls_draw_equal_numbers_for_all_samples():
    states = random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    with host_chance(4, 0.25) as chance:
        assert not chance.chooses
        assert random.random() == np.random.rand() == 0.25  # noqa: NPY002
        assert chance.chooses
        assert np.random.uniform(1.0, 3.0) == random.uniform(1.0, 3.0) == 1.5  # noqa: NPY002
        drawn = np.random.randn(4, 3)  # noqa: NPY002
        assert (drawn == drawn[0]).all() and (np.random.randn(4, 3) == drawn).all()  # noqa: NPY002
        assert [random.randint(0, 99) for _ in range(2)] == [random.randint(0, 99)] * 2
    assert states == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
