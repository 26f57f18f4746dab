"""Selecting layers, the search for dominators, and containers."""

import re
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlayers._core.audit.dominators import on_every_path, separates
from mixlayers._core.audit.places import auto_layers, select_layers, stage_ends
from mixlayers._core.audit.report import Audit, Point
from mixlayers._core.framework.tree import leaves, tree_map


class Conv:
    pass


class Norm:
    pass


MODULES = {"stem": Conv(), "layer1": Norm(), "layer1.0": Conv(), "layer2": Norm(), "head": Conv()}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("layer1", ("layer1",)),
        ("layer*", ("layer1", "layer1.0", "layer2")),
        (["head", "input", "stem"], ("input", "stem", "head")),
        (re.compile(r"layer\d"), ("layer1", "layer2")),
        (Conv, ("stem", "layer1.0", "head")),
        (MODULES["layer2"], ("layer2",)),
        (lambda name, module: name == "head", ("head",)),
        (partial(lambda wanted, name, module: name == wanted, "stem"), ("stem",)),
        ([Norm, "input"], ("input", "layer1", "layer2")),
    ],
)
def test_layers_are_selected(layers, expected):
    assert select_layers(layers, MODULES) == expected


@pytest.mark.parametrize(
    "layers", ["layer9", re.compile("x"), dict, [lambda n, m: False], ["stem", "stage*"]]
)
def test_no_match_lists_the_candidates(layers):
    with pytest.raises(
        ValueError, match=r"matches no layer of the model.*stem, layer1, layer2, head, layer1\.0"
    ):
        select_layers(layers, MODULES)


def test_wrong_forms_are_refused():
    with pytest.raises(TypeError, match="is it in the model"):
        select_layers(Conv(), MODULES)
    with pytest.raises(ValueError, match="layers is empty"):
        select_layers([], MODULES)


def point(name, true=True, weighted=True, leaf=False, shape=(2, 4)):
    return Point(name, "Block", shape, true, "" if true else "part of it", weighted, leaf)


def names(*chosen, **kwargs):
    return [point(name, **kwargs) for name in chosen]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (
            names("layer1.0", "layer1", "layer2.0", "layer2", "layer3", "layer4"),
            ("input", "layer1", "layer2"),
        ),
        (names("stage1", "stage2", "stage3"), ("input", "stage1", "stage2")),
        (
            names("embed", *(f"net.blocks.{i}" for i in range(12)), "net"),
            ("input", "net.blocks.2", "net.blocks.5"),
        ),
        (names("a1", "a2"), ("input", "a1")),
        (
            [
                point("0", leaf=True),
                point("1", leaf=True, weighted=False),
                point("2", leaf=True),
                point("4", leaf=True),
            ],
            ("input", "1"),
        ),
    ],
)
def test_auto_takes_the_ends_of_the_first_two_of_four_stages(points, expected):
    assert auto_layers(Audit(tuple(points))) == expected
    assert auto_layers(Audit(tuple(points), float_input=False)) == expected[1:]


def test_auto_never_takes_an_untrue_point():
    points = [*names("b0", true=False), *names("b1", "b2", "b3"), point("head", leaf=True)]
    assert stage_ends(points) == ("b1", "b2", "b3")
    assert auto_layers(Audit(tuple(points)), "stages") == ("input", "b1", "b2", "b3")


def test_auto_finds_nothing_in_a_linear_model():
    with pytest.raises(ValueError, match="name layers yourself"):
        auto_layers(Audit((point("head", leaf=True),)))


def test_a_report_tells_each_layer():
    report = Audit((point("a", true=False), point("b")), chosen=("b",))
    assert "1 of 2 layers" in str(report) and "chosen by auto" in str(report)
    assert (report.true, report["a"].true, [p.name for p in report]) == (("b",), False, ["a", "b"])
    with pytest.raises(KeyError, match="no layer of the audited model"):
        report["c"]


graphs = st.integers(2, 9).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20).map(
        lambda edges: {i: [b for a, b in edges if a == i and b > i] for i in range(n)}
    )
)


@given(graphs, st.sets(st.integers(1, 8), min_size=1))
def test_the_sweep_finds_the_nodes_that_cut_the_graph(graph, sources):
    if separates(graph, frozenset(), 0, sources):
        return  # nothing to cut
    expected = {node for node in graph if separates(graph, {node}, 0, sources)}
    assert on_every_path(graph, 0, sources) == expected


Pair = namedtuple("Pair", "a b")


@dataclass
class Output:
    x: int
    rest: tuple[str, ...] = ()


class ModelOutput(OrderedDict):
    pass


@pytest.mark.parametrize(
    "tree", [Pair(1, "t"), [1, ("t", 2)], {"k": 1}, Output(1, ("t",)), ModelOutput(a=1, b=[2]), 1, ((),)]
)
def test_containers_come_back_as_what_they_were(tree):
    doubled = tree_map(lambda leaf: leaf * 2 if isinstance(leaf, int) else leaf, tree)
    assert type(doubled) is type(tree)
    assert list(leaves(doubled)) == [leaf * 2 if isinstance(leaf, int) else leaf for leaf in leaves(tree)]
    assert tree_map(lambda leaf: leaf, tree) is tree
