"""The drop-in beside timm's own Mixup: the same laws, the same pixels, the same labels; and timm's train loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import timm.data.mixup as timms
import timm.optim
import torch
from scipy.stats import ks_2samp
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from timm.utils import AverageMeter, ModelEmaV3, accuracy

from mixlayers import ManifoldMixup, PatchUp
from mixlayers.trainers import timm as ours
from mixlayers.trainers._timm_law import Drawn
from tests.trainers.digits_scene import digits

LAWS = [
    {"mixup_alpha": 0.8},
    {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "correct_lam": False},
    {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.6, "switch_prob": 0.3},
    {"mixup_alpha": 0.0, "cutmix_minmax": (0.2, 0.8)},
]


def shares(mixup: Any, batch: int, steps: int) -> np.ndarray[Any, Any]:
    """Share of each sample's own label, (steps, batch)."""
    y = torch.arange(batch)
    x = torch.zeros(batch, 1, 11, 14)
    return np.stack([mixup(x.clone(), y)[1].diagonal().numpy() for _ in range(steps)])


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("law", LAWS)
def test_shares_have_timms_law(law: dict[str, Any], mode: Any) -> None:
    settings = {**law, "mode": mode, "num_classes": 8, "label_smoothing": 0.0}
    np.random.seed(0)  # noqa: NPY002  # timm draws from it
    steps = 2000 if mode == "batch" else 400
    columns = {"batch": 1, "pair": 4, "elem": 8}[mode]
    theirs, mine = (
        shares(kind(**settings), 8, steps)[:, :columns].ravel() for kind in (timm.data.Mixup, ours.Mixup)
    )
    assert ks_2samp(theirs, mine).pvalue > 1e-3
    assert abs((theirs == 1).mean() - (mine == 1).mean()) < 0.05


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_same_draw_same_batch(
    mode: Any, cut: bool, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given timm's lam and box, pixels and soft targets are timm's."""
    settings = {
        "mixup_alpha": 0.0 if cut else 0.8, "cutmix_alpha": 1.0 if cut else 0.0, "mode": mode,
        "num_classes": 10, "label_smoothing": smoothing,
    }  # fmt: skip
    x, y = torch.randn(8, 3, 16, 12), torch.randint(10, (8,))
    drawn: list[tuple[Any, float]] = []
    bbox_and_lam = timms.cutmix_bbox_and_lam

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = bbox_and_lam(*args, **kwargs)
        drawn.append(result)
        return result

    monkeypatch.setattr(timms, "cutmix_bbox_and_lam", watched)
    np.random.seed(3)  # noqa: NPY002
    theirs = timm.data.Mixup(**settings)
    state = np.random.get_state()  # noqa: NPY002
    expected, soft = theirs(x.clone(), y)
    np.random.set_state(state)  # noqa: NPY002
    if mode == "batch":
        lam = np.array([theirs._params_per_batch()[0]], np.float32)
    else:
        lam = theirs._params_per_elem(4 if mode == "pair" else 8)[0]
    if cut:
        box = np.array([b for b, _ in drawn], np.int64).T
        how = Drawn(np.ones(len(lam), np.float32), box, np.array([lam for _, lam in drawn], np.float32))
    else:
        how = Drawn(lam, np.zeros((4, len(lam)), np.int64), lam)
    mine = ours.Mixup(**settings)
    if mode == "pair":
        how = mine.law._mirrored(how, 8)
    monkeypatch.setattr(type(mine.law), "draw", lambda *_: how)
    got, labels = mine(x, y)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(labels, soft)


def test_places_of_the_boxes_have_timms_law() -> None:
    np.random.seed(0)  # noqa: NPY002
    settings = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "num_classes": 2}
    x = torch.zeros(2, 1, 11, 14)
    x[1] = 1
    counts = []
    for mixup in (timm.data.Mixup(**settings), ours.Mixup(**settings)):
        counts.append(sum(mixup(x.clone(), torch.tensor([0, 1]))[0][0, 0] for _ in range(2000)).numpy())
    theirs, mine = counts
    assert np.abs(theirs - mine).max() < 5 * np.sqrt(theirs.max() * 2)
    assert abs(theirs.sum() / mine.sum() - 1) < 0.08


def train_one_epoch(
    epoch: int, model: Any, loader: Any, optimizer: Any, loss_fn: Any, mixup_fn: Any, ema: Any
) -> float:
    """timm's train.py, its loop with `--no-prefetcher`: what a batch goes through there, in its order."""
    if mixup_fn is not None and epoch >= 5:
        mixup_fn.mixup_enabled = False
    losses = AverageMeter()
    model.train()
    for x, y in loader:
        x, y = mixup_fn(x, y)
        output = model(x)
        loss = loss_fn(output, y)
        losses.update(loss.item(), x.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
    return losses.avg


@pytest.mark.parametrize(
    ("hidden", "loss"),
    [
        (None, SoftTargetCrossEntropy),
        (ManifoldMixup(2.0), SoftTargetCrossEntropy),
        (PatchUp("soft", block_size=3), BinaryCrossEntropy),
    ],
)
def test_timms_loop(hidden: Any, loss: Any) -> None:
    torch.manual_seed(0)
    x, y, test_x, test_y = digits()
    x, test_x = (images.view(-1, 1, 8, 8) for images in (x, test_x))
    model = timm.create_model("resnet10t", num_classes=10, in_chans=1)
    model.conv1, model.maxpool = torch.nn.Conv2d(1, 64, 3, padding=1, bias=False), torch.nn.Identity()
    options = {} if hidden is None else {"model": model, "hidden": hidden, "layers": ["layer1", "layer2"]}
    mixup_fn = ours.Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, num_classes=10, **options)
    ema = ModelEmaV3(model, decay=0.9)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=2e-3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 50, shuffle=True)
    losses = [train_one_epoch(e, model, loader, optimizer, loss(), mixup_fn, ema) for e in range(7)]
    assert np.isfinite(losses).all()
    for net, least in ((model, 88.0), (ema.module, 88.0)):
        with torch.no_grad():
            assert accuracy(net.eval()(test_x), test_y)[0] > least
    if hidden is not None:
        history = mixup_fn.mixer.history
        assert 10 < history.mixed < 32 and set(history.counts) == {"layer1", "layer2"}
