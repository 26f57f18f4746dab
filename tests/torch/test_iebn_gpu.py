"""IEBN's Triton kernels: run by Triton's interpreter on the CPU against the NumPy reference, and compiled for GPUs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixlayers_torch._iebn import gpu
from tests.support.reference_iebn import iebn, iebn_backward, running_statistics
from tests.torch import iebn_gpu_work as work

TOLERANCE = {"float32": 1e-6, "far": 1e-5, "bfloat16": 2**-7, "float16": 2**-11}
"""Of the largest value there is; in half precision of what it is rounded to, and the interpreter cuts bfloat16 off."""


def process(*arguments: str) -> None:
    finish(start(*arguments))


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("iebn_gpu_work.py")), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(running: subprocess.Popen[str]) -> None:
    said, _ = running.communicate(timeout=500)
    assert running.returncode == 0, said


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("gpu") / "found.pt"
    process("run", str(file))
    return torch.load(file)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def expected(norm: Any, x: Tensor, g: Tensor) -> dict[str, np.ndarray]:
    ones, zeros = torch.ones(x.shape[1]), torch.zeros(x.shape[1])
    own = dict(zip(work.NAMES, (ones, zeros), strict=False)) | dict(norm.named_parameters())
    vectors, kept = [array(own[name]) for name in work.NAMES], {}
    statistics = array(norm.running_mean), array(norm.running_var)
    if not norm.training:
        kept = dict(zip(("mean", "var"), statistics, strict=True))
    slopes = iebn_backward(array(g), array(x), *vectors, eps=norm.eps, **kept)
    after = running_statistics(array(x), *statistics) if norm.training else statistics
    found = {"y": iebn(array(x), *vectors, eps=norm.eps, **kept), "x": slopes.x}
    found |= {"running_mean": after[0], "running_var": after[1]}
    return found | {name: getattr(slopes, name) for name, _ in norm.named_parameters()}


def close(found: dict[str, Tensor], whole: dict[str, np.ndarray], tolerance: float) -> None:
    for name, one in whole.items():
        limit = tolerance if name in ("y", "x") else min(tolerance, 1e-5)
        assert np.abs(array(found[name]) - one).max() <= limit * max(1e-3, np.abs(one).max()), name


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", work.KINDS)
@pytest.mark.parametrize(("shape", "last"), work.CASES, ids=str)
def test_equals_the_reference(
    interpreted: Any, shape: tuple[int, ...], last: bool, kind: str, training: bool
) -> None:
    if (shape, last, kind, training) not in interpreted:
        return  # half precision on one shape: an interpreter takes its time
    x, g = work.features(shape, last, kind)
    norm = work.layer(shape, kind).train(training)
    close(interpreted[shape, last, kind, training], expected(norm, x, g), TOLERANCE[kind])


@pytest.mark.parametrize("options", ["affine", "bias"])
def test_without_weight_or_bias(interpreted: Any, options: str) -> None:
    x, g = work.features((4, 3, 5, 6), False, "float32")
    norm = work.layer((4, 3, 5, 6), **{options: False})
    close(interpreted[(options,)], expected(norm, x, g), 1e-6)


def test_two_processes_do_what_one_does_with_the_joint_batch(tmp_path: Path) -> None:
    file = str(tmp_path / "found")
    for each in [start("share", file, str(rank)) for rank in range(2)]:
        finish(each)
    parts = [torch.load(f"{file}.{rank}") for rank in range(2)]
    x, g = work.features(work.SHARED, False, "float32")
    whole = expected(work.layer(work.SHARED), x, g)
    for first in (2, 0):
        one, other = (part[first] for part in parts)
        found = {name: torch.cat((one[name], other[name])) for name in ("y", "x")}
        found |= {name: one[name] + other[name] for name in work.NAMES}
        for rank in (one, other):
            close(found | {name: rank[name] for name in ("running_mean", "running_var")}, whole, 1e-6)


def test_second_derivatives_are_those_of_pytorchs_operations(interpreted: Any) -> None:
    x, g = work.features((4, 3, 5, 6), False, "float32")
    norm, x = work.layer((4, 3, 5, 6)).double(), x.double().requires_grad_()
    (first,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * g).sum(), x)
    torch.testing.assert_close(interpreted["second"].double(), second, rtol=1e-4, atol=1e-4)


def test_nan_and_inf_stay_in_their_channels_as_batchnorms_do(interpreted: Any) -> None:
    found = interpreted["nan"].isfinite().all(0).flatten(1).all(1)
    assert found.tolist() == [True, False, False]


def test_the_kernels_compile_for_gpus_without_one() -> None:
    process("compile")


def test_on_the_cpu_and_where_it_is_turned_off_there_is_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x = work.layer((4, 3, 5, 6)), work.features((4, 3, 5, 6), False, "float32")[0]
    parameters = gpu.Parameters(norm.weight, norm.bias, norm.weight_readjust, norm.bias_readjust)
    statistics = gpu.Statistics(norm.running_mean, norm.running_var, True, 0.1, 1e-5)
    assert not gpu.takes(x, parameters, statistics)
    monkeypatch.setattr("mixlayers_torch._iebn.gpu.on_gpu", lambda x: True)
    assert gpu.takes(x, parameters, statistics)
    assert not gpu.takes(x.double(), parameters, statistics)
    monkeypatch.setenv("MIXLAYERS_TRITON", "0")
    gpu.kernels.cache_clear()
    try:
        assert not gpu.takes(x, parameters, statistics)
    finally:
        gpu.kernels.cache_clear()
