"""What wrapping leaves of Chainer's own as it was; the rest is in tests/shared/test_wrap.py."""

import copy
import pickle

import chainer
import chainer.functions as F
import chainer.links as L
import chainermn
import numpy as np
import pytest
from chainer import Chain, ChainList

from mixlayers import ManifoldMixup, Mixup, PatchUp
from mixlayers.chainer import Mixer, cross_entropy, get_mixer, unwrap, wrap
from tests.chainer.chainer_networks import Block, Net

LAYERS = ["layer1", "layer2"]


def batch(size=6):
    rng = np.random.default_rng(1)
    return rng.standard_normal((size, 3, 8, 8), dtype=np.float32), rng.integers(4, size=size)


def arrays(model):
    return {name: p.array for name, p in model.namedparams()}


@pytest.mark.parametrize("mode", ["copy", "share", "init"])
def test_copies_of_chainers_own_mix_and_unwrap(mode):
    model, (x, y) = wrap(Net(), layers=LAYERS, seed=2), batch()
    twin = model.copy(mode)
    assert isinstance(twin, Net) and (get_mixer(twin) is get_mixer(model)) == (mode == "share")
    output, target = twin(x, target=y)
    cross_entropy(output, target).backward()
    assert target.layer in LAYERS
    unwrap(twin)
    assert type(twin) is Net and type(twin.layer1) is Block and type(twin.layer2) is Block
    cross_entropy(*model(x, target=y)).backward()  # the model itself is still wrapped


def test_repeated_layers_are_plain_and_mix_nothing():
    model, (x, y) = wrap(Net(), layers=LAYERS), batch()
    cross_entropy(*model(x, target=y)).backward()
    feature = model.stem(x)
    for mode in ("copy", "share", "init"):
        repeated = model.layer1.repeat(3, mode)
        plain = unwrap(copy.deepcopy(model)).layer1.repeat(3, mode)
        for ours, theirs in zip(repeated, plain, strict=True):
            theirs.copyparams(ours)
        np.testing.assert_array_equal(repeated(feature).array, plain(feature).array)


def test_serializers_and_devices_see_no_difference(tmp_path):
    plain, model = Net(), wrap(Net(), layers=LAYERS)
    chainer.serializers.save_npz(tmp_path / "ours.npz", model)
    chainer.serializers.save_npz(tmp_path / "theirs.npz", plain)
    with np.load(tmp_path / "ours.npz") as ours, np.load(tmp_path / "theirs.npz") as theirs:
        assert set(ours.files) == set(theirs.files)
    chainer.serializers.load_npz(tmp_path / "ours.npz", plain, strict=True)
    chainer.serializers.load_npz(tmp_path / "theirs.npz", model, strict=True)
    assert model.to_device("@numpy") is model
    plain.copyparams(model)
    for name, array in arrays(plain).items():
        np.testing.assert_array_equal(array, arrays(model)[name])
    assert str(model) == str(plain) and [n for n, _ in model.namedlinks()] == [
        n for n, _ in plain.namedlinks()
    ]


def test_the_step_is_saved_and_loaded(tmp_path):
    model, (x, y) = wrap(Net(), layers=LAYERS), batch()
    model(x, target=y)
    chainer.serializers.save_npz(tmp_path / "mixer.npz", get_mixer(model))
    other = Mixer(Net(), layers=LAYERS)
    chainer.serializers.load_npz(tmp_path / "mixer.npz", other)
    assert other.step == 1


class OldStyle(Chain):
    """Links that define __call__ and no forward, as before Chainer 5."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.stage1, self.stage2, self.head = Stage(), Stage(), L.Linear(6, 4)

    def __call__(self, x):
        return self.head(self.stage2(self.stage1(x)))


class Stage(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.linear = L.Linear(6, 6)

    def __call__(self, x):
        return F.relu(self.linear(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_links_that_define_call_are_mixed(copied):
    x, y = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32), np.arange(5) % 4
    model = wrap(OldStyle(), example=x)
    assert get_mixer(model).places == ("input", "stage1")
    model = copied(wrap(OldStyle(), layers=["stage1"]))
    output, _ = model(x, target=y)
    plan = get_mixer(model).last
    unwrap(model)
    h = model.stage1(x)
    np.testing.assert_array_equal(
        output.array, model.head(model.stage2(plan.lam * h + (1 - plan.lam) * h[plan.perm])).array
    )
    assert type(model) is OldStyle and type(model.stage1) is Stage


def test_paths_of_chainers_own_name_layers():
    for layers in ("/layer1/conv", ["layer1/conv"], "layer1.conv"):
        assert Mixer(Net(), layers=layers).places == ("layer1.conv",)
    assert Mixer(Net(), layers=["/layer1", "input", "/layer2"]).places == ("input", "layer1", "layer2")


def test_layers_are_in_the_order_of_registration():
    """Chainer's own lists are lexical; the place that a seed draws must be the one that other frameworks draw."""
    chain = Chain()
    with chain.init_scope():
        chain.conv2, chain.conv10, chain.conv1 = L.Linear(2), L.Linear(2), ChainList(L.Linear(2), L.Linear(2))
    mixer = Mixer(chain, layers="conv*")
    assert mixer.places == ("conv2", "conv10", "conv1", "conv1.0", "conv1.1")


def test_a_link_registered_twice_is_one_place():
    shared = L.Linear(4, 4)
    assert Mixer(Chain(first=shared, again=shared, head=L.Linear(4, 2)), layers="*").places == (
        "first",
        "head",
    )


def test_a_layer_may_be_a_model_itself():
    model, (x, y) = wrap(Net(), layers=["layer1"], seed=1), batch()
    inner = wrap(model.layer1, layers=["conv"])
    cross_entropy(*model(x, target=y)).backward()
    assert get_mixer(model).step == 1 and get_mixer(inner).step == 0
    unwrap(inner)
    assert get_mixer(model).step == 1
    cross_entropy(*model(x, target=y)).backward()
    unwrap(model)
    assert type(model.layer1) is Block


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)], ids=repr
)
def test_mixed16_features_are_mixed_in_their_own_dtype(method):
    seen = []

    class Kept(Net):
        def trunk(self, x):
            h = self.layer1(self.stem(x))
            seen.append(h.dtype)
            return self.layer2(h)

    with chainer.using_config("dtype", chainer.mixed16):
        model, (x, y) = wrap(Kept(), method, LAYERS), batch()
        model.cleargrads()
        loss = cross_entropy(*model(x.astype(np.float16), target=y))
        loss.backward()
    assert seen == [np.float16] * len(seen) and np.isfinite(loss.array)


def test_a_classifier_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"wrap\(model.predictor\)"):
        wrap(L.Classifier(Net()), Mixup())


def test_a_sequential_counts_links_alone():
    """The name "1" looks like a position, and is not where functions stand in between: a warning says so."""
    net = chainer.Sequential(L.Linear(4, 5), F.relu, L.Linear(5, 3))
    with pytest.warns(
        UserWarning, match=r"layers='1': .*'1' is the Linear at position 2.*layers=\[model\[2\]\]"
    ):
        wrap(net, layers=["1"])
    assert get_mixer(net).places == ("1",)
    unwrap(net)
    wrap(net, layers=[net[2]])
    assert get_mixer(net).places == ("1",)
    wrap(chainer.Sequential(L.Linear(4, 5), L.Linear(5, 3)), layers=["1"])
    inner = chainer.Sequential(chainer.Sequential(F.relu, L.Linear(4, 4)), L.Linear(4, 3))
    with pytest.warns(UserWarning, match="'0' is the Linear at position 1"):
        wrap(inner, layers=["0.0"])


@pytest.mark.filterwarnings(
    "ignore:chainermn.links.MultiNodeBatchNormalization is experimental:FutureWarning"
)
@pytest.mark.parametrize("layer", ["first", "norm"])
def test_a_model_that_was_copied_part_by_part_mixes_on(layer):
    """ChainerMN's create_mnbn_model copies each child by itself, and makes new norms."""

    class Norms(chainer.Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.first, self.norm, self.last = L.Linear(4, 5), L.BatchNormalization(5), L.Linear(5, 3)

        def forward(self, x):
            self.seen = self.first(x)
            self.normed = self.norm(self.seen)
            return self.last(self.normed)

    net = wrap(Norms(), layers=[layer])
    copied = chainermn.links.create_mnbn_model(net, chainermn.create_communicator("naive"))
    assert type(copied.norm).__name__ == "MultiNodeBatchNormalization"
    x, y = np.random.default_rng(0).normal(size=(6, 4)).astype("f"), np.arange(6) % 3
    _, target = copied(x, target=y)
    plan = get_mixer(copied).last
    assert get_mixer(copied) is not get_mixer(net) and get_mixer(net).step == 0 and target.layer == layer
    plain = copied.first.W.array @ x.T
    if layer == "first":
        by_hand = plan.lam * plain.T + (1 - plan.lam) * plain.T[plan.perm] + copied.first.b.array
        np.testing.assert_allclose(copied.seen.array, by_hand, rtol=1e-4, atol=1e-5)
    else:
        clean = (plain.T - plain.T.mean(0)) / np.sqrt(plain.T.var(0) + 2e-5)
        by_hand = plan.lam * clean + (1 - plan.lam) * clean[plan.perm]
        np.testing.assert_allclose(copied.normed.array, by_hand, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["blocks.2", "blocks.2.conv"])
def test_a_number_that_a_chain_list_does_not_reach_names_no_layer(name):
    net = Chain()
    with net.init_scope():
        net.blocks = ChainList(L.Linear(4, 4), L.Linear(4, 4))
    with pytest.raises(ValueError, match=f"'{name}' matches no layer of the model.*blocks.0, blocks.1"):
        wrap(net, layers=name)
