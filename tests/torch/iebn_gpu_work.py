"""What IEBN's Triton kernels give, run by Triton's interpreter or compiled: in a process of its own, which is said so
before Triton is imported. `python iebn_gpu_work.py run FILE`, `... share FILE RANK`, `... compile`."""

import os
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mixlayers_torch._iebn import gpu, native
from mixlayers_torch._iebn.layer import IEBN1d, IEBN2d, IEBN3d
from mixlayers_torch._iebn.sync import SyncIEBN

PLANES = [(4, 3, 5, 6), (12, 6), (3, 5, 40), (2, 3, 40, 40), (2, 70, 3, 3), (1, 2, 3, 2, 2)]
ROWS = [(4, 3, 5, 6), (2, 70, 9), (1, 3, 25, 25)]
CASES: list[tuple[tuple[int, ...], bool]] = [*((s, False) for s in PLANES), *((s, True) for s in ROWS)]
SHARED = (6, 3, 2, 3)
KINDS = {"float32": 0.7, "far": 1000.0, "bfloat16": 0.7, "float16": 0.7}
"""What the elements are, and how far from zero."""
NAMES = ("weight", "bias", "weight_readjust", "bias_readjust")
LAYERS = {2: IEBN1d, 3: IEBN1d, 4: IEBN2d, 5: IEBN3d}


def features(shape: tuple[int, ...], last: bool, kind: str) -> tuple[Tensor, Tensor]:
    """x and the output's gradient."""
    generator = torch.Generator().manual_seed(1)
    x, g = (torch.randn(shape, generator=generator) for _ in range(2))
    dtype = getattr(torch, "float32" if kind == "far" else kind)
    x, g = (t.to(dtype) for t in (x * 0.5 + KINDS[kind], g))
    if last:
        x, g = (t.movedim(1, -1).contiguous().movedim(-1, 1) for t in (x, g))
    return x, g


def layer(shape: tuple[int, ...], kind: str = "float32", **options: Any) -> Any:
    generator = torch.Generator().manual_seed(shape[1])
    norm = LAYERS[len(shape)](shape[1], **options)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(shape[1], generator=generator))
        norm.weight_readjust.mul_(1e-3 if kind == "far" else 1.0)
        norm.running_mean.copy_(torch.randn(shape[1], generator=generator) * 0.1 + KINDS[kind])
        norm.running_var.copy_(torch.rand(shape[1], generator=generator) + 0.5)
    return norm


def outcome(norm: Any, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    x = x.detach().clone().requires_grad_()
    y = norm(x)
    assert "_ByPasses" in y.grad_fn.name() and y.stride() == x.stride()
    y.backward(g)
    found = {"y": y.detach(), "x": x.grad, **dict(norm.named_buffers())}
    return found | {name: p.grad for name, p in norm.named_parameters()}


def run(file: str) -> None:
    found: dict[Any, Any] = {}
    for (shape, last), kind, training in product(CASES, KINDS, (True, False)):
        if kind in ("float32", "far") or shape == (4, 3, 5, 6):
            norm = layer(shape, kind).train(training)
            found[shape, last, kind, training] = outcome(norm, *features(shape, last, kind))
            with torch.no_grad():
                assert torch.equal(
                    norm.eval()(features(shape, last, kind)[0]), norm(features(shape, last, kind)[0])
                )
    shape = (4, 3, 5, 6)
    x, g = features(shape, False, "float32")
    for options in ({"affine": False}, {"bias": False}):
        found[tuple(options)] = outcome(layer(shape, **options), x, g)
    x = x.requires_grad_()
    norm = layer(shape)
    (first,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
    (found["second"],) = torch.autograd.grad((first * g).sum(), x)
    nan = features(shape, False, "float32")[0]
    nan[1, 1, 0, 0], nan[2, 2, 0, 0] = float("nan"), float("inf")
    found["nan"] = layer(shape)(nan).detach()
    torch.save(found, file)


def share(file: str, rank: int) -> None:
    """What one of two processes gives that share a batch, the first one or none of its samples."""
    dist.init_process_group("gloo", init_method=f"file://{file}.meet", rank=rank, world_size=2)
    x, g = features(SHARED, False, "float32")
    found = {}
    for first in (2, 0):
        norm, own = SyncIEBN(SHARED[1]), slice(0, first) if rank == 0 else slice(first, None)
        norm.load_state_dict(layer(SHARED).state_dict())
        found[first] = outcome(norm, x[own], g[own])
    torch.save(found, f"{file}.{rank}")
    dist.destroy_process_group()


def sources() -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """Each kernel's signatures: of Triton's types, and what is fixed; also where a size is 1, which Triton fixes."""
    kernels: Any = gpu.kernels()
    fixed: dict[str, dict[str, Any]] = {
        "add": {"OF": "products", "BC": 1, "BL": 1024},
        "settle": {"KEPT": True, "BC": 16, "BN": 64},
        "map": {"WEIGHT": True, "BIAS": False, "BC": 64, "BL": 16},
        "learn": {"WEIGHT": False, "BC": 16, "BN": 32},
        "combine": {"BATCH": True, "WEIGHT": True, "BC": 64, "BL": 16},
    }
    sizes = ("parts", "samples", "rows", "channels", "length", "step_c", "step_l", "size")
    numbers = ("count", "unbiased", "eps", "factor")
    for (name, known), kind, one in product(fixed.items(), ("fp32", "bf16", "fp16"), (False, True)):
        names = getattr(kernels, name).arg_names
        constants = known | ({size: 1 for size in sizes if size in names} if one else {})
        types = dict.fromkeys(names, "*fp32") | dict.fromkeys(("x", "y", "g", "dx"), f"*{kind}")
        types |= dict.fromkeys(sizes, "i32") | dict.fromkeys(numbers, "fp32")
        yield name, {each: "constexpr" if each in constants else types[each] for each in names}, constants


def compile_all() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    targets = (
        (GPUTarget("cuda", 80, 32), "cubin"),
        (GPUTarget("cuda", 90, 32), "cubin"),
        (GPUTarget("hip", "gfx942", 64), "hsaco"),
    )
    for target, binary in targets:
        for name, signature, constants in sources():
            source = ASTSource(getattr(gpu.kernels(), name), signature, constants)
            assert compile(source, target=target).asm[binary], name


if __name__ == "__main__":
    torch.set_num_threads(1)
    way, *rest = sys.argv[1:]
    if way == "compile":
        compile_all()
    else:
        os.environ["TRITON_INTERPRET"] = "1"
        gpu.on_gpu, native.library = lambda x: True, lambda: None  # type: ignore[assignment]
        run(*rest) if way == "run" else share(rest[0], int(rest[1]))
