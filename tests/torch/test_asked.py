"""PyTorch's own losses of a mixed target, and what else is done with one."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter

from mixlayers import CutMix, MixedTarget, Mixup, PatchUp
from mixlayers.torch import cross_entropy, mix, wrap

torch.manual_seed(0)
X, Y = torch.randn(6, 4), torch.arange(6) % 3
LOGITS = torch.randn(6, 3)
WEIGHT = torch.tensor([0.5, 1.0, 2.0])
HEAVY = torch.rand(6, 3) + 0.1
ROWS = (torch.randn(6, 3) > 0).float()
SHARES = torch.softmax(torch.randn(6, 3), 1)

CALLS = {
    "cross_entropy": (F.cross_entropy, Y, {}),
    "weight, smoothing": (F.cross_entropy, Y, {"weight": WEIGHT, "label_smoothing": 0.1}),
    "sum": (F.cross_entropy, Y, {"reduction": "sum"}),
    "ignored": (F.cross_entropy, Y, {"ignore_index": 1}),
    "probabilities": (F.cross_entropy, SHARES, {}),
    "module": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2), Y, {}),
    "nll_loss": (lambda x, y, **given: F.nll_loss(F.log_softmax(x, 1), y, **given), Y, {"weight": WEIGHT}),
    "NLLLoss": (lambda x, y: nn.NLLLoss()(F.log_softmax(x, 1), y), Y, {}),
    "binary": (F.binary_cross_entropy_with_logits, ROWS, {"pos_weight": WEIGHT}),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), ROWS, {}),
    "BCELoss": (lambda x, y: nn.BCELoss(weight=WEIGHT)(torch.sigmoid(x), y), ROWS, {}),
    "kl_div": (lambda x, y: F.kl_div(F.log_softmax(x, 1), y, reduction="batchmean"), SHARES, {}),
    "mse_loss": (F.mse_loss, torch.randn(6, 3), {}),
    "old arguments": (F.mse_loss, torch.randn(6, 3), {"size_average": False}),
    "l1": (nn.L1Loss(), torch.randn(6, 3), {}),
    "weighted mse": (F.mse_loss, torch.randn(6, 3), {"weight": HEAVY}),
    "weighted mse, sum": (F.mse_loss, torch.randn(6, 3), {"weight": HEAVY, "reduction": "sum"}),
    "weighted l1": (F.l1_loss, torch.randn(6, 3), {"weight": HEAVY}),
    "weighted l1, none": (
        lambda x, y: F.l1_loss(x, y, weight=HEAVY, reduction="none").sum(),
        torch.randn(6, 3),
        {},
    ),
    "weighted l1, in its place": (
        lambda x, y: F.l1_loss(x, y, None, None, "sum", HEAVY),
        torch.randn(6, 3),
        {},
    ),
    "weighted huber": (F.huber_loss, torch.randn(6, 3), {"weight": HEAVY}),
    "huber": (nn.HuberLoss(delta=0.5), torch.randn(6, 3), {}),
    "smooth_l1": (nn.SmoothL1Loss(beta=0.5), torch.randn(6, 3), {}),
}


@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_usual_losses_are_blended(name, compiled):
    """Values and gradients, as by hand; a target that is made outside goes into a graph as it is."""
    loss, y, given = CALLS[name]
    _, target = mix(X, y, Mixup(pairs="derangement"), step=1)

    def step(logits, target):
        return loss(logits * 2, target, **given)

    logits, by_hand = (LOGITS.clone().requires_grad_() for _ in range(2))
    torch.compiler.reset()
    run = torch.compile(step, backend="aot_eager", fullgraph=True) if compiled else step
    found = run(logits, target)
    expected = (1 - target.s) * step(by_hand, y) + target.s * step(by_hand, y[torch.tensor(target.plan.perm)])
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(logits.grad, by_hand.grad)
    assert target.used


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss])
def test_a_weight_has_the_size_of_the_output(loss):
    """As PyTorch asks of plain labels."""
    _, target = mix(X, torch.randn(6, 3), Mixup(), step=1)
    for labels in (torch.randn(6, 3), target):
        with pytest.raises(ValueError, match="same size"):
            loss(LOGITS, labels, weight=torch.ones(3))


@pytest.mark.parametrize("method", [Mixup(), Mixup(lam_per="sample"), CutMix()], ids=repr)
@pytest.mark.parametrize("loss", [F.cross_entropy, cross_entropy, F.mse_loss])
def test_a_compiled_loss_is_compiled_once(method, loss):
    """Not for each step's share."""
    graphs = CompileCounter()
    torch.compiler.reset()
    run = torch.compile(lambda output, target: loss(output * 2, target), backend=graphs, fullgraph=True)
    for step in range(6):
        y = torch.randn(6, 3) if loss is F.mse_loss else Y
        _, target = mix(torch.randn(6, 2, 5, 5), y, method, step=step)
        found = run(LOGITS, target)
        torch.testing.assert_close(found, loss(LOGITS * 2, target))
        assert found.dtype is torch.float32
    assert graphs.frame_count <= 2


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", ["cross_entropy", "binary", "mse_loss"])
def test_shares_of_each_sample(name, reduction):
    loss, y, _ = CALLS[name]
    _, target = mix(X, y, Mixup(lam_per="sample"), step=1)
    one, other = (loss(LOGITS, side, reduction="none") for side in (y, y[torch.tensor(target.plan.perm)]))
    s = torch.tensor(target.plan.blend((6, 4)).s).reshape(-1, *[1] * (one.ndim - 1))
    each = (1 - s) * one + s * other
    expected = {"none": each, "mean": each.mean(), "sum": each.sum()}[reduction]
    torch.testing.assert_close(loss(LOGITS, target, reduction=reduction), expected)


@pytest.mark.parametrize("shape", [(4, 2, 6, 6), (4, 6, 6)])
def test_labels_that_are_images_follow_a_mask(shape):
    images, y, output = torch.randn(4, 2, 6, 6), torch.randn(shape), torch.randn(shape)
    _, target = mix(images, y, CutMix(lam_per="sample", pairs="derangement"), step=3)
    inside = torch.tensor(target.plan.blend((4, 2, 6, 6)).mask)
    pasted = torch.where(inside if len(shape) == 4 else inside[:, 0], y[torch.tensor(target.plan.perm)], y)
    torch.testing.assert_close(F.mse_loss(output, target), F.mse_loss(output, pasted))
    maps, logits = torch.randint(3, (4, 6, 6)), torch.randn(4, 3, 6, 6)
    _, target = mix(images, maps, CutMix(pairs="derangement"), step=3)
    pasted = torch.where(
        torch.tensor(target.plan.blend((4, 2, 6, 6)).mask)[:, 0], maps[torch.tensor(target.plan.perm)], maps
    )
    torch.testing.assert_close(F.cross_entropy(logits, target), F.cross_entropy(logits, pasted))


def test_a_training_step_changes_in_one_place():
    """The published loss's factor too; autocast, a clean step and the scope's target."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).train()
    wrap(model, PatchUp("soft", block_size=1, loss_scale=2.0), layers="0")
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    output, target = model(X, target=Y)
    torch.testing.assert_close(criterion(output, target), cross_entropy(output, target, 0.1))
    criterion(output, target).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, target = model(X, target=Y)
        loss = criterion(output, target)
    assert loss.dtype is torch.float32
    loss.backward()
    model.eval()
    output, target = model(X, target=Y)
    torch.testing.assert_close(criterion(output, target), criterion(output, Y))


@pytest.mark.parametrize(
    ("use", "error", "says"),
    [
        (
            lambda t: t.shape,
            AttributeError,
            "a MixedTarget has no 'shape': it is two targets and a share.*blend",
        ),
        (lambda t: t.to("cpu"), AttributeError, "has no 'to': .*target.y is the original target"),
        (lambda t: torch.eq(Y, t), TypeError, r"eq takes tensors, got a MixedTarget: .*accuracy"),
        (lambda t: t == Y, TypeError, "cannot be compared with Tensor: .*accuracy"),
        (lambda t: Y.numpy() == t, TypeError, "cannot be compared with ndarray"),
        (lambda t: torch.argmax(t), TypeError, "argmax takes tensors, got a MixedTarget"),
        (lambda t: F.one_hot(t), TypeError, "one_hot takes tensors"),
        (lambda t: F.cross_entropy(t, Y), TypeError, "takes the mixed target second"),
        (lambda t: F.triplet_margin_loss(LOGITS, LOGITS, t), TypeError, "triplet_margin_loss takes tensors"),
    ],
)
def test_anything_else_says_the_way_out(use, error, says):
    _, target = mix(X, Y, Mixup(), step=1)
    with pytest.raises(error, match=says):
        use(target)


def test_a_target_is_still_an_object():
    _, target = mix(X, Y, Mixup(), step=1)
    assert target == target and target != mix(X, Y, Mixup(), step=1)[1] and len({target}) == 1
    for again in (
        copy.deepcopy(target),
        copy.copy(target),
        pickle.loads(pickle.dumps(MixedTarget(np.arange(3)))),
    ):
        assert isinstance(again, MixedTarget)
    assert not hasattr(target, "shape") and not hasattr(target, "_nothing")
