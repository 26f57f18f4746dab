"""Copies of wrapped links: of lists, and of those that share layers with other models."""

import copy
import pickle

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import ChainList, Link, Sequential

from mixlayers import ManifoldMixup
from mixlayers.chainer import cross_entropy, get_mixer, unwrap, wrap
from mixlayers_chainer._hooks import named_layers


class Row(ChainList):
    """Links one after the other."""

    def forward(self, x):
        for link in self:
            x = F.relu(link(x))
        return x


def nets(kind):
    """Two layers and a head, as a list, a Sequential or a Sequential that was changed, and the layers."""
    first, second, head = L.Linear(6, 5), L.Linear(5, 5), L.Linear(5, 4)
    if kind == "stages":
        first, second = Sequential(first, F.relu), Sequential(second, F.relu)
    if kind == "inserted":
        net = Sequential(second, head)
        net.insert(0, F.relu)
        net.insert(0, first)
        net.insert(2, second.copy("copy"))
        return net, [first, net[2]]
    net = Row(first, second, head) if kind == "list" else Sequential(first, F.relu, second, F.relu, head)
    return net, [first, second]


def in_order(link):
    """A link and those below it, in the order of their calls."""
    below = [each for each in link if isinstance(each, Link)] if isinstance(link, ChainList) else []
    return [link, *(found for each in below for found in in_order(each))]


def run(link, x, mixed, plan):
    """By hand."""
    if isinstance(link, ChainList):
        for each in link:
            x = run(each, x, mixed, plan) if isinstance(each, Link) else each(x)
            x = F.relu(x) if isinstance(link, Row) else x
    else:
        x = F.linear(x, link.W, link.b)
    return plan.lam * x + (1 - plan.lam) * x[plan.perm] if link is mixed else x


@pytest.mark.parametrize("mode", ["copy", "share", "init"])
@pytest.mark.parametrize("kind", ["list", "sequential", "stages", "inserted"])
@pytest.mark.parametrize("within", [lambda net: net, lambda net: Sequential(net, F.relu), Row])
def test_copies_of_lists_mix_where_the_list_does(mode, kind, within):
    """A Sequential copies itself in another way than other links, and numbers its links anew."""
    x, y = np.random.default_rng(3).standard_normal((6, 6), dtype=np.float32), np.arange(6) % 4
    net, layers = nets(kind)
    model = wrap(within(net), ManifoldMixup(1.0), layers)
    twin = model.copy(mode)
    mixer, places = get_mixer(twin), get_mixer(model).places
    assert (mixer is get_mixer(model)) == (mode == "share")
    for _ in range(4):
        output, target = twin(x, target=y)
        cross_entropy(output, target).backward()
        plan, own = mixer.last, dict(named_layers(model))
        mixed = in_order(twin)[in_order(model).index(own[plan.place])]
        expected = run(twin, chainer.Variable(x), mixed, plan)
        np.testing.assert_allclose(output.array, expected.array, rtol=1e-5, atol=1e-6)
    assert get_mixer(model).step == (4 if mode == "share" else 0) and get_mixer(model).places == places


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_model_whose_layer_is_anothers_too(copied):
    x, y = np.random.default_rng(3).standard_normal((6, 6), dtype=np.float32), np.arange(6) % 4
    shared = Sequential(L.Linear(6, 6), F.relu)
    one, other = (Sequential(shared, L.Linear(6, 4)) for _ in range(2))
    for seed, model in enumerate((one, other)):
        wrap(model, ManifoldMixup(1.0), [shared], seed=seed)
    for model in (one, other):
        expected = model(x, target=y)[0]
        unwrap(model)
        wrap(model, ManifoldMixup(1.0), [shared], seed=int(model is other))
        np.testing.assert_array_equal(copied(model)(x, target=y)[0].array, expected.array)
