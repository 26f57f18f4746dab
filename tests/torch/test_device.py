"""Right on an accelerator without one: fake tensors of another device refuse a sync and a mix of devices.

Autograd of a CPU build of PyTorch knows no CUDA device, so the whole step, backward included, runs on the
fake "lazy" device, and the forward, with the kernel that is also the backward's, on fake "cuda:0".
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mixlayers import CutMix, ManifoldMixup, Mixup, OneOf, PatchUp
from mixlayers.torch import Mixer, accuracy, cross_entropy, get_mixer, mix, wrap
from tests.torch.networks import net

METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("hard"),
    PatchUp("soft", lam_per="sample"),
    Mixup(lam_per="pair"),
    CutMix(),
    CutMix(lam_per="sample"),
    OneOf({Mixup(): 1.0, CutMix(): 1.0}),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_whole_step_stays_on_its_device_and_never_waits(method):
    with FakeTensorMode(), torch.device("lazy"):
        model = wrap(net(), method)  # "auto": the audit of the first batch is included
        x, y = torch.empty(6, 3, 8, 8), torch.empty(6, dtype=torch.long)
        for _ in range(4):
            output, target = model(x, target=y)
            cross_entropy(output, target, label_smoothing=0.1).backward()
            assert target.plan.place is not None
            assert accuracy(output, target).device == target.soft(4).device == output.device == x.device
        criterion = get_mixer(model).loss(nn.CrossEntropyLoss(reduction="none"))
        criterion(model(x), y).mean().backward()
        assert all(p.grad.device == x.device for p in model.parameters())


# without CutMix's box: slicing a fake CUDA tensor needs a CUDA build; the lazy device has shown it
@pytest.mark.parametrize("method", [*METHODS[:5], CutMix(lam_per="sample")], ids=repr)
@pytest.mark.parametrize("labels_on", ["cuda:0", "cpu"])
def test_fake_cuda_features_are_mixed_on_cuda(method, labels_on):
    model = nn.Sequential(nn.ReLU(), nn.Hardtanh(), nn.AvgPool2d(8), nn.Flatten())
    layers = ["0", "1"] if method.hidden else "auto"
    mixer = Mixer(
        model, method, layers, example=torch.randn(6, 3, 8, 8)
    )  # audited here, where autograd works
    with FakeTensorMode():
        x = torch.empty(6, 3, 8, 8, device="cuda:0")
        y = torch.empty(6, dtype=torch.long, device=labels_on)
        for _ in range(4):
            with mixer(y) as target:
                output = model(x)
            assert output.device == x.device and target.partner.device == target.soft(3).device == y.device
        mixed, target = mix(x, y, Mixup(), step=0)
        assert mixed.device == x.device


def test_the_fakes_do_refuse():
    with FakeTensorMode():
        x = torch.empty(4, 3, device="lazy")
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        with pytest.raises(RuntimeError, match="same device"):
            x.index_select(0, torch.tensor([1, 0, 3, 2]))
