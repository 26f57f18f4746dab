"""One step in three frameworks: same weights, same batch, same seed, so the same everything."""

import importlib
import re

import numpy as np
import pytest

from mixlayers import CutMix, HMix, ManifoldMixup, MixStyle, Mixup, MoEx, PatchUp, ResizeMix

OWN_NAMES = {  # what PyTorch calls by another name
    "paddle": {"_mean": "running_mean", "_variance": "running_var"},
    "chainer": {
        "W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "avg_mean": "running_mean",
        "avg_var": "running_var", "N": "num_batches_tracked",
    },
}  # fmt: skip
KINDS = {
    "Convolution2D": "Conv2d", "Conv2D": "Conv2d", "BatchNormalization": "BatchNorm2d", "BatchNorm2D": "BatchNorm2d",
}  # fmt: skip
METHODS = [
    Mixup(),
    CutMix(),
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", loss_scale=2.0),
    HMix(),
    ResizeMix((0.4, 0.8)),
    MoEx(over="space"),
    MixStyle(prob=1.0),
]
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}


def common(framework, values):
    """Named as PyTorch does, and shaped so."""
    renamed = {}
    for name, value in values.items():
        *parents, own = name.strip("/").replace("/", ".").split(".")
        name = ".".join([*parents, OWN_NAMES.get(framework, {}).get(own, own)])
        renamed[name] = value.T if (framework, name) == ("paddle", "head.weight") else value
    return renamed


def networks(frameworks, dtype, kind=lambda fw: None):
    """The small network in every framework, with the first one's weights."""
    weights = None
    for fw in frameworks:
        model = fw.net(kind(fw))
        if weights is None:
            weights = common(fw.name, fw.state(model))
        given = {}
        for name, value in fw.state(model).items():
            ((wanted, _),) = common(fw.name, {name: value}).items()
            given[name] = np.array(common(fw.name, {name: weights[wanted]})[wanted], order="C")
        fw.load(model, given)
        yield fw, fw.cast(model, dtype)


def watched(fw):
    class Watched:
        """Convolutions alone, as batch normalisation rounds differently; keeps what the third one is given."""

        def trunk(self, x):
            for layer in (self.layer1, self.layer2):
                x = layer.conv(x + abs(x))
            fw.seen = fw.numpy(x)
            return self.layer3.conv(x + abs(x))

        def forward(self, x):
            return super().forward(self.stem(x))

    return Watched


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_same_steps(frameworks, method, dtype):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 3, 8, 8)), rng.integers(4, size=6)
    runs = {}
    for fw, model in networks(frameworks, dtype, watched):
        places = ["input", "layer1.conv", "layer2.conv"] if method.hidden else "auto"
        fw.face.wrap(model, method, places, seed=4)
        steps = []
        for _ in range(4):
            output, target = model(fw.tensor(x, dtype), target=fw.tensor(y))
            loss = fw.face.cross_entropy(output, target, label_smoothing=0.1)
            loss.backward()
            s = target.s if isinstance(target.s, float) else fw.numpy(target.s)
            steps.append((target.plan.to_dict(), s, fw.seen, fw.numpy(loss)))
        runs[fw.name] = steps, common(fw.name, fw.gradients(model))
    expected, gradients = runs.pop("torch")
    tolerance = TOLERANCES[dtype]
    for steps, its in runs.values():
        for ours, theirs in zip(steps, expected, strict=True):
            assert ours[0] == theirs[0]
            for mine, other in zip(ours[1:], theirs[1:], strict=True):
                np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)
        for name in its.keys() | gradients.keys():
            scale = max(np.abs(gradients[name]).max(), 1.0)
            np.testing.assert_allclose(its[name], gradients[name], atol=10 * tolerance * scale, err_msg=name)


def test_the_same_verdicts(frameworks):
    reports = []
    for fw, model in networks(frameworks, "float32"):
        report = fw.face.audit(model, fw.batch()[0])
        assert report.chosen == ("input", "layer1", "layer2")
        reports.append(
            {point.name: (KINDS.get(point.kind, point.kind), point.shape, point.reason) for point in report}
        )
    torch, paddle, chainer = reports
    assert paddle == torch and len(torch) > 14
    assert chainer == {  # whose activations and dropout are functions
        name: point for name, point in torch.items() if not name.endswith(("relu", "dropout"))
    }


def test_the_same_names_for_mixing(frameworks):
    mixing = {
        "MixCollate", "Mixer", "RepeatedAugmentationSampler", "accuracy", "audit", "binary_cross_entropy",
        "calibration_error", "cross_entropy", "get_mixer", "mix", "mix_detection", "temperature", "unwrap",
        "wrap",
    }  # fmt: skip
    idioms = {
        "BPTTUpdater", "Classifier", "ManifoldMixupClassifier", "from_official_state_dict", "to_official_state_dict",
        "update_bn",
    }  # fmt: skip
    for fw in frameworks:
        assert mixing <= set(fw.face.__all__)
        assert all(re.search("iebn|rbn", other.lower()) for other in set(fw.face.__all__) - mixing - idioms)


def test_methods_come_with_each_face(frameworks):
    """One import is enough: `from mixlayers.torch import ManifoldMixup, wrap`."""
    import mixlayers

    for fw in frameworks:
        for name in ("CutMix", "ManifoldMixup", "Mixup", "OneOf", "PatchUp", "Scheduled", "MixingError"):
            assert getattr(fw.face, name) is getattr(mixlayers, name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrap", r"each framework has its own: from mixlayers.torch import wrap, or of mixlayers.paddle"),
        ("MixUp", r"has no 'MixUp'; it is Mixup: from mixlayers import Mixup"),
        ("manifold_mixup", "it is ManifoldMixup"),
        ("Cutmix", "it is CutMix"),
        ("nothing", "cannot import name 'nothing'"),
    ],
)
def test_names_that_are_sought_in_the_wrong_place(name, says):
    with pytest.raises(ImportError, match=says):
        exec(f"from mixlayers import {name}")
    assert not hasattr(importlib.import_module("mixlayers"), name)
