"""IEBN where threads about BatchNorm report trouble: conversion in the wrong order, tracing, pruning, odd batches."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from mixlayers.torch import convert_iebn, revert_iebn, update_bn
from mixlayers_torch._iebn.act import IEBNAct2d
from mixlayers_torch._iebn.layer import IEBN2d
from mixlayers_torch._iebn.rbn import RBN2d
from tests.torch.gloo import gloo

X = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())


class Frozen(nn.Module):
    """As torchvision's FrozenBatchNorm2d."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(3))


FrozenBatchNorm2d = type("FrozenBatchNorm2d", (Frozen,), {})


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm's, which is not in this environment; the opt-in lane has it."""

    __module__ = "timm.layers.norm_act"

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


def test_an_average_of_the_weights_from_before_the_conversion_is_named() -> None:
    model = net()
    average = AveragedModel(model)
    with pytest.warns(UserWarning, match=r"this AveragedModel holds a copy .* convert first"):
        convert_iebn(model)
    assert isinstance(average.module[1], nn.BatchNorm2d)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AveragedModel(convert_iebn(net()))


@pytest.fixture
def group(tmp_path: object) -> Iterator[None]:
    """A group of this process alone."""
    with gloo(f"{tmp_path}/meet", 0, 1):
        yield


def test_a_parallel_container_from_before_the_conversion_is_named(group: None) -> None:
    model = net()
    container = nn.parallel.DistributedDataParallel(model)
    with pytest.warns(UserWarning, match="DistributedDataParallel was made before .* will not synchronise"):
        convert_iebn(model)
    del container


def test_averaged_weights_get_statistics_of_their_own() -> None:
    """As `torch.optim.swa_utils.update_bn` gives them to BatchNorm, in the same pass."""
    batches = [(X * scale + scale, None) for scale in (1.0, 2.0, 3.0)]
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    torch.optim.swa_utils.update_bn(batches, model)
    expected = [buffer.clone() for buffer in model[0].buffers()]
    convert_iebn(model, skip="2")
    before = model[0].momentum, model.training
    model[0].running_mean.fill_(9.0)
    update_bn(batches, model.eval())
    for own, other in zip(model[0].buffers(), expected, strict=True):
        torch.testing.assert_close(own, other)
    assert int(model[2].num_batches_tracked) == 3
    assert (model[0].momentum, model.training) == (before[0], False)


class Siamese(nn.Module):
    """Uses its norm twice in a batch, and another one in some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rare = IEBN2d(3), RBN2d(3)

    def forward(self, x: torch.Tensor) -> None:
        self.norm(x)
        self.norm(x * 3 + 1)
        if x.mean() > 1.5:
            self.rare(x)


def test_update_bn_averages_over_all_uses() -> None:
    batches, model = [X * scale + scale for scale in (1.0, 2.0, 3.0)], Siamese()
    update_bn(batches, model)
    every = [used for x in batches for used in (x, x * 3 + 1)]
    for norm, uses in (model.norm, every), (model.rare, [x for x in batches if x.mean() > 1.5]):
        assert 0 < len(uses) != 3
        expected = torch.stack([x.mean((0, 2, 3)) for x in uses]).mean(0)
        torch.testing.assert_close(norm.running_mean, expected)
        expected = torch.stack([x.var((0, 2, 3)) for x in uses]).mean(0)
        torch.testing.assert_close(norm.running_var, expected)
        assert norm.momentum == 0.1


def test_storages_stay_resizable() -> None:
    """As FSDP2 needs; `tensor.numpy()` would end it."""
    norm, x = IEBN2d(3), X.clone().requires_grad_()
    norm(x).sum().backward()
    for tensor in (x, x.grad, *norm.parameters(), norm.running_mean, norm.running_var):
        assert tensor.untyped_storage().resizable()


def test_fx_takes_it_for_a_layer() -> None:
    model = convert_iebn(net()).eval()
    traced = torch.fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes].count("call_module") == 3
    assert torch.equal(traced(X), model(X))


@pytest.mark.parametrize("training", [False, True])
def test_make_fx_sees_every_operation(training: bool) -> None:
    model = convert_iebn(net()).train(training)
    other = X * 2 + 1
    with torch.no_grad():
        torch.testing.assert_close(make_fx(model)(X)(other), model(other))


def test_a_batch_without_samples_passes_as_through_batchnorm() -> None:
    for training in (True, False):
        norm, plain = IEBN2d(3).train(training), nn.BatchNorm2d(3).train(training)
        empty = X[:0].clone().requires_grad_()
        y = norm(empty)
        y.sum().backward()
        plain(X[:0])
        assert y.shape == empty.grad.shape == X[:0].shape
        for own, other in zip(norm.buffers(), plain.buffers(), strict=True):
            assert torch.equal(own.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("kind", [IEBN2d, RBN2d])
def test_a_batch_without_samples_leaves_the_statistics_of_a_compiled_norm(kind: type[nn.Module]) -> None:
    norm = kind(3)
    compiled = torch.compile(norm, backend="eager")
    for x in (X, X[:0], X[:2], X[:0]):
        before = [norm.running_mean.clone(), norm.running_var.clone()]
        assert compiled(x).shape == x.shape
        for own, other in zip((norm.running_mean, norm.running_var), before, strict=True):
            assert torch.equal(own, other) == (len(x) == 0) and own.isfinite().all()


def test_a_pruned_norm_stays_pruned() -> None:
    model = net()
    prune.l1_unstructured(model[1], "weight", amount=0.4)
    convert_iebn(model)(X).sum().backward()
    assert model[1].weight_orig.grad is not None and (model[1].weight == 0).any()
    revert_iebn(model)(X)
    assert type(model[1]) is nn.BatchNorm2d and "1.weight_mask" in model.state_dict()


def test_the_output_of_a_pruned_norm_is_not_preserved_but_refused() -> None:
    """Its weight is made anew before each call, from numbers that the conversion would not divide."""
    model = net()
    prune.l1_unstructured(model[1], "weight", amount=0.4)
    with pytest.raises(
        ValueError, match=r"one that is made before each call .*prune.remove.* in '1': skip it"
    ):
        convert_iebn(model, preserve_output=True)
    with pytest.raises(ValueError, match="nothing to revert"):
        revert_iebn(convert_iebn(model), preserve_output=True)
    prune.remove(model[1], "weight")
    expected = model(X)
    revert_iebn(model, preserve_output=True)
    assert type(model[1]) is nn.BatchNorm2d
    torch.testing.assert_close(model(X), expected)


def test_a_shared_weight_is_scaled_for_all_that_share_it_or_not_at_all() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).eval()
    model[1].weight = model[0].weight
    expected = model(X)
    with pytest.raises(
        ValueError, match="'0' and '1' share a weight, and preserve_output would scale it for one"
    ):
        convert_iebn(model, skip="1", preserve_output=True)
    torch.testing.assert_close(convert_iebn(model, preserve_output=True)(X), expected)
    for name, value in ("bias_readjust", 0.5), ("weight_readjust", 1.0):
        nn.init.constant_(getattr(model[1], name), value)
        with pytest.raises(ValueError, match="'0' and '1' share a weight"):
            revert_iebn(model, preserve_output=True)
        nn.init.constant_(getattr(model[1], name), model[1].starts[name])
    torch.testing.assert_close(revert_iebn(model, preserve_output=True)(X), expected)


def test_what_else_a_norm_holds_stays() -> None:
    model, seen = net(), []
    model[1].register_buffer("mine", torch.ones(2))
    model[1].register_buffer("passing", torch.ones(2), persistent=False)
    model[1].note = "the user's"
    model[1].register_forward_hook(lambda *_: seen.append(1))
    keys = list(model.state_dict())
    convert_iebn(model)(X)
    assert (model[1].note, seen) == ("the user's", [1])
    assert set(model.state_dict()) - set(keys) == {"1.weight_readjust", "1.bias_readjust"}
    revert_iebn(model)(X)
    assert (model[1].note, seen, list(model.state_dict())) == ("the user's", [1, 1], keys)


def test_infinite_gradients_raise_nothing() -> None:
    norm = IEBN2d(3)
    with np.errstate(all="raise"):
        norm(X).backward(torch.full_like(X, torch.inf))
    assert not norm.weight.grad.isfinite().any()


def test_a_checkpoint_of_half_precision_gives_the_attention_its_dtype() -> None:
    norm = IEBN2d(3, device="meta")
    norm.load_state_dict(nn.BatchNorm2d(3).bfloat16().state_dict(), assign=True)
    assert {t.dtype for t in norm.parameters()} == {torch.bfloat16}


def test_half_precision_averages_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean near 100 rounded to bfloat16 is off by up to .25, and the attention with it."""
    monkeypatch.setattr("mixlayers_torch._iebn.native.library", lambda: None)
    norm = IEBN2d(3)
    with torch.no_grad():
        norm.weight_readjust.fill_(1.0)
        norm.bias_readjust.fill_(-100.0)
    x = (X + 100.1).bfloat16()
    gate = torch.sigmoid(x.double().mean((2, 3), keepdim=True) - 100.0)
    right = (x.double() - x.double().mean((0, 2, 3), keepdim=True)) / x.double().std((0, 2, 3), keepdim=True)
    assert (norm(x).double() - right * gate).abs().max() < 0.03


def test_timms_norm_with_an_activation_converts_and_comes_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), BatchNormAct2d(3))
    plain = model(X)
    convert_iebn(model, preserve_output=True)
    assert type(model[1]) is IEBNAct2d
    torch.testing.assert_close(model(X), plain)
    assert type(revert_iebn(model, preserve_output=True)[1]) is BatchNormAct2d
    torch.testing.assert_close(model(X), plain)


def test_norms_of_other_classes_are_named_or_converted_as_told() -> None:
    special = type("Special", (nn.BatchNorm2d,), {})
    model = nn.Sequential(net(), FrozenBatchNorm2d(), special(3))
    with pytest.warns(UserWarning, match=r"left as they are: '1', '2'"):
        convert_iebn(model)
    convert_iebn(model, also={special: IEBN2d.from_batchnorm}, skip="1")
    assert [type(module) for module in model[1:]] == [FrozenBatchNorm2d, IEBN2d]
    model = nn.Sequential(special(3)).eval()
    expected = model(X)
    convert_iebn(model, also={special: IEBN2d.from_batchnorm}, preserve_output=True)
    torch.testing.assert_close(model(X), expected)


@pytest.mark.parametrize("kind", [IEBN2d, RBN2d])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False, "track_running_stats": False}], ids=["whole", "bare"]
)
@pytest.mark.parametrize("channels", [1, 3], ids=["one", "three"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_channels_that_are_not_the_norms_are_refused(
    kind: type[nn.Module], options: dict[str, bool], channels: int, training: bool
) -> None:
    """The passes would read past the ends of its vectors, and write there; one channel would be broadcast."""
    for width in (2, 16):
        with pytest.raises(
            ValueError, match=rf"the norm has {channels} channels, got {width} in an input \(2, "
        ):
            kind(channels, **options).train(training)(torch.ones(2, width, 4, 4))
