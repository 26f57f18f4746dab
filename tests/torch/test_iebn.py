"""IEBN's values and gradients: against the NumPy reference, and BatchNorm's statistics."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixlayers_native._library import library
from mixlayers_torch._iebn.layer import IEBN1d, IEBN2d, IEBN3d
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics
from tests.support.rounding import UNIT, limits

SMALL = [(6, 5), (6, 5, 7), (4, 3, 5, 6), (3, 4, 2, 3, 5)]
LARGE = [(32, 32, 160), (32, 24, 16, 16), (3, 8, 80, 70), (320, 32, 4, 4), (14, 12, 5, 12, 14)]  # own kernels
LAYERS = {2: IEBN1d, 3: IEBN1d, 4: IEBN2d, 5: IEBN3d}
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")


@pytest.fixture(params=[True, False], ids=["compiled passes", "PyTorch's operations"], autouse=True)
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each test with the library and without."""
    if request.param:
        assert library() is not None, "the passes are not built: make setup, on a machine with a compiler"
    else:
        monkeypatch.setattr("mixlayers_torch._iebn.native.library", lambda: None)
    return bool(request.param)


def layer(shape: tuple[int, ...], seed: int = 0, **options: object) -> nn.Module:
    """An IEBN with random parameters and statistics."""
    generator = torch.Generator().manual_seed(seed)
    new = LAYERS[len(shape)](shape[1], **options)
    with torch.no_grad():
        for tensor in new.parameters():
            tensor.copy_(torch.randn(shape[1], generator=generator))
        if new.running_mean is not None:
            new.running_mean.copy_(torch.randn(shape[1], generator=generator))
            new.running_var.copy_(0.5 + torch.rand(shape[1], generator=generator))
    return new


def random(shape: tuple[int, ...], last: bool = False, seed: int = 1) -> Tensor:
    """float64, with the channels last in memory if so wanted."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.5 + 0.7
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def run(norm: nn.Module, x: Tensor, gradient: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Output, and the gradients of x and the parameters in the reference's order."""
    x = x.detach().clone().requires_grad_()
    y = norm(x)
    norm.zero_grad()
    y.backward(gradient.to(y.dtype))
    assert y.dtype == x.dtype
    assert x.ndim < 4 or y.stride() == x.stride()  # for (N, C, L) torch's own batch norm may change it
    return array(y), [array(x.grad), *(array(getattr(norm, name).grad) for name in NAMES)]


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().clone().numpy()


def reference(
    norm: nn.Module, x: Tensor, gradient: Tensor, training: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same from the NumPy reference, in float64."""
    vectors = [array(getattr(norm, name)) for name in NAMES]
    kept = {} if training else {"mean": array(norm.running_mean), "var": array(norm.running_var)}
    found = iebn_backward(array(gradient), array(x), *vectors, eps=norm.eps, **kept)
    gradients = [found.x, *(getattr(found, name) for name in NAMES)]
    return iebn(array(x), *vectors, eps=norm.eps, **kept), gradients


def close(one: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Alike, measured by the largest value there is."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= tolerance * max(1e-3, np.abs(other).max())


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SMALL + LARGE, ids=str)
@pytest.mark.parametrize(("dtype", "value", "slope"), [("float64", 1e-12, 1e-10), ("float32", None, None)])
def test_equals_the_reference(
    dtype: str,
    value: float | None,
    slope: float | None,
    shape: tuple[int, ...],
    training: bool,
    last: bool,
    compiled: bool,
) -> None:
    x, gradient = (random(shape, last, seed).to(getattr(torch, dtype)) for seed in (1, 2))
    norm = layer(shape).to(x.dtype).train(training)
    before = array(norm.running_mean), array(norm.running_var)
    expected, slopes = reference(norm, x, gradient, training)
    y, gradients = run(norm, x, gradient)
    vectors = [array(getattr(norm, name)) for name in NAMES]
    kept = {} if training else dict(zip(("mean", "var"), before, strict=True))
    atmost = limits(array(gradient), array(x), *vectors, eps=norm.eps, **kept)
    for place, (one, other, limit) in enumerate(
        zip([y, *gradients], [expected, *slopes], atmost, strict=True)
    ):
        if dtype == "float32" and not compiled:  # PyTorch adds some sums one by one
            close(one, other, 1e-4 if place else 1e-5)
        elif value is None:
            assert (np.abs(one - other) <= limit).all(), place
        else:
            close(one, other, slope if place else value)
    after = running_statistics(array(x), *before) if training else before
    close(array(norm.running_mean), after[0], value or 1e-5)
    close(array(norm.running_var), after[1], value or 1e-5)
    assert int(norm.num_batches_tracked) == int(training)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("shape", [(32, 24, 16, 16), (320, 32, 4, 4)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0, 1000.0])
@pytest.mark.parametrize("compiled", [True], indirect=True)
def test_float32_keeps_its_digits_far_from_zero(mean: float, shape: tuple[int, ...], last: bool) -> None:
    x = (random(shape, last) * 0.1 + mean).float()
    if mean == 0:  # beside ordinary channels, one of zeros and one constant
        x[:, 0], x[:, 1] = 0.0, 7.0
    norm, gradient = layer(shape), random(shape, last, 2).float()
    with torch.no_grad():
        norm.weight_readjust.mul_(1e-3)
    expected, slopes = reference(norm, x, gradient, True)
    y, gradients = run(norm, x, gradient)
    close(y, expected, 1e-5)
    for one, other in zip(gradients, slopes, strict=True):
        close(one, other, 1e-5)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("shape", [*SMALL, (32, 24, 16, 16), (128, 32, 40)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("momentum", [0.1, 0.37, None])
def test_running_statistics_are_those_of_batchnorm(
    momentum: float | None, shape: tuple[int, ...], last: bool, compiled: bool
) -> None:
    norm = LAYERS[len(shape)](shape[1], momentum=momentum)
    plain = norm.host(shape[1], momentum=momentum)
    for seed in range(4):
        x = random(shape, last, seed).float()
        norm(x)
        plain(x)
    for own, other in zip(norm.buffers(), plain.buffers(), strict=True):
        if compiled:
            torch.testing.assert_close(own, other, rtol=x[:, 0].numel() ** 0.5 * UNIT, atol=2e-7)
        else:
            assert torch.equal(own, other)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}], ids=str)
def test_gradcheck(options: dict[str, bool], training: bool, last: bool, compiled: bool) -> None:
    shape = (3, 2, 3, 4)
    norm = layer(shape, **options).double().train(training)
    x = random(shape, last).requires_grad_()
    parameters = tuple(norm.parameters())
    names = [name for name, _ in norm.named_parameters()]

    def f(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(names, values, strict=True)), (x,))

    assert ("_ByPasses" in f(x, *parameters).grad_fn.name()) == compiled
    assert torch.autograd.gradcheck(f, (x, *parameters))
    assert torch.autograd.gradgradcheck(f, (x, *parameters))


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:DeprecationWarning"
)  # torch's own, in its derivative
def test_forward_mode_and_torch_func_use_pytorchs_own_operations() -> None:
    norm, x = layer((32, 24, 16, 16)), random((32, 24, 16, 16)).float()
    norm.eval()
    _, tangent = torch.func.jvp(norm, (x,), (torch.ones_like(x),))
    step = (norm(x + 1e-2) - norm(x - 1e-2)) / 2e-2
    torch.testing.assert_close(tangent, step, rtol=1e-2, atol=1e-2)
    sensitivity = torch.func.grad(lambda x: norm(x).square().sum())(x)
    x.requires_grad_()
    norm(x).square().sum().backward()
    torch.testing.assert_close(sensitivity, x.grad, rtol=1e-4, atol=1e-4)


def test_attention_at_the_start_scales_batchnorm() -> None:
    x = random((32, 24, 16, 16)).float()
    expected = torch.sigmoid(torch.tensor(-1.0)) * nn.BatchNorm2d(24)(x)
    torch.testing.assert_close(IEBN2d(24)(x), expected)


def test_without_statistics_the_batch_normalises_in_eval_too() -> None:
    x = random((32, 24, 16, 16)).float()
    norm = IEBN2d(24, track_running_stats=False)
    assert norm.running_mean is None
    assert torch.equal(norm(x), norm.eval()(x))


@pytest.mark.parametrize("compiled", [True], indirect=True)
def test_what_backward_keeps() -> None:
    def kept(norm: nn.Module) -> int:
        found: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            found.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = norm(torch.randn(64, 512, 4, 4, requires_grad=True))
        own = getattr(y.grad_fn, "found", None)  # no tensor
        return sum(found) + (0 if own is None else own.found.kept.nbytes)

    assert kept(IEBN2d(512)) <= 1.07 * kept(nn.BatchNorm2d(512))


def test_first_layer_of_a_model_needs_no_gradient_of_x() -> None:
    norm, x = layer((32, 24, 16, 16)), random((32, 24, 16, 16)).float()
    F.relu(norm(x), inplace=True).sum().backward()
    assert all(parameter.grad is not None for parameter in norm.parameters())


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (32, 24, 16, 16)], ids=str)
def test_statistics_that_change_before_the_backward_pass_do_not_change_it(
    shape: tuple[int, ...], compiled: bool
) -> None:
    norm, x, gradient = layer(shape).eval(), random(shape).float(), random(shape, seed=2).float()
    expected = run(norm, x, gradient)[1]
    own = x.clone().requires_grad_()
    y = norm(own)
    with torch.no_grad():
        norm.running_mean.add_(1.0)
    if not compiled:  # PyTorch's own operations notice it
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward(gradient)
    else:
        y.backward(gradient)
        close(array(own.grad), expected[0], 1e-6)


def test_tied_parameters_and_parameters_before_the_norm() -> None:
    """A second derivative asks what each use of a parameter does, and not what the others do to x."""
    norm, x = layer((3, 2, 2, 3)).double(), random((3, 2, 2, 3)).requires_grad_()
    parameters = tuple(norm.parameters())

    def twice(x: Tensor, *values: Tensor) -> Tensor:
        names = dict(zip((name for name, _ in norm.named_parameters()), values, strict=True))
        y = torch.func.functional_call(norm, names, (x * values[0].sum(),))
        return torch.func.functional_call(norm, names, (torch.tanh(y),))

    assert torch.autograd.gradcheck(twice, (x, *parameters))
    once, again = (
        torch.autograd.grad(twice(x, *parameters).pow(3).sum(), parameters, create_graph=graph)
        for graph in (False, True)
    )
    for one, other in zip(again, once, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradgradcheck(twice, (x, *parameters))
