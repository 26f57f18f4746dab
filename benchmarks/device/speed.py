"""What mixing costs on the device: a blend over a copy, a step over a plain one, the host's own time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from device.cases import Case, LeftOut
from device.machine import Device
from device.nets import ResNet50, ViT
from parts.resnet import ResNet18
from parts.rivals import usual_mixup, usual_soft, usual_where
from parts.timing import Row, Spread, ratio
from peers.adapters import Mixing, kornia_cutmix, kornia_mixup, timm, torchvision
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.torch import cross_entropy, mix, wrap
from mixlayers_torch._blend import blend
from mixlayers_torch._transfer import Partners

CLASSES = 10


def alternate(
    device: Device, work: Mapping[str, Callable[[], object]], rounds: int, repeat: int = 1
) -> dict[str, list[float]]:
    """The device's time of everything in turn, round after round, so that its clock's changes fall on all alike."""
    for each in work.values():
        for _ in range(3):
            each()
    names = list(work)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(device.seconds(work[name], repeat))
    return times


def blends(device: Device) -> Iterator[Case]:
    """A blend, forward and backward, over two copies of the same size."""
    shapes = [(4, 8, 8, 8)] if device.toy else [(256, 64, 56, 56), (256, 512, 28, 28), (256, 197, 384)]
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            name = f"{shape}, {str(dtype).removeprefix('torch.')}"
            yield Case(f"blend, {name}", partial(_blends, device, shape, dtype, name))


def _blends(device: Device, shape: Sequence[int], dtype: torch.dtype, name: str) -> list[Row]:
    x = device.randn(*shape).to(dtype).requires_grad_()
    data, gradient = x.detach(), device.randn(*shape, seed=1).to(dtype)

    def both(f: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(f(x), x, gradient)

    def two_copies() -> None:
        data.clone()
        gradient.clone()

    methods: dict[str, Method] = {
        "one lam": ManifoldMixup(),
        "lam per sample": ManifoldMixup(lam_per="sample"),
    }
    if len(shape) == 4:
        methods |= {"CutMix box": CutMix(), "CutMix boxes": CutMix(lam_per="sample")}
        methods |= {"PatchUp hard": PatchUp(), "PatchUp soft": PatchUp("soft")}
    work: dict[str, Callable[[], object]] = {"copies": two_copies}
    for method_name, method in methods.items():
        plan = method.plan(step=1, batch_size=shape[0], places=("layer",))
        how, partners = plan.blend(shape), Partners(plan.perm)
        work[method_name] = both(partial(blend, how=how, partners=partners))
        work[f"usual {method_name}"] = both(_usual(how, partners.on(device.torch)[0]))
    times = alternate(device, work, 3 * device.rounds)
    bytes_moved = 2 * 2 * data.numel() * data.element_size()
    speeds = Spread.of([bytes_moved / seconds / 1e9 for seconds in times["copies"]])
    rows = [Row("copy", name, "GB/s", speeds)]
    for method_name in methods:
        usual = {"usual form": ratio(times[f"usual {method_name}"], times["copies"])}
        rows.append(
            Row(
                "blend",
                f"{method_name}, {name}",
                "x 2 copies",
                ratio(times[method_name], times["copies"]),
                usual,
            )
        )
    return rows


def _usual(how: Any, perm: Tensor) -> Callable[[Tensor], Tensor]:
    """The same blend as most people write it."""
    lam = how.lam
    if not isinstance(lam, float):
        lam = torch.tensor(lam, device=perm.device)
    if how.mask is None:
        return lambda x: usual_mixup(x, perm, _over(lam, x))
    mask = torch.tensor(how.mask, device=perm.device)
    if isinstance(how.lam, float) and how.lam == 0.0:
        return lambda x: usual_where(x, perm, mask)
    return lambda x: usual_soft(x, perm, mask, _over(lam, x))


def _over(lam: Any, x: Tensor) -> Any:
    return lam.to(x.dtype).view(-1, *[1] * (x.ndim - 1)) if isinstance(lam, Tensor) else lam


def inputs(device: Device) -> Iterator[Case]:
    """Input mixing with its target, beside other libraries', where they are."""
    sizes = [(4, 8)] if device.toy else [(128, 224), (512, 224)]
    for size, side in sizes:
        yield Case(f"input mixing, ({size}, 3, {side}, {side})", partial(_inputs, device, size, side))


def _input_mixing() -> dict[str, tuple[Method, dict[str, Callable[[int], Mixing]]]]:
    """Ours, and what makes the others'."""
    return {
        "Mixup": (
            Mixup(1.0),
            {"timm": timm("batch", False), "torchvision": torchvision("MixUp"), "kornia": kornia_mixup},
        ),
        "CutMix": (
            CutMix(1.0),
            {
                "timm": timm("batch", True),
                "torchvision": torchvision("CutMix"),
                "kornia": kornia_cutmix(True),
            },
        ),
    }


def _inputs(device: Device, size: int, side: int) -> list[Row]:
    x, y = device.randn(size, 3, side, side), device.labels(size, CLASSES)

    def ours(method: Method) -> Callable[[], object]:
        return lambda: mix(x, y, method)[1].soft(CLASSES)

    rows = []
    for op, (method, makers) in _input_mixing().items():
        work: dict[str, Callable[[], object]] = {"copy": x.clone, "ours": ours(method)}
        for name, make in makers.items():
            try:
                work[name] = partial(make(CLASSES), x.clone(), y)
                work[name]()
            except Exception:  # not here, or not for this device
                work.pop(name, None)
        times = alternate(device, work, 5 * device.rounds)
        rivals = {name: ratio(times[name], times["copy"]) for name in work if name in makers}
        what = f"{op}, ({size}, 3, {side}, {side})"
        rows.append(Row("input", what, "x copy", ratio(times["ours"], times["copy"]), rivals))
    return rows


@dataclass(frozen=True)
class Setting:
    """A net, its batch and its precision."""

    name: str
    make: Callable[[], nn.Module]
    batch: int
    side: int
    classes: int
    layers: tuple[str, ...]
    half: bool = False
    last: bool = False

    def __str__(self) -> str:
        precision = "bf16" if self.half else "float32"
        return f"{self.name}, batch {self.batch}, {precision}{', channels last' * self.last}"


STAGES = ("input", "layer1", "layer2")
TOKENS = ("input", "blocks.2", "blocks.5")
SETTINGS = (
    Setting("ResNet-18 (32 px)", ResNet18, 512, 32, 10, STAGES),
    Setting("ResNet-18 (32 px)", ResNet18, 512, 32, 10, STAGES, half=True, last=True),
    Setting("ResNet-50 (224 px)", ResNet50, 128, 224, 1000, STAGES),
    Setting("ResNet-50 (224 px)", ResNet50, 256, 224, 1000, STAGES, half=True, last=True),
    Setting("ViT-S/16 (224 px)", ViT, 256, 224, 1000, TOKENS, half=True),
)
TOYS = (
    Setting("ResNet-18, toy", partial(ResNet18, 4), 4, 16, 10, STAGES),
    Setting("ResNet-50, toy", partial(ResNet50, 4, 10), 4, 32, 10, STAGES, half=True, last=True),
    Setting("ViT, toy", partial(ViT, 16, 10, 32, 8), 4, 32, 10, TOKENS, half=True),
)


def steps(device: Device) -> Iterator[Case]:
    """A training step with mixing over one without."""
    for setting in TOYS if device.toy else SETTINGS:
        yield Case(f"step, {setting}", partial(_steps, device, setting))


def host(device: Device) -> Iterator[Case]:
    """The host's time a step, and how many copies it orders."""
    setting = TOYS[0] if device.toy else SETTINGS[1]
    yield Case(f"host time, {setting}", partial(_host, device, setting))
    yield Case(f"copies from the host, {setting}", partial(_copies, device, setting))


METHODS: dict[str, Method | None] = {
    "plain": None,
    "Mixup": Mixup(),
    "Manifold Mixup": ManifoldMixup(),
    "PatchUp hard": PatchUp(),
    "PatchUp soft": PatchUp("soft"),
}


def step_of(device: Device, setting: Setting, method: Method | None) -> Callable[[], None]:
    """A training step: SGD with momentum, cross-entropy, autocast where the setting asks for it."""
    torch.manual_seed(0)
    model = setting.make().to(device.torch)
    x, y = (
        device.randn(setting.batch, 3, setting.side, setting.side),
        device.labels(setting.batch, setting.classes),
    )
    if setting.last:
        model, x = (
            model.to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    if method is not None:
        model = wrap(model, method, setting.layers if method.hidden else "auto", trust=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        with torch.autocast(device.torch.type, torch.bfloat16, enabled=setting.half):
            output = model(x) if method is None else model(x, target=y)
            loss = F.cross_entropy(output, y) if method is None else cross_entropy(*output)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _steps(device: Device, setting: Setting) -> list[Row]:
    runs = {name: step_of(device, setting, method) for name, method in METHODS.items()}
    times = alternate(device, runs, device.rounds, repeat=3)  # a method's places differ from step to step
    plain = Spread.of([1e3 * seconds for seconds in times["plain"]])
    rows = [Row("plain step", str(setting), "ms", plain)]
    return rows + [
        Row("step", f"{name}, {setting}", "x plain", ratio(times[name], times["plain"]))
        for name in METHODS
        if name != "plain"
    ]


def _host(device: Device, setting: Setting) -> list[Row]:
    runs = {name: step_of(device, setting, method) for name, method in METHODS.items()}
    for run in runs.values():
        for _ in range(9):  # the places are proved again at forwards 2, 4 and 8
            run()
    own: dict[str, list[float]] = {name: [] for name in runs}
    whole: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(3 * device.rounds):
        for name, run in runs.items():
            own[name].append(1e6 * device.host_seconds(run))
            whole[name].append(1e6 * device.seconds(run))
    rows = [Row("host", f"plain step, {setting}", "us", Spread.of(own["plain"]))]
    for name in runs:
        if name != "plain":
            added = [one - other for one, other in zip(own[name], own["plain"], strict=True)]
            rows.append(Row("host", f"{name} adds, {setting}", "us", Spread.of(added)))
        share = [100 * one / all_of_it for one, all_of_it in zip(own[name], whole[name], strict=True)]
        rows.append(Row("host", f"{name}, {setting}", "% of the device's time", Spread.of(share)))
    return rows


def _copies(device: Device, setting: Setting) -> str:
    if not device.cuda:
        raise LeftOut("nothing is copied to the CPU")
    from torch.profiler import ProfilerActivity, profile

    said = []
    for name, method in METHODS.items():
        run = step_of(device, setting, method)
        for _ in range(9):
            run()
        device.wait()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            for _ in range(8):
                run()
            device.wait()
        copies = sum(event.count for event in profiled.key_averages() if "Memcpy HtoD" in event.key)
        said.append(f"{name} {copies / 8:g}")
    return f"a step, of 8: {', '.join(said)}"
