"""Arrays of a device that refuses the host's: nothing is sent to and fro, and nothing forgotten."""

import numpy as np
import pytest

from mixlayers import CutMix, ManifoldMixup, Mixup, PatchUp
from mixlayers.chainer import Classifier, MixCollate, accuracy, audit, cross_entropy, get_mixer, mix, wrap
from tests.support.fw_chainer_device import ChainerDevice, DeviceArray, StandIn


@pytest.fixture
def fw():
    with ChainerDevice() as device:
        yield device


METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample", pairs="different_class"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", block_size=3, lam_per="sample"),
    Mixup(),
    CutMix(),
    CutMix(lam_per="sample"),
]


def test_the_stand_in_refuses_the_host(fw):
    x = StandIn().send(np.ones((3, 2)))
    assert isinstance(x.sum(), DeviceArray) and isinstance(x * 2 + 1, DeviceArray)
    for meet in (
        lambda: x + np.ones((3, 2)), lambda: np.ones((3, 2)) * x, lambda: x[np.array([0, 1])],
        lambda: np.where(np.ones((3, 2), bool), x, x), lambda: x.__setitem__(0, np.ones(2)),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="of the host"):
            meet()


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_steps_are_those_of_the_host(fw, method):
    found = []
    for device in (True, False):
        model = fw.net(seed=1)
        x, y = fw.batch()
        if not device:
            model, x, y = model.to_device("@numpy"), fw.numpy(x).astype(np.float32), fw.numpy(y).astype(int)
        wrap(model, method, seed=3)
        for _ in range(4):
            output, target = model(x, target=y)
            cross_entropy(output, target, label_smoothing=0.1).backward()
            score = accuracy(output, target)
            assert isinstance(output.array, DeviceArray) == isinstance(score.array, DeviceArray) == device
        found.append([fw.numpy(output), fw.numpy(score), *(fw.numpy(p.grad) for p in model.params())])
        assert get_mixer(model).step == 4
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_inputs_and_soft_targets_stay_where_they_are(fw, method):
    x, y = fw.batch()
    mixed, target = mix(x, y, method, step=1)
    assert isinstance(mixed.array, DeviceArray) and isinstance(target.partner, DeviceArray)
    assert isinstance(target.soft(4), DeviceArray)
    plain, _ = mix(fw.numpy(x).astype(np.float32), fw.numpy(y).astype(int), method, step=1)
    np.testing.assert_array_equal(fw.numpy(mixed), plain)


def test_a_classifier_and_the_audit_and_a_converter(fw):
    x, y = fw.batch()
    model = Classifier(fw.net(), ManifoldMixup(lam_per="sample"), seed=2)
    model(x, y).backward()
    assert isinstance(model.loss.array, DeviceArray) and model.mixer.step == 1
    assert audit(fw.net(), x).chosen == ("input", "layer1", "layer2")
    batch = [(image, label) for image, label in zip(np.ones((4, 3, 8, 8), np.float32), range(4), strict=True)]
    assert all(isinstance(part, DeviceArray) for part in MixCollate(Mixup(), 4)(batch, StandIn()))


def test_forgotten_layers_mix_on_the_device(fw):
    x, y = fw.batch()
    models = []
    for kind in (None, *fw.Recomputed):
        model = wrap(fw.net(kind), PatchUp("soft"), ["layer1", "layer2"])
        for _ in range(2):
            cross_entropy(*model(x, target=y)).backward()
        models.append(model)
    for model in models[1:]:
        fw.same_gradients(model, models[0])
