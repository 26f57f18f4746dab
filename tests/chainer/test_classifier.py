"""The classifiers: Chainer's own when clean, the blend of its losses when mixed, with its names and reports."""

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import pytest
from chainer import Variable
from chainer.serializers import load_npz, save_npz

from mixlayers import CutMix, ManifoldMixup, Mixup, PatchUp
from mixlayers.chainer import Classifier, ManifoldMixupClassifier, cross_entropy, mix
from tests.chainer.chainer_networks import LAYERS, Net, batch, classifier


def get_copy(model):
    plain = Net()
    plain.copyparams(model.predictor)
    return plain


def observed(model, x, y):
    reporter, found = chainer.Reporter(), {}
    reporter.add_observer("main", model)
    with reporter.scope(found):
        loss = model(x, y)
    return loss, found


def test_a_clean_classifier_is_chainers():
    model, (x, y) = classifier(), batch()
    theirs = L.Classifier(get_copy(model))
    with chainer.using_config("train", False):
        loss, found = observed(model, x, y)
        expected, wanted = observed(theirs, x, y)
        assert found.keys() == wanted.keys() == {"main/loss", "main/accuracy"}
        assert loss.array == expected.array and found["main/accuracy"].array == wanted["main/accuracy"].array
    with chainer.no_backprop_mode():
        assert model(x, y).array == theirs(x, y).array
    assert model.mixer.step == 0


@pytest.mark.parametrize("method", [ManifoldMixup(), PatchUp("soft", loss_scale=2.0)], ids=repr)
def test_a_training_step_is_the_blend_of_the_losses(method):
    model, (x, y) = classifier(method=method, lossfun=F.softmax_cross_entropy, accfun=F.accuracy), batch()
    default = classifier(method=method)
    loss, found = observed(model, x, y)
    plan, output = model.mixer.last, model.y
    s = 1 - found["main/lam"]
    blended = (1 - s) * F.softmax_cross_entropy(output, y) + s * F.softmax_cross_entropy(output, y[plan.perm])
    np.testing.assert_allclose(loss.array, blended.array * method.loss_scale, rtol=1e-6)
    hits = (1 - s) * F.accuracy(output, y) + s * F.accuracy(output, y[plan.perm])
    np.testing.assert_allclose(found["main/accuracy"].array, hits.array, rtol=1e-6)
    assert found["main/layer"] == LAYERS.index(plan.place) and 0 < found["main/lam"] < 1
    np.testing.assert_allclose(default(x, y).array, loss.array, rtol=1e-6)
    loss.backward()


def test_shares_of_each_sample_and_losses_of_each_sample():
    method, (x, y) = Mixup(lam_per="sample"), batch()
    model = classifier(method=method, layers="auto")
    loss, found = observed(model, x, y)
    lossfun = lambda output, t: F.softmax_cross_entropy(output, t, reduce="no")  # noqa: E731
    other = classifier(method=method, layers="auto", lossfun=lossfun)
    other.compute_accuracy = False
    np.testing.assert_allclose(other(x, y).array, loss.array, rtol=1e-6)
    np.testing.assert_allclose(found["main/lam"], model.mixer.last.lam.mean(), rtol=1e-6)
    scalar = classifier(method=method, layers="auto", lossfun=F.softmax_cross_entropy)
    with pytest.raises(ValueError, match="one value per sample"):
        scalar(x, y)


@pytest.mark.parametrize("key", [-1, 0, 1, "t"])
def test_the_label_key_is_chainers(key):
    x, y = batch()
    model = classifier(label_key=key)
    losses = {
        -1: lambda: model(x, y), 0: lambda: model(y, x), 1: lambda: model(x, y), "t": lambda: model(x, t=y),
    }  # fmt: skip
    loss = losses[key]()
    np.testing.assert_array_equal(loss.array, classifier()(x, y).array)
    with pytest.raises(ValueError, match="Label key"):
        model(x) if key in (1, "t") else model()


def test_ignored_labels_count_as_chainers():
    rng = np.random.default_rng(0)
    output, y = Variable(rng.standard_normal((6, 4))), np.array([0, 1, -1, 2, -1, 3])
    _, target = mix(rng.standard_normal((6, 2)), y, Mixup(), step=1)
    ours = cross_entropy(output, target)
    theirs = target.blend(lambda labels: F.softmax_cross_entropy(output, labels))
    np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-12)
    assert cross_entropy(output, y).array == F.softmax_cross_entropy(output, y).array
    np.testing.assert_array_equal(target.soft(4)[[2, 4]].sum(1) < 1, True)


class Segmenter(chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first, self.last = L.Convolution2D(3, 6, 3, pad=1), L.Convolution2D(6, 4, 3, pad=1)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


@pytest.mark.parametrize("method", [ManifoldMixup(), CutMix(), PatchUp("soft", block_size=2)], ids=repr)
def test_segmentation(method):
    """As `L.Classifier` takes it: labels (N, H, W), -1 for pixels that do not count; pixels follow a mask."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3, 8, 8)).astype("f"), rng.integers(-1, 4, size=(4, 8, 8)).astype("i")
    net = Segmenter()
    model = Classifier(net, method, **({"layers": "first"} if method.hidden else {}))
    with chainer.using_config("train", False):
        loss, found = observed(model, x, y)
        expected, wanted = observed(L.Classifier(net), x, y)
    np.testing.assert_allclose(loss.array, expected.array, rtol=1e-6)
    valid = y != -1  # Chainer's own accuracy counts all pixels, unless it is told of ignored ones
    right = (model.y.array.argmax(1) == y)[valid].mean()
    np.testing.assert_allclose(found["main/accuracy"].array, right, rtol=1e-6)
    assert wanted.keys() == found.keys()
    loss, found = observed(model, x, y)
    loss.backward()
    plan, shape = model.mixer.last, (4, 6, 8, 8) if method.hidden else x.shape
    share = np.broadcast_to(plan.share_map(shape, (8, 8)), y.shape)
    logs = F.log_softmax(model.y).array
    each = [
        np.where(t == -1, 0, -np.take_along_axis(logs, np.maximum(t, 0)[:, None], 1)[:, 0])
        for t in (y, y[plan.perm])
    ]
    counts = (1 - share) * (y != -1) + share * (y[plan.perm] != -1)
    blended = ((1 - share) * each[0] + share * each[1]).sum() / counts.sum()
    np.testing.assert_allclose(loss.array, blended, rtol=1e-5)
    model.lossfun = F.softmax_cross_entropy
    model.mixer.load_state_dict({"step": 0})
    np.testing.assert_allclose(model(x, y).array, blended, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1), (6, 2)])
def test_regression(shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)).astype("f"), rng.normal(size=shape).astype("f")
    net = L.Linear(3, shape[1])
    model, theirs = (
        Classifier(net, Mixup(), lossfun=F.mean_squared_error),
        L.Classifier(net, F.mean_squared_error),
    )
    for train in (True, False):
        with (
            chainer.using_config("train", train),
            pytest.raises(ValueError, match="for regression report an error"),
        ):
            model(x, y)
    model.compute_accuracy = theirs.compute_accuracy = False
    with chainer.using_config("train", False):
        assert model(x, y).array == theirs(x, y).array
    loss, plan = model(x, y), model.mixer.last
    sides = [F.mean_squared_error(model.y, t).array for t in (y, y[plan.perm])]
    np.testing.assert_allclose(loss.array, plan.lam * sides[0] + (1 - plan.lam) * sides[1], rtol=1e-5)


def test_checkpoints_are_chainers_classifiers(tmp_path):
    model, theirs = classifier(), L.Classifier(Net())
    save_npz(tmp_path / "ours.npz", model)
    load_npz(tmp_path / "ours.npz", theirs)
    save_npz(tmp_path / "theirs.npz", theirs)
    load_npz(tmp_path / "theirs.npz", classifier(seed=3))
    for (name, p), (other, q) in zip(model.namedparams(), theirs.namedparams(), strict=True):
        assert name == other and np.array_equal(p.array, q.array)


def test_the_recipes_classifier():
    (x, y), net = batch(), Net()
    places = {
        (True, None): ("input", "layer1", "layer2", "layer3"), (True, 0): ("input",), (True, 2): ("layer2",),
        (True, "layer3"): ("layer3",), (False, None): ("input",),
    }  # fmt: skip
    for (hidden, layer), expected in places.items():
        model = ManifoldMixupClassifier(net.copy("copy"), hidden, 0.2, layer, example=x)
        observed(model, x, y)[0].backward()
        assert model.mixer.places == expected and model.mixer.method.alpha == 0.2
    model = ManifoldMixupClassifier(net.copy("copy"), layer_mix=1, layers=["layer3", "layer1"])
    assert model.mixer.places == ("layer3",)
    with pytest.raises(ValueError, match="only an example shows: give example=images"):
        ManifoldMixupClassifier(Net(), layer_mix=2)
    for number in (-1, 4):
        with pytest.raises(
            ValueError, match=r"in \[0, 3\], or a layer's name, got .*: 0 is 'input', 1 is 'layer1'"
        ):
            ManifoldMixupClassifier(Net(), layer_mix=number, example=x)
