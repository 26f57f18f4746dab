"""Mixing inside torch.func's transforms."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mixlayers import ManifoldMixup, MixingError
from mixlayers.torch import get_mixer, wrap

X, Y = torch.randn(6, 4), torch.arange(6) % 3


def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return wrap(model, ManifoldMixup(pairs="derangement"), layers=["0"], example=X)


def parameters(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def test_a_functional_step_has_the_gradients_of_the_step_by_hand():
    model = made()

    def loss(own):
        output, target = torch.func.functional_call(model, own, (X,), {"target": Y})
        return cross_entropy(output, target)

    for _ in range(5):  # the audit proves the places again with the second and the fourth batch, elsewhere
        found, value = torch.func.grad_and_value(loss)(parameters(model))
    plan = get_mixer(model).last
    perm, h = torch.tensor(plan.perm), model[0](X)
    output = model[2]((plan.lam * h + (1 - plan.lam) * h[perm]).relu())
    expected = plan.lam * cross_entropy(output, Y) + (1 - plan.lam) * cross_entropy(output, Y[perm])
    torch.testing.assert_close(value, expected.detach())
    for name, p in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(found[name], p)


def test_a_plain_loss_in_a_transform_is_told_of_at_the_next_forward():
    model = made()

    def loss(own):
        output, _ = torch.func.functional_call(model, own, (X,), {"target": Y})
        return cross_entropy(output, Y)

    torch.func.grad(loss)(parameters(model))
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        model(X, target=Y)


@pytest.mark.parametrize("layers", ["auto", ["0"]])
def test_an_audit_inside_of_a_transform_asks_for_an_example(layers):
    model = wrap(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), layers=layers)

    def loss(own):
        output, target = torch.func.functional_call(model, own, (X,), {"target": Y})
        return cross_entropy(output, target)

    says = "inside of torch.func's transforms: give an example"
    told = (
        pytest.raises(ValueError, match=says) if layers == "auto" else pytest.warns(UserWarning, match=says)
    )
    with told:
        torch.func.grad(loss)(parameters(model))
