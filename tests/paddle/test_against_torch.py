"""The same step as PyTorch's: plan, mixed feature, loss and verdicts, on the same weights."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch
from paddle_networks import net

from mixlayers import ManifoldMixup, Mixup, PatchUp
from mixlayers import paddle as on_paddle
from mixlayers import torch as on_torch


def pair():
    """The small network of both frameworks, with equal weights."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "torch"))
    try:
        theirs = import_module("networks").net()
    finally:
        del sys.path[0]
    ours = net()
    state = theirs.state_dict()
    names = {"_mean": "running_mean", "_variance": "running_var"}
    for name, value in ours.state_dict().items():
        *parents, own = name.split(".")
        given = state[".".join([*parents, names.get(own, own)])].numpy()
        value.set_value(given.T if name == "head.weight" else given)
    return ours, theirs


def images():
    rng = np.random.default_rng(3)
    return rng.standard_normal((6, 3, 8, 8), dtype=np.float32), rng.integers(4, size=6)


@pytest.mark.parametrize(
    "method",
    [
        ManifoldMixup(),
        ManifoldMixup(lam_per="sample"),
        PatchUp("hard", block_size=3),
        PatchUp("soft"),
        Mixup(),
    ],
    ids=repr,
)
def test_the_same_step(method):
    ours, theirs = pair()
    x, y = images()
    seen = {}
    for model, face in ((ours, on_paddle), (theirs, on_torch)):
        face.wrap(model, method, layers="auto", seed=4)
    ours.layer3.register_forward_pre_hook(lambda layer, args: seen.update(ours=args[0].numpy()))
    theirs.layer3.register_forward_pre_hook(lambda layer, args: seen.update(theirs=args[0].detach().numpy()))
    for _ in range(4):
        output, target = ours(paddle.to_tensor(x), target=paddle.to_tensor(y))
        loss = on_paddle.cross_entropy(output, target, label_smoothing=0.1)
        loss.backward()
        other_output, other = theirs(torch.tensor(x), target=torch.tensor(y))
        other_loss = on_torch.cross_entropy(other_output, other, label_smoothing=0.1)
        other_loss.backward()
        assert target.plan.to_dict() == other.plan.to_dict()
        np.testing.assert_allclose(seen["ours"], seen["theirs"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(loss.item(), other_loss.item(), rtol=1e-6)
    np.testing.assert_allclose(
        ours.stem.weight.grad.numpy(), theirs.stem.weight.grad.numpy(), rtol=1e-3, atol=1e-5
    )


def test_the_same_verdicts():
    ours, theirs = pair()
    first = on_paddle.audit(ours, paddle.to_tensor(images()[0]))
    second = on_torch.audit(theirs, torch.tensor(images()[0]))
    rename = {"Conv2D": "Conv2d", "BatchNorm2D": "BatchNorm2d"}
    lines = [str(report) for report in (first, second)]
    for old, new in rename.items():
        lines[0] = lines[0].replace(old, new)
    assert lines[0] == lines[1] and first.chosen == second.chosen == ("input", "layer1", "layer2")


def test_the_same_names_for_mixing():
    mixing = {
        "MixCollate", "Mixer", "accuracy", "audit", "cross_entropy", "get_mixer", "mix", "unwrap", "wrap",
    }  # fmt: skip
    for face in (on_paddle, on_torch):
        assert mixing <= set(face.__all__)
        others = set(face.__all__) - mixing - {"to_official_state_dict"}
        assert all("iebn" in name.lower() for name in others)
