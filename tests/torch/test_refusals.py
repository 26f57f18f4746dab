"""What wrap refuses of PyTorch's own; the rest is in tests/shared/test_refusals.py."""

import warnings

import pytest
import torch
from torch import nn

from mixlayers import ManifoldMixup, Mixup
from mixlayers.torch import mix, unwrap, wrap
from tests.torch.networks import batch, net


def test_containers_are_refused():
    model = net()
    with pytest.raises(TypeError, match="wrap the model inside DataParallel"):
        wrap(nn.DataParallel(model))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_scripting_says_what_to_do_instead():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own: jit.script is deprecated
        with pytest.raises(
            AttributeError, match=r"compiled by torch.jit.script.*unwrap\(model\).*torch.compile"
        ):
            torch.jit.script(wrap(net(), layers=["layer1"]))


def test_unwrapping_finds_hooks_that_another_module_took_over():
    """As quantization-aware training does: it puts its own layers in place of a model's, with their hooks."""

    class Own(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            for hook in list(inner._forward_hooks.values()):
                self.register_forward_hook(hook)
            inner._forward_hooks.clear()

        def forward(self, x):
            return self.inner(x)

    model, (x, y) = wrap(net(), ManifoldMixup(), layers=["layer1"]), batch()
    model.layer1 = Own(model.layer1)
    output, target = model(x, target=y)
    assert target.mixed
    nn.functional.cross_entropy(output, target).backward()
    unwrap(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=str)
def test_nested_tensors_are_refused(layout):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own: nested tensors are a prototype
        x = torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(5, 4)], layout=layout)
    labels = torch.tensor([0, 1])
    for use in (
        lambda: mix(x, labels, Mixup()),
        lambda: wrap(nn.Linear(4, 2), Mixup())(x, target=labels),
        lambda: wrap(nn.Sequential(nn.Linear(4, 2)), layers=["0"])(x, target=labels),
    ):
        with pytest.raises(
            ValueError, match=r"nested tensor's samples have lengths.*to_padded_tensor.*mask="
        ):
            use()


def test_a_label_for_each_graph_says_where_to_mix():
    with pytest.raises(ValueError, match=r"20 samples.*shape \(4,\).*as a graph its nodes, pool them first"):
        mix(torch.randn(20, 3), torch.tensor([0, 1, 0, 1]), Mixup())
