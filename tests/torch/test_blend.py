"""The kernel: dtypes, layouts, derivatives, and what it leaves alone."""

import pytest
import torch

from mixlayers import Mixup, PatchUp
from mixlayers.torch import mix
from mixlayers_torch import _blend
from mixlayers_torch._blend import blend
from mixlayers_torch._transfer import Partners
from tests.support.methods import METHODS

LAYOUTS = [((5, 4, 6, 7), torch.channels_last), ((3, 4, 3, 5, 4), torch.channels_last_3d)]


def how_for(method, shape, step=1):
    plan = method.plan(step=step, batch_size=shape[0], places=("hidden",))
    return plan.blend(shape), Partners(plan.perm)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(("shape", "layout"), LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtype_and_layout_are_kept(method, shape, layout, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    how, partners = how_for(method, shape)
    plain, last = blend(x, how, partners), blend(x.to(memory_format=layout), how, partners)
    assert plain.dtype == last.dtype == dtype
    assert plain.is_contiguous() and last.is_contiguous(memory_format=layout)
    torch.testing.assert_close(plain, last)
    exact = blend(x.double(), how, partners)
    torch.testing.assert_close(plain.double(), exact, rtol=2e-2, atol=2e-2) if dtype.itemsize < 4 else None
    torch.testing.assert_close(plain.double(), exact, rtol=1e-6, atol=1e-6) if dtype.itemsize >= 4 else None


@pytest.mark.parametrize(
    "view", [lambda x: x.transpose(1, 2), lambda x: x[:, ::2], lambda x: x.expand(5, 4, 6, 6)]
)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_any_strides(method, view):
    x = view(torch.randn(1 if view(torch.empty(1, 4, 6, 6)).shape[0] == 5 else 5, 4, 6, 6))
    how, partners = how_for(method, tuple(x.shape))
    torch.testing.assert_close(blend(x, how, partners), blend(x.contiguous(), how, partners))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_gradients_in_double_precision(method):
    x = torch.randn(4, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    how, partners = how_for(method, tuple(x.shape))
    assert torch.autograd.gradcheck(lambda x: blend(x, how, partners), x)
    assert torch.autograd.gradgradcheck(lambda x: blend(x, how, partners) ** 2, x)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_follows_may_work_in_place(method):
    x = torch.randn(4, 2, 6, 4, requires_grad=True)
    how, partners = how_for(method, tuple(x.shape))
    out_of_place = torch.autograd.grad(blend(x, how, partners).relu().sum(), x)[0]
    in_place = torch.autograd.grad(blend(x, how, partners).relu_().sum(), x)[0]
    torch.testing.assert_close(in_place, out_of_place)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_callers_batch_is_not_written_to(method):
    x, y = torch.randn(4, 2, 6, 4), torch.arange(4)
    before, versions = x.clone(), (x._version, y._version)
    mixed, _ = mix(x, y, method, step=1)
    mixed.add_(1.0)
    assert torch.equal(x, before) and (x._version, y._version) == versions


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
)  # torch's own, on import
def test_forward_mode_says_that_it_does_not_exist():
    how, partners = how_for(Mixup(), (4, 3))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="use reverse mode"):
        blend(torch.autograd.forward_ad.make_dual(torch.randn(4, 3), torch.randn(4, 3)), how, partners)


def test_the_step_keeps_nothing_of_the_feature_for_backward():
    kept = []
    x = torch.randn(8, 16, 12, 12, requires_grad=True)
    how, partners = how_for(PatchUp("soft"), tuple(x.shape))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        blend(x, how, partners)
    assert 0 < sum(kept) < x.nbytes / 20


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_features_take_the_fast_kernel_and_agree(monkeypatch, method, layout):
    shape = (4, 16, 66, 64)
    monkeypatch.setattr(_blend, "_MANY", 2**18)
    x = torch.randn(shape).to(memory_format=layout).requires_grad_()
    how, partners = how_for(method, shape)
    mixed, exact = blend(x, how, partners), blend(x.double(), how, partners)
    assert mixed.is_contiguous(memory_format=layout)
    torch.testing.assert_close(mixed.double(), exact, rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.autograd.grad(y.sin().sum(), x)[0] for y in (mixed, exact))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
