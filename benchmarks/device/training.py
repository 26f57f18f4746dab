"""Training steps are those of mixing by hand: in half precision, recomputed, compiled, in CUDA graphs, under DDP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from device.cases import Case, LeftOut
from device.machine import Device
from device.proofs import by_hand, pair, same_gradients
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from mixlayers import ManifoldMixup, Method, MixingError, Mixup, PatchUp
from mixlayers.torch import cross_entropy, mix, wrap
from tests.torch.networks import Net

METHODS: tuple[Method, ...] = (ManifoldMixup(), PatchUp("hard", block_size=3), PatchUp("soft", block_size=3))
STEPS = 5
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Of a gradient, as a share of the largest."""


def training(device: Device) -> Iterator[Case]:
    """Whole steps against the same steps by hand."""
    _exactly()
    for method in METHODS:
        for dtype in TOLERANCE:
            name = str(dtype).removeprefix("torch.")
            yield Case(f"steps are those by hand, {name}, {method}", partial(_steps, device, method, dtype))
    for reentrant in (False, True):
        kind = "reentrant" if reentrant else "not reentrant"
        yield Case(f"layers checkpointed ({kind}) mix alike again", partial(_recomputed, device, reentrant))
    yield Case("a process of DistributedDataParallel", partial(_distributed, device))


def graphs(device: Device) -> Iterator[Case]:
    """torch.compile and CUDA graphs."""
    _exactly()
    yield Case("torch.compile, whole graph, is eager mode", partial(_compiled, device, None))
    yield Case("torch.compile, mode='reduce-overhead'", partial(_compiled, device, "reduce-overhead"))
    yield Case("a CUDA graph of the model, the input mixed outside", partial(_graphed, device))
    yield Case("a CUDA graph captured with mixing inside is refused", partial(_captured, device))


def _exactly() -> None:
    """float32 all the way: TF32 would round what differs in its last digit to what differs in the third."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _data(device: Device, step: int) -> tuple[Tensor, Tensor]:
    return device.randn(8, 3, 16, 16, seed=step), device.labels(8, 4, seed=step)


def _autocast(device: Device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.torch.type, dtype, enabled=dtype is not torch.float32)


def _steps(device: Device, method: Method, dtype: torch.dtype) -> str:
    model, plain = pair(device, method)
    scalers = [
        torch.amp.GradScaler(device.torch.type, init_scale=256.0, enabled=dtype is torch.float16)
        for _ in range(2)
    ]
    optimisers = [torch.optim.SGD(net.parameters(), lr=0.01) for net in (model, plain)]
    places = set()
    for step in range(STEPS):
        x, y = _data(device, step)
        with _autocast(device, dtype):
            output, target = model(x, target=y)
            ours = cross_entropy(output, target)
            theirs = by_hand(plain, target.plan, x, y)
        places.add(target.plan.place)
        for loss, scaler, optimiser in zip((ours, theirs), scalers, optimisers, strict=True):
            optimiser.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        same_gradients(model, plain, TOLERANCE[dtype])
        for scaler, optimiser in zip(scalers, optimisers, strict=True):
            scaler.step(optimiser)
            scaler.update()
        plain.load_state_dict(model.state_dict())  # rounding is not to add up over steps
    assert scalers[0].get_scale() == scalers[1].get_scale()
    return f"{STEPS} steps, mixed at {', '.join(sorted(map(str, places)))}"


class _Recomputed(Net):
    reentrant = False

    def trunk(self, x: Tensor) -> Tensor:
        def run(x: Tensor) -> Tensor:
            return self.layer3(self.layer2(self.layer1(x)))

        return checkpoint(run, self.stem(x), use_reentrant=self.reentrant)


def _recomputed(device: Device, reentrant: bool) -> None:
    for method in METHODS:
        kept, recomputed = (pair(device, method)[0] for _ in range(2))
        recomputed.__class__, recomputed.reentrant = _Recomputed, reentrant
        for step in range(STEPS):
            x, y = _data(device, step)
            for net in (kept, recomputed):
                net.zero_grad()
                cross_entropy(*net(x, target=y)).backward()
            same_gradients(recomputed, kept, TOLERANCE[torch.float32])


def _distributed(device: Device) -> str:
    backend = "nccl" if device.cuda else "gloo"
    if not dist.is_available() or (device.cuda and not dist.is_nccl_available()):
        raise LeftOut(f"this PyTorch has no {backend}")
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            for method in METHODS:
                model, plain = pair(device, method)
                parallel = DistributedDataParallel(
                    model, device_ids=[device.torch.index] if device.cuda else None
                )
                x, y = _data(device, 0)
                output, target = parallel(x, target=y)
                cross_entropy(output, target).backward()
                by_hand(plain, target.plan, x, y).backward()
                same_gradients(parallel, plain, TOLERANCE[torch.float32])
        finally:
            dist.destroy_process_group()
    return backend


def _compiled(device: Device, mode: str | None) -> str:
    if mode is not None and not device.cuda:
        raise LeftOut("only CUDA has graphs")
    torch.compiler.reset()
    method = ManifoldMixup() if mode is None else PatchUp("soft", block_size=3)
    eager, plain = pair(device, method)
    options: dict[str, Any] = {
        "backend": "inductor" if device.cuda else "aot_eager"
    }  # no compiler on a bare CPU
    options |= {} if mode is None else {"mode": mode}
    fast = wrap(
        torch.compile(plain, fullgraph=True, **options), method, ["input", "layer1", "layer2"], trust=True
    )
    for step in range(3 * STEPS):
        x, y = _data(device, step)
        if mode is not None:
            torch.compiler.cudagraph_mark_step_begin()
        for net in (eager, fast):
            net.zero_grad()
            output, target = net(x, target=y)
            loss = cross_entropy(output, target)
            loss.backward()
        same_gradients(fast, eager, TOLERANCE[torch.float32])
    if mode is None:
        return options["backend"]
    skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    return f"{3 * STEPS} steps; CUDA graphs were skipped {skipped} times"


def _graphed(device: Device) -> None:
    if not device.cuda:
        raise LeftOut("only CUDA has graphs")
    torch.manual_seed(0)
    plain = Net().to(device.torch)
    graphed = Net().to(device.torch)
    graphed.load_state_dict(plain.state_dict())
    x, y = _data(device, 0)
    graphed = torch.cuda.make_graphed_callables(graphed, (x,))
    plain.load_state_dict(graphed.state_dict())  # warming up moved the running statistics
    for step in range(STEPS):
        x, y = _data(device, step)
        mixed, target = mix(x, y, Mixup(), step=step)
        for net in (graphed, plain):
            net.zero_grad(set_to_none=False)
            cross_entropy(net(mixed), target).backward()
        same_gradients(graphed, plain, TOLERANCE[torch.float32])


def _captured(device: Device) -> None:
    if not device.cuda:
        raise LeftOut("only CUDA has graphs")
    model, _ = pair(device, ManifoldMixup())
    x, y = _data(device, 0)
    model(x, target=y)[1].partner  # noqa: B018  # reading the partners counts as using the target
    refused = ""
    device.wait()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=side):
        try:
            nn.Module.__call__(model, x, target=y)
        except MixingError as error:
            refused = str(error)
        x + 1  # a graph of nothing would be warned of
    assert "graph" in refused, "one plan was frozen into the graph, and replayed in every step"
