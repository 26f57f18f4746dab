"""Lazy layers, which draw their parameters in the first forward."""

import pytest
import torch
from torch import nn

from mixlayers.torch import audit, cross_entropy, wrap

X, Y = torch.randn(6, 3, 8, 8), torch.arange(6) % 3


class AuxiliaryHead(nn.Module):
    """Its second head runs in training mode only."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(4, 8), nn.Linear(8, 3), nn.LazyLinear(3)

    def forward(self, x):
        h = self.body(x).relu()
        return self.head(h) + self.aux(h) if self.training else self.head(h)


def lazy():
    torch.manual_seed(0)
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize("how", ["auto", "named", "audit"])
def test_lazy_layers_draw_what_they_would_without_an_audit(how):
    """An audit's forwards have no chance, and would start every weight at the same number."""
    plain, model = lazy(), lazy()
    torch.manual_seed(1)
    plain(X)
    torch.manual_seed(1)
    if how == "audit":
        assert audit(model, X).points
        torch.manual_seed(1)
        plain = lazy()
        torch.manual_seed(1)
        plain.eval()(X)
    else:
        output, target = wrap(model, layers="auto" if how == "auto" else ["0", "1"])(X, target=Y)
        cross_entropy(output, target).backward()
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    assert model[0].weight.std() > 0.05
    assert all(module.training for module in model.modules())


def test_a_lazy_layer_that_runs_in_training_alone_is_told_of():
    with pytest.raises(
        ValueError, match=r"lazy layers that did not run in eval mode.*call it once in training"
    ):
        wrap(AuxiliaryHead())(torch.randn(6, 4), target=Y)
    model = wrap(AuxiliaryHead(), layers="body", trust=True)
    model(torch.randn(6, 4), target=Y)[1].soft(3)
    assert model.aux.weight.std() > 0.05
