"""Wrong use is refused with the value and the way out, and the model is left as it was: in every framework."""

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, MixingError, Mixup, PatchUp


class Twice:
    """Runs layer1 two times."""

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.layer1(self.stem(x)))))


class Sometimes:
    """Runs layer1 only in evaluation."""

    def trunk(self, x):
        x = self.stem(x)
        return self.layer3(self.layer2(x if self.training else self.layer1(x)))


class Reads:
    """Takes its labels out of **kwargs."""

    def forward(self, x, **given):
        return super().forward(x), given["target"]


class Fails:
    """Raises after layer1, when told to."""

    broken = True

    def trunk(self, x):
        x = self.layer1(self.stem(x))
        if self.broken:
            raise RuntimeError("mid-forward")
        return self.layer3(self.layer2(x))


class Named:
    def forward(self, x, target=None):
        return super().forward(x)


def without_gradients(fw):
    class NoGradient:
        def forward(self, x):
            return {"scores": fw.numpy(super().forward(x)).tolist()}

    return NoGradient


def zeros(fw, *shape, dtype=np.float32):
    return fw.tensor(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda fw, w, m: w(m, layers="layer9"),
            ValueError,
            "'layer9' matches no layer.*stem, layer1, layer2",
        ),
        (lambda fw, w, m: w(m, Mixup(), layers="layer1"), ValueError, "mixes the input, got layers='layer1'"),
        (lambda fw, w, m: w(m, "manifold"), TypeError, r"such as ManifoldMixup\(\), got 'manifold'"),
        (lambda fw, w, m: w(m, layers=fw.linear(1, 1)), TypeError, "is it in the model"),
        (lambda fw, w, m: w(m.forward), TypeError, "takes a {}, got method"),
        (lambda fw, w, m: w(m, example=zeros(fw, 2, 3, 8, 8, dtype=int)), ValueError, "layers='auto'"),
        (lambda fw, w, m: w(fw.linear(3, 4), example=zeros(fw, 2, 3)), ValueError, "name layers yourself"),
        (lambda fw, w, m: w(fw.net(Named)), ValueError, "argument named 'target' of its own"),
    ],
)
def test_attaching_is_refused(fw, make, error, says):
    model = fw.net()
    with pytest.raises(error, match=says.format(fw.takes)):
        make(fw, fw.face.wrap, model)
    assert fw.untouched(model)


def test_wrapping_twice_is_refused(fw):
    model = fw.face.wrap(fw.net(), layers=["layer1"])
    for again in (lambda: fw.face.wrap(model), lambda: fw.face.Mixer(fw.sequential(model))):
        with pytest.raises(ValueError, match=r"already wrapped by Mixer\(ManifoldMixup.*unwrap"):
            again()
    assert fw.hooks(model.layer1) == 1


@pytest.mark.parametrize(
    ("kind", "says", "told"),
    [
        (Twice, "'layer1' ran twice in one forward", "called 2 times in one forward"),
        (Sometimes, "'layer1' did not run in this forward", "never called"),
    ],
)
def test_the_planned_layer_must_run_once(fw, kind, says, told):
    model, (x, y) = fw.face.wrap(fw.net(kind), layers="layer1"), fw.batch()
    told = rf"layer 'layer1' is not a true mixing point \({told}\)"
    with pytest.warns(UserWarning, match=told), pytest.raises(MixingError, match=says):
        model(x, target=y)
    with pytest.raises(MixingError, match=says):  # refused afresh, not confused by the last step
        model(x, target=y)
    assert tuple(model(x).shape) == (6, 4)


def test_an_untrue_layer_is_refused_with_the_reason(fw):
    model, (x, y) = fw.face.wrap(fw.net(), layers="layer1.conv"), fw.batch()
    with pytest.raises(
        ValueError, match=r"'layer1.conv' is not a true mixing point \(part of the features.*trust="
    ):
        model(x, target=y)
    with pytest.raises(
        ValueError, match=r"'layer1.conv' is not a true mixing point"
    ):  # and so when asked again
        model(x, target=y)
    fw.face.unwrap(model)
    for trust in (True, "layer1.conv", ["layer1.conv"]):
        fw.face.wrap(model, layers="layer1.conv", trust=trust)
        assert model(x, target=y)[1].mixed
        fw.face.unwrap(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x, y[:5]), r"6 samples, but the target has shape \(5,\)"),
        (lambda x, y: (x, np.array(1)), r"6 samples, but the target has shape \(\)"),
        (lambda x, y: ((x * 9).astype(np.uint8), y), "floating-point tensor.*got .*uint8: convert images"),
    ],
)
def test_wrong_batches_are_refused(fw, change, says):
    model, (x, y) = fw.face.wrap(fw.net(), Mixup()), fw.batch()
    arrays = fw.numpy(x).astype(np.float32), fw.numpy(y).astype(int)
    wrong_x, wrong_y = map(fw.tensor, change(*arrays))
    with pytest.raises(ValueError, match=says):
        model(wrong_x, target=wrong_y)
    assert model(x, target=y)[1].mixed


def test_a_mask_needs_a_feature_it_fits(fw):
    model = fw.face.wrap(fw.linear(192, 4), CutMix())
    x, y = fw.batch()
    with pytest.raises(ValueError, match="use Mixup or ManifoldMixup"):
        model(x.reshape((6, 192)), target=y)


def test_a_model_that_raises_leaves_nothing_armed(fw):
    model, plain, (x, y) = fw.face.wrap(fw.net(Fails), layers="layer1"), fw.net(Fails), fw.batch()
    mixer = fw.face.get_mixer(model)
    with pytest.raises(RuntimeError, match="mid-forward"):
        model(x, target=y)
    assert fw.equal(model.layer1(model.stem(x)), plain.layer1(plain.stem(x)))
    with pytest.raises(RuntimeError, match="mid-forward"), mixer(y):
        model(x)
    assert mixer.last is None
    model.broken = False
    output, target = model(x, target=y)
    fw.face.cross_entropy(output, target).backward()


@pytest.mark.parametrize("way", ["target", "scope", "loss"])
def test_a_target_that_no_loss_used_stops_the_backward_pass(fw, way):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=["layer1"])
    if way == "target":
        output, target = model(x, target=y)
        fw.face.accuracy(output, target)  # a metric is no loss
    elif way == "scope":
        with mixer(y):
            output = model(x)
    else:
        mixer.loss(fw.criterion())
        output = model(x)
    error, before = fw.unused
    with pytest.raises(error, match=f"{before}mixed at 'layer1', but no loss used the mixed target"):
        fw.cross_entropy(output, y).backward()
    assert fw.gradients(model).keys() <= {
        "head.bias"
    }  # which PyTorch's last layer gets with the output's own


def test_an_output_without_gradients_is_checked_at_the_next_forward(fw):
    model, (x, y) = fw.face.wrap(fw.net(without_gradients(fw)), layers=["layer1"]), fw.batch()
    model(x, target=y)
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        model(x, target=y)
    _, target = model(x, target=y)
    assert target.blend(lambda label: fw.numpy(label).mean()) > 0
    model(x, target=y)


def test_scopes_are_one_forward_each(fw):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=["layer1"])
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
    fw.face.cross_entropy(output, target).backward()


def test_per_sample_shares_need_a_loss_per_sample(fw):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, ManifoldMixup(lam_per="sample"), ["layer1"])
    with pytest.raises(ValueError, match='reduction="none"'):
        mixer.loss(fw.criterion())(model(x), y)
    loss = mixer.loss(fw.criterion(per_sample=True))(model(x), y)
    assert tuple(loss.shape) == (6,)
    loss.mean().backward()


def test_class_policies_need_the_labels_at_the_forward(fw):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, ManifoldMixup(pairs="same_class"), ["layer1"])
    with pytest.raises(ValueError, match=r"decides by class.*target=labels"):
        mixer.loss(fw.criterion())
    with mixer(y) as target:
        output = model(x)
    fw.face.cross_entropy(output, target).backward()


def test_a_criterion_blends_once(fw):
    mixer = fw.face.Mixer(fw.net(), layers=["layer1"])
    with pytest.raises(ValueError, match="already blends"):
        mixer.loss(mixer.loss(fw.criterion()))


def test_audit_refuses_what_it_cannot_see(fw):
    with pytest.raises(ValueError, match="no tensor with a batch axis"):
        fw.face.audit(fw.net(), 3)
    with pytest.raises(ValueError, match="differentiable way"):
        fw.face.audit(fw.net(without_gradients(fw)), fw.batch()[0])


@pytest.mark.filterwarnings("ignore:layer 'rows' is not a true mixing point")
def test_a_feature_without_the_batch_is_refused(fw):
    class Rows:
        """Its layer `rows` returns N * C rows."""

        def trunk(self, x):
            x = self.stem(x)
            return self.layer3(self.layer1(self.rows(x).reshape(x.shape)))

    model, (x, y) = fw.net(Rows), fw.batch()
    fw.add_layer(model, "rows", fw.function(lambda x: x.reshape((36, 8, 8))))
    fw.face.wrap(model, PatchUp(), layers="rows")
    with pytest.raises(MixingError, match="no floating-point tensor with 6 samples"):
        model(x, target=y)


def test_a_feature_whose_first_axis_is_no_batch_is_refused_where_it_is_as_long(fw):
    def turned(x):
        return x.permute((1, 0, 2, 3)) if hasattr(x, "permute") else x.transpose((1, 0, 2, 3))

    class Late:
        """Its layer `late` returns channels first, six of them, as many as there are samples."""

        def trunk(self, x):
            return self.layer3(self.layer1(turned(self.late(turned(self.stem(x))))))

    model, (x, y) = fw.net(Late), fw.batch()
    fw.add_layer(model, "late", fw.function(lambda x: x + 0.0))
    fw.face.wrap(model, ManifoldMixup(), layers="late")
    with pytest.raises(ValueError, match=r"layer 'late' cannot be mixed \(no batch axis"):
        model(x, target=y)


def test_a_loss_without_a_forward_of_the_wrapped_model_is_refused(fw):
    model, (x, y) = fw.net(), fw.batch()
    twin = fw.net()  # a copy made before wrapping, say
    criterion = fw.face.Mixer(model, layers=["layer1"]).loss(fw.criterion())
    with pytest.raises(MixingError, match=r"has not run.*the very object"):
        criterion(twin(x), y)
    criterion(model(x), y)


def test_a_target_that_the_model_itself_reads_from_its_keywords_is_told_of(fw):
    model, (x, y) = fw.face.wrap(fw.net(Reads), layers=["layer1"]), fw.batch()
    with pytest.raises(KeyError, match=r"takes it out of the call.*another name, or wrap the module inside"):
        model(x, target=y)
