"""Wrong use is refused with the value and the way out, and the model is left as it was."""

import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from paddle_networks import Net, batch, equal, net, untouched

from mixlayers import CutMix, ManifoldMixup, MixingError, Mixup, PatchUp
from mixlayers.paddle import Mixer, accuracy, audit, cross_entropy, get_mixer, wrap


class Twice(Net):
    """Runs layer1 two times."""

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.layer1(self.stem(x)))))


class Sometimes(Net):
    """Runs layer1 only in eval mode."""

    def trunk(self, x):
        x = self.stem(x)
        return self.layer3(self.layer2(x if self.training else self.layer1(x)))


class Fails(Net):
    """Raises after layer1, when told to."""

    broken = True

    def trunk(self, x):
        x = self.layer1(self.stem(x))
        if self.broken:
            raise RuntimeError("mid-forward")
        return self.layer3(self.layer2(x))


class Named(Net):
    def forward(self, x, target=None):
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:The program will return to single-card operation")
@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda m: wrap(m, layers="layer9"), ValueError, "'layer9' matches no layer.*stem, layer1, layer2"),
        (lambda m: wrap(m, Mixup(), layers="layer1"), ValueError, "mixes the input, got layers='layer1'"),
        (lambda m: wrap(m, "manifold"), TypeError, r"such as ManifoldMixup\(\), got 'manifold'"),
        (lambda m: wrap(m, layers=nn.Linear(1, 1)), TypeError, "is it in the model"),
        (lambda m: wrap(paddle.DataParallel(m)), TypeError, "wrap the model inside DataParallel"),
        (lambda m: wrap(paddle.Model(m)), TypeError, "takes a paddle.nn.Layer, got Model: wrap its network"),
        (lambda m: wrap(m.forward), TypeError, "takes a paddle.nn.Layer, got method"),
        (lambda m: wrap(m, example=paddle.zeros([2, 3, 8, 8], "int64")), ValueError, "layers='auto'"),
        (lambda m: wrap(nn.Linear(3, 4), example=paddle.zeros([2, 3])), ValueError, "name layers yourself"),
        (lambda m: wrap(net(Named)), ValueError, "argument named 'target' of its own"),
    ],
)
def test_attaching_is_refused(make, error, says):
    model = net()
    with pytest.raises(error, match=says):
        make(model)
    assert untouched(model)


def test_wrapping_twice_is_refused():
    model = wrap(net(), layers=["layer1"])
    for again in (lambda: wrap(model), lambda: Mixer(nn.Sequential(model))):
        with pytest.raises(ValueError, match=r"already wrapped by Mixer\(ManifoldMixup.*unwrap"):
            again()
    assert len(model.layer1._forward_post_hooks) == 1


@pytest.mark.filterwarnings("ignore:layer 'layer1' is not a true mixing point")
@pytest.mark.parametrize(
    ("kind", "says"),
    [(Twice, "'layer1' ran twice in one forward"), (Sometimes, "'layer1' did not run in this forward")],
)
def test_the_planned_layer_must_run_once(kind, says):
    model, (x, y) = wrap(net(kind), layers="layer1"), batch()
    for _ in range(2):  # the next step is refused afresh, not confused by the last
        with pytest.raises(MixingError, match=says):
            model(x, target=y)
    assert model(x).shape == [6, 4]


def test_an_untrue_layer_warns_once_with_the_reason():
    model, (x, y) = wrap(net(), layers="layer1.conv"), batch()
    with pytest.warns(UserWarning, match=r"'layer1.conv' is not a true mixing point \(part of the features"):
        model(x, target=y)
    model(x, target=y)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (batch()[0], batch()[1][:5], r"6 samples, but the target has shape \(5,\)"),
        (batch()[0], paddle.to_tensor(1), r"6 samples, but the target has shape \(\)"),
        (
            (batch()[0] * 9).astype("uint8"),
            batch()[1],
            r"floating-point tensor.*got paddle.uint8: convert images",
        ),
    ],
)
def test_wrong_batches_are_refused(x, y, says):
    model = wrap(net(), Mixup())
    with pytest.raises(ValueError, match=says):
        model(x, target=y)
    x, y = batch()
    assert model(x, target=y)[1].mixed


def test_a_mask_needs_a_feature_it_fits():
    model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), CutMix())
    with pytest.raises(ValueError, match="use Mixup or ManifoldMixup"):
        model(batch()[0].flatten(1), target=batch()[1])


def test_a_model_that_raises_leaves_nothing_armed():
    model, plain, (x, y) = wrap(net(Fails), layers="layer1"), net(Fails), batch()
    with pytest.raises(RuntimeError, match="mid-forward"):
        model(x, target=y)
    feature = plain.stem(x)
    assert equal(model.layer1(model.stem(x)), plain.layer1(feature))
    with pytest.raises(RuntimeError, match="mid-forward"), get_mixer(model)(y):
        model(x)
    assert get_mixer(model).last is None
    model.broken = False
    output, target = model(x, target=y)
    cross_entropy(output, target).backward()


def test_a_target_that_no_loss_used_stops_the_backward_pass():
    x, y = batch()
    for way in ("target", "scope", "loss"):
        model = net()
        mixer = Mixer(model, layers=["layer1"])
        if way == "target":
            output, target = model(x, target=y)
            accuracy(output, target)  # a metric is no loss
        elif way == "scope":
            with mixer(y):
                output = model(x)
        else:
            mixer.loss(F.cross_entropy)
            output = model(x)
        # Paddle hands on what a gradient hook raises as OSError, with its text
        with pytest.raises(
            OSError, match=r"MixingError: .*mixed at 'layer1', but no loss used the mixed target"
        ):
            F.cross_entropy(output, y).backward()
        assert all(p.grad is None for p in model.parameters())


class NoGradient(Net):
    def forward(self, x):
        return {"scores": super().forward(x).tolist()}


def test_an_output_without_gradients_is_checked_at_the_next_forward():
    model, (x, y) = wrap(net(NoGradient), layers=["layer1"]), batch()
    model(x, target=y)
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        model(x, target=y)
    _, target = model(x, target=y)
    assert target.blend(lambda label: label.astype("float32").mean()) > 0
    model(x, target=y)


def test_scopes_are_one_forward_each():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, layers=["layer1"])
    with pytest.raises(MixingError, match="did not run inside the scope"), mixer(y):
        pass
    with mixer(y):
        model(x)
        with pytest.raises(MixingError, match="ran twice inside one scope"):
            model(x)
    with pytest.raises(MixingError, match="given twice"), mixer(y):
        model(x, target=y)
    with pytest.raises(MixingError, match="already open"), mixer(y), mixer(y):
        pass
    with pytest.raises(MixingError, match="call the model first"), mixer(y) as target:
        target.blend(lambda label: label)
    with mixer(y) as target:
        output = model(x)
    cross_entropy(output, target).backward()


def test_per_sample_shares_need_a_loss_per_sample():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, ManifoldMixup(lam_per="sample"), ["layer1"])
    with pytest.raises(ValueError, match='reduction="none"'):
        mixer.loss(nn.CrossEntropyLoss())(model(x), y)
    loss = mixer.loss(nn.CrossEntropyLoss(reduction="none"))(model(x), y)
    assert loss.shape == [6]
    loss.mean().backward()


def test_class_policies_need_the_labels_at_the_forward():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, ManifoldMixup(pairs="same_class"), ["layer1"])
    with pytest.raises(ValueError, match=r"pairs by class.*target=labels"):
        mixer.loss(nn.CrossEntropyLoss())
    with mixer(y) as target:
        output = model(x)
    cross_entropy(output, target).backward()


def test_a_criterion_blends_once():
    mixer = Mixer(net(), layers=["layer1"])
    with pytest.raises(ValueError, match="already blends"):
        mixer.loss(mixer.loss(nn.CrossEntropyLoss()))


def test_audit_refuses_what_it_cannot_see():
    with pytest.raises(ValueError, match="no tensor with a batch axis"):
        audit(net(), 3)
    with pytest.raises(ValueError, match="differentiable way"):
        audit(net(NoGradient), batch()[0])


@pytest.mark.filterwarnings("ignore:layer 'stem' is not a true mixing point")
def test_a_feature_without_the_batch_is_refused():
    model = net()
    model.stem = nn.Sequential(model.stem, nn.Flatten(0, 1))  # its output has N * C rows
    model.layer1 = nn.Sequential(nn.Unflatten(0, [-1, 6]), model.layer1)
    wrap(model, PatchUp(), layers="stem")
    with pytest.raises(MixingError, match="no floating-point tensor with 6 samples"):
        model(batch()[0], target=batch()[1])
