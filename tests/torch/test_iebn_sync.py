"""SyncIEBN: two processes with unequal batches do what one does with the joint batch."""

import copy
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from mixlayers_torch._iebn.layer import IEBN1d, IEBN2d
from mixlayers_torch._iebn.sync import SyncIEBN
from tests.support.rounding import ROUNDINGS, UNIT, limits

SHARES = {"unequal": [(0, 5), (5, None)], "one has nothing": [(0, 0), (0, None)]}  # of the joint batch
PARAMETERS = ("weight", "bias", "weight_readjust", "bias_readjust")
SHAPES = [(32, 24, 16, 16), (16, 3, 2, 3), (16, 5)]


def joint(shape: tuple[int, ...], last: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn((2, *shape), generator=generator) * 2 + 3 * torch.randn(
        (2, shape[0], *(1 for _ in shape[1:])), generator=generator
    )
    x, g = (t.movedim(1, -1).contiguous().movedim(-1, 1) if last else t.contiguous() for t in pair)
    return x, g


def layer(kind: type[nn.Module], channels: int) -> nn.Module:
    norm = kind(channels)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    return norm


def run(norm: nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    x = x.detach().clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    found = {"y": y.detach(), "x": x.grad}
    found |= {name: parameter.grad for name, parameter in norm.named_parameters()}
    return found | dict(norm.named_buffers())


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for share, shape, last in product(SHARES, SHAPES, (False, True)):
        own = slice(*SHARES[share][rank])
        x, g = joint(shape, last)
        norm = layer(SyncIEBN, shape[1])
        found = run(norm, x[own], g[own])
        idle = copy.deepcopy(norm)
        idle(x[:0])  # where no process has a sample there is nothing to learn
        assert torch.equal(idle.running_mean, norm.running_mean)
        assert torch.equal(idle.running_var, norm.running_var)
        idle(torch.ones(1 - rank, shape[1]))  # the variance of one value is 0
        torch.testing.assert_close(idle.running_mean, 0.9 * norm.running_mean + 0.1)
        torch.testing.assert_close(idle.running_var, 0.9 * norm.running_var)
        results[share, shape, last] = found | {"eval": norm.eval()(x[own]).detach()}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=["1", "0"], ids=["compiled passes", "PyTorch's operations"])
def results(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[dict[object, dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp("sync")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXLAYERS_NATIVE", request.param)
        yield _trained(folder)


def _trained(folder: Path) -> list[dict[object, dict[str, Tensor]]]:
    mp.spawn(work, (str(folder),), nprocs=2)  # each asks the environment afresh
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("share", SHARES)
def test_equals_one_process_with_the_joint_batch(
    results: list, share: str, shape: tuple[int, ...], last: bool
) -> None:
    x, g = joint(shape, last)
    norm = layer(IEBN1d if len(shape) == 2 else IEBN2d, shape[1])
    expected = run(norm, x, g)
    expected["eval"] = norm.eval()(x).detach()
    parts = [each[share, shape, last] for each in results]
    arrays = [t.detach().double().numpy() for t in (g, x, *(getattr(norm, name) for name in PARAMETERS))]
    allowed = dict(zip(("y", "x", *PARAMETERS), limits(*arrays, eps=norm.eps, serial=last), strict=True))
    mean, var = (t.double().numpy() for t in (norm.running_mean, norm.running_var))
    allowed["eval"] = limits(*arrays, mean=mean, var=var, eps=norm.eps, serial=last)[0]
    for name, whole in expected.items():
        if name in ("y", "x", "eval"):  # each process has its share
            own = torch.cat([part[name] for part in parts])
        elif name in dict(norm.named_parameters()):  # each process has its own gradient
            own = parts[0][name] + parts[1][name]
        else:
            assert torch.equal(parts[0][name], parts[1][name])
            own = parts[0][name]
        error = (own - whole).abs().double().numpy()
        statistic = (ROUNDINGS + x[:, 0].numel() ** 0.5) * UNIT * (1 + whole.abs().double().numpy())
        assert (error <= 2 * allowed.get(name, statistic)).all(), name  # each may be off by it


def test_in_one_process_it_is_iebn() -> None:
    x, g = joint((32, 24, 16, 16), False)
    own, expected = (run(layer(kind, 24), x, g) for kind in (SyncIEBN, IEBN2d))
    for name, tensor in expected.items():
        assert torch.equal(own[name], tensor)


def test_convert_keeps_tensors_and_sharing() -> None:
    shared = IEBN2d(4)
    model = nn.Sequential(shared, nn.Sequential(shared, nn.ReLU()), IEBN2d(4).eval())
    before = list(model.state_dict().values())
    assert SyncIEBN.convert_sync_iebn(model) is model
    assert model[0] is model[1][0]
    assert isinstance(model[0], SyncIEBN)
    assert not model[2].training
    assert all(a is b or torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True))
    assert model[0].weight is shared.weight
    assert isinstance(SyncIEBN.convert_sync_iebn(IEBN2d(4)), SyncIEBN)
