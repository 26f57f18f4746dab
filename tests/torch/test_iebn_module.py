"""IEBN as a module: arguments, errors, dtypes, checkpoints, copies, compilation, export of its state."""

import copy
import io
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from mixlayers_torch._iebn.layer import IEBN1d, IEBN2d, IEBN3d, to_official_state_dict
from mixlayers_torch._iebn.sync import SyncIEBN

SHAPE = (32, 24, 16, 16)


def images(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def random(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    return norm


def network(norm: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(inplace=True), nn.Sequential(norm(8)))


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("kind", [IEBN1d, IEBN2d, IEBN3d, SyncIEBN])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}], ids=str
)
def test_has_the_arguments_and_tensors_of_batchnorm(kind: type[nn.Module], options: dict[str, bool]) -> None:
    norm, plain = kind(5, 1e-3, 0.2, **options), kind.host(5, 1e-3, 0.2, **options)
    own = norm.state_dict()
    for name in ("weight_readjust", "bias_readjust"):
        assert own.pop(name).shape == (5,)
    assert [*own] == [*plain.state_dict()]
    for name, tensor in plain.state_dict().items():
        assert torch.equal(own[name], tensor)
        assert own[name].dtype == tensor.dtype
    assert repr(norm) == repr(plain).replace(type(plain).__name__, kind.__name__)


@pytest.mark.parametrize("kind", [IEBN1d, IEBN2d, IEBN3d])
@pytest.mark.parametrize(
    "shape", [(4,), (4, 3), (4, 3, 2), (4, 3, 2, 2), (4, 3, 2, 2, 2), (1, 3), (1, 3, 1, 1)], ids=str
)
def test_takes_and_refuses_what_batchnorm_does(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    def outcome(norm: nn.Module) -> str:
        try:
            return str(norm(torch.zeros(shape)).shape)
        except ValueError as error:
            return str(error)

    assert outcome(kind(3)).startswith(outcome(kind.host(3)))


def test_reset_parameters() -> None:
    norm = random(IEBN2d(24))
    norm(images())
    norm.reset_parameters()
    for (name, tensor), fresh in zip(
        norm.state_dict().items(), IEBN2d(24).state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, fresh), name


def test_device_and_dtype() -> None:
    norm = IEBN2d(4, device="meta", dtype=torch.float64)
    assert {t.device.type for t in norm.state_dict().values()} == {"meta"}
    assert norm.bias_readjust.dtype == torch.float64


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("shape", [(4, 6, 5, 5), SHAPE, (320, 32, 4, 4)], ids=str)
@pytest.mark.parametrize("parameters", ["same", "float32"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype, parameters: str, shape: tuple[int, ...], last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    norm, exact = random(IEBN2d(shape[1])), random(IEBN2d(shape[1]))
    plain = nn.BatchNorm2d(shape[1])
    norm, plain = (norm.to(dtype), plain.to(dtype)) if parameters == "same" else (norm, plain)
    x, g = (images(shape, seed).to(dtype).contiguous(memory_format=layout) for seed in (0, 1))
    low, high = x.clone().requires_grad_(), x.float().requires_grad_()
    y, expected = norm(low), exact(high)
    y.backward(g)
    expected.backward(g.float())
    plain(x)
    assert (y.dtype, low.grad.dtype, norm.weight.grad.dtype) == (dtype, dtype, norm.weight.dtype)
    assert y.is_contiguous(memory_format=layout)
    tolerance = 0.03 if dtype is torch.bfloat16 else 0.01
    pairs = [(y, expected), (low.grad, high.grad)]
    pairs += [(a.grad, b.grad) for a, b in zip(norm.parameters(), exact.parameters(), strict=True)]
    for own, other in ((a.detach(), b.detach()) for a, b in pairs):
        assert (own.float() - other).abs().max() <= tolerance * max(1.0, float(other.abs().max()))
    torch.testing.assert_close(norm.running_mean, plain.running_mean, rtol=1e-5, atol=2e-7)
    torch.testing.assert_close(norm.running_var, plain.running_var, rtol=1e-5, atol=2e-7)


def test_autocast() -> None:
    model, x = (
        nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), IEBN2d(24), nn.Conv2d(24, 4, 1)),
        images((32, 3, 16, 16)),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle = model[1](model[0](x))
        y = model[2](middle)
    assert middle.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert model[1].weight_readjust.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), model(x), rtol=0.1, atol=0.05)


@pytest.mark.parametrize("kind", ["BatchNorm", "authors", "own"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("assign", [False, True])
def test_loads_checkpoints(kind: str, prefix: str, assign: bool) -> None:
    source = random(network(nn.BatchNorm2d if kind == "BatchNorm" else IEBN2d))
    state = to_official_state_dict(source) if kind == "authors" else source.state_dict()
    if kind == "authors":
        assert state["1.weight_readjust"].shape == (1, 8, 1, 1)
    state = {prefix + key: value for key, value in state.items()}
    consume_prefix_in_state_dict_if_present(state, "module.")
    model = network(IEBN2d)
    if assign:
        model = model.to("meta")
    model.load_state_dict(state, strict=True, assign=assign)
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    if kind == "BatchNorm":
        assert torch.equal(model[1].bias_readjust, torch.full((8,), -1.0))
    assert isinstance(model[1].bias_readjust, nn.Parameter)
    assert model(images((2, 3, 6, 6))).isfinite().all()


def test_an_incomplete_checkpoint_is_still_refused() -> None:
    state = IEBN2d(4).state_dict()
    del state["bias_readjust"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"bias_readjust"'):
        IEBN2d(4).load_state_dict(state)
    with pytest.raises(RuntimeError, match='"weight_readjust"'):
        IEBN2d(4).load_state_dict({})
    with pytest.raises(RuntimeError, match="size mismatch"):
        IEBN2d(4).load_state_dict(IEBN2d(5).state_dict())


def test_checkpoints_of_old_torch_have_no_count() -> None:
    state = {key: value for key, value in nn.BatchNorm2d(4).state_dict().items() if "num" not in key}
    IEBN2d(4).load_state_dict(state)


def test_copies() -> None:
    norm, x = random(IEBN2d(24)), images()
    norm(x).sum().backward()
    buffer = io.BytesIO()
    torch.save(norm, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(norm), pickle.loads(pickle.dumps(norm)), torch.load(buffer, weights_only=False)]
    norm.eval()
    for each in copies:
        assert torch.equal(each.eval()(x), norm(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_compiles_without_a_break_to_the_same_numbers(backend: str, training: bool) -> None:
    eager, compiled = random(IEBN2d(24)).train(training), random(IEBN2d(24)).train(training)
    run = torch.compile(compiled, fullgraph=True, backend=backend)
    x, g = images(), images(seed=1)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = run(one), eager(other)
    y.backward(g)
    expected.backward(g)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)
    for a, b in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-3)
    for a, b in zip(compiled.buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_conversion_to_syncbatchnorm_leaves_the_attention() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network(IEBN2d))
    assert [type(m) for m in (model[1], model[3][0])] == [IEBN2d, IEBN2d]


def test_from_batchnorm_takes_over_parameters_and_buffers() -> None:
    plain = nn.BatchNorm2d(24, eps=1e-3, momentum=None).eval()
    norm = IEBN2d.from_batchnorm(plain)
    assert (norm.eps, norm.momentum, norm.training) == (1e-3, None, False)
    assert norm.weight is plain.weight
    assert norm.running_var is plain.running_var
    assert IEBN2d.from_batchnorm(nn.BatchNorm2d(3, affine=False)).weight is None
