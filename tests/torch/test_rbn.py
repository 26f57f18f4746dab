"""RBN's modules in PyTorch: what they take, load and convert; tests/shared/test_rbn.py has the numbers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from mixlayers.torch import RBN1d, RBN2d, RBN3d, SyncRBN, convert_rbn, iebn_parameters, revert_rbn, update_bn
from tests.support.reference_rbn import NAMES, rbn
from tests.torch.test_iebn_sync import SHAPES, SHARES, joint, layer, run

dist = torch.distributed
NATIVE = ["compiled passes", "PyTorch's operations"]


@pytest.fixture(params=NATIVE)
def native(request, monkeypatch):
    if request.param != NATIVE[0]:
        monkeypatch.setattr("mixlayers_torch._iebn.native.library", lambda: None)


def learned(kind=RBN2d, channels=4, **options):
    """A layer whose parameters are not the initial ones."""
    norm = kind(channels, **options)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    return norm


def features(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    means = torch.randn(shape[:2] + (1,) * (len(shape) - 2), generator=generator)
    x = means + torch.randn(shape, generator=generator)
    return x.to(dtype)


def own(norm):
    """The parameters as the reference takes them."""
    given = dict(norm.named_parameters())
    ones, zeros = torch.ones(norm.num_features), torch.zeros(norm.num_features)
    vectors = (given.get(name, ones if name == "weight" else zeros) for name in NAMES)
    return [vector.detach().double().numpy() for vector in vectors]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "options", [{"affine": False}, {"bias": False}, {"track_running_stats": False}], ids=str
)
def test_without_what_batchnorm_may_lack(options):
    norm, x = learned(**options), features(5, 4, 3, 3)
    for _ in ("train", "eval without statistics"):
        np.testing.assert_allclose(norm(x).detach(), rbn(x.double().numpy(), *own(norm)), rtol=0, atol=1e-5)
        if norm.track_running_stats:
            break
        norm.eval()


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_half_precision_with_means_of_float32(dtype, training):
    """A mean that half precision rounds would move every value of a plane far from zero."""
    norm, x = learned().train(training), features(6, 4, 8, 8, dtype=dtype) + 8
    norm.running_mean += 8
    kept = {} if training else {"mean": norm.running_mean.numpy(), "var": norm.running_var.numpy()}
    y = norm(x)
    wanted = rbn(x.double().numpy(), *own(norm), **kept)
    assert y.dtype is dtype
    unit = torch.finfo(dtype).eps
    assert np.abs(y.detach().double().numpy() - wanted).max() <= unit * np.abs(wanted).max()


@pytest.mark.usefixtures("native")
def test_channels_last_stay_last_and_no_gradient_is_the_same_function():
    norm, x = learned(), features(5, 4, 6, 6)
    last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(last), norm(x), rtol=0, atol=1e-5)
    assert norm(last).is_contiguous(memory_format=torch.channels_last)
    norm.eval()
    with torch.no_grad():
        still = norm(x)
    torch.testing.assert_close(still, norm(x), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_second_derivatives(training):
    norm, x = learned(channels=2).double().train(training), features(3, 2, 2, 2, dtype=torch.float64)
    parameters = [parameter.requires_grad_() for parameter in norm.parameters()]

    def call(x, *_):
        return norm(x)

    assert torch.autograd.gradgradcheck(call, (x.requires_grad_(), *parameters), atol=1e-6)


def test_one_compiled_graph_is_the_same_function():
    norm, x = learned(), features(5, 4, 6, 6)
    compiled = torch.compile(copy.deepcopy(norm), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), norm(x), rtol=0, atol=1e-5)


def test_authors_checkpoints_and_batchnorms_load():
    norm, theirs = learned(), {"scale_weight": "weight_readjust", "scale_bias": "bias_readjust"}
    theirs = {own: name for name, own in theirs.items()} | {"weight_recenter": "center_weight"}
    state = {
        theirs.get(name, name): value.view(1, -1, 1, 1) if name in NAMES else value
        for name, value in norm.state_dict().items()
    }
    fresh = RBN2d(4)
    fresh.load_state_dict(state)
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in fresh.state_dict().items())
    assert "center_weight" in state  # the caller's dictionary stays
    plain = nn.BatchNorm2d(4)
    plain(features(5, 4, 6, 6))
    norm.load_state_dict(plain.state_dict())
    assert torch.equal(norm.running_var, plain.running_var)
    assert torch.equal(norm.weight_recenter, learned().weight_recenter)  # what no BatchNorm has, stays


def test_what_is_frozen_shared_or_synchronised_stays_so():
    model = nn.Sequential(
        nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.BatchNorm3d(3), nn.SyncBatchNorm(3), nn.BatchNorm2d(3)
    )
    model[2], model[4] = model[1], model[4].requires_grad_(False)
    convert_rbn(model)
    assert [type(norm) for norm in model] == [RBN1d, RBN2d, RBN2d, SyncRBN, RBN2d] and model[1] is model[2]
    assert not any(parameter.requires_grad for parameter in model[4].parameters())
    assert all(parameter.requires_grad for parameter in model[0].parameters())
    assert isinstance(convert_rbn(nn.BatchNorm3d(3)), RBN3d)
    others, added = iebn_parameters(model, weight_decay=0.5)
    assert len(added["params"]) == 4 * 3 and len(others["params"]) == 4 * 2
    revert_rbn(model)
    assert [type(norm).__name__ for norm in model][2:] == ["BatchNorm2d", "SyncBatchNorm", "BatchNorm2d"]


class Listed(nn.Module):
    """Runs its layers from lists of its own, as code that was not written for conversions does."""

    def __init__(self):
        super().__init__()
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.steps, self.last = [self.norm, torch.relu], (self.other,)

    def forward(self, x):
        for step in (*self.steps, *self.last):
            x = step(x)
        return x


def test_norms_that_a_network_runs_from_lists_of_its_own_are_converted_there_too():
    model, x = Listed().eval(), torch.randn(4, 3, 5, 5)
    expected, steps = model(x), model.steps
    convert_rbn(model, preserve_output=True)
    assert model.steps is steps and steps[0] is model.norm and model.last[0] is model.other
    torch.testing.assert_close(model(x), expected)
    SyncRBN.convert_sync_rbn(model)
    assert type(model.steps[0]) is SyncRBN and model.steps[0] is model.norm and model.last[0] is model.other
    torch.testing.assert_close(revert_rbn(model, preserve_output=True)(x), expected)
    assert type(model.steps[0]) is nn.SyncBatchNorm and model.steps[0] is model.norm


def test_who_knew_the_model_before_is_named_where_the_caller_stands():
    model = nn.Sequential(nn.BatchNorm2d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="will not train the 3 new parameters") as caught:
        convert_rbn(model)
    assert caught[0].filename == __file__ and optimizer.param_groups


def test_update_bn_sets_statistics_of_what_is_normalised():
    norm, x = learned(), features(64, 4, 6, 6)
    update_bn([x], norm)
    recentred = x + norm.weight_recenter.detach().view(-1, 1, 1) * x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(norm.running_mean, recentred.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, recentred.var((0, 2, 3)))


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for share in SHARES:
        for shape in SHAPES:
            x, g = joint(shape, last=False)
            part = slice(*SHARES[share][rank])
            results[share, shape] = run(layer(SyncRBN, shape[1]), x[part], g[part])
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("native", ["1", "0"], ids=NATIVE)
def test_two_processes_are_one_with_the_joint_batch(tmp_path, monkeypatch, native):
    monkeypatch.setenv("MIXLAYERS_NATIVE", native)
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    parts = [torch.load(Path(tmp_path) / f"{rank}.pt") for rank in range(2)]
    for share in SHARES:
        for shape in SHAPES:
            x, g = joint(shape, last=False)
            whole = run(layer({2: RBN1d, 4: RBN2d}[len(shape)], shape[1]), x, g)
            for name, wanted in whole.items():
                found = [part[share, shape][name] for part in parts]
                if name in ("x", "y"):
                    alike = torch.cat(found)
                elif name in NAMES:
                    alike = found[0] + found[1]  # each process's own gradients, to be added up
                else:
                    alike = found[1]
                tolerance = 1e-4 * max(1.0, float(wanted.abs().max()))
                torch.testing.assert_close(
                    alike, wanted, rtol=0, atol=tolerance, msg=f"{name} {share} {shape}"
                )
