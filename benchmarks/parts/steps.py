"""What mixing adds to a ResNet-18 training step, timed by itself: a whole step's noise is larger than it.

A stub model returns a feature of the real shape through a layer that the library's own hooks mix. Its time,
with plan, hooks, blend forward and backward, mixed target and loss, less the time of the same stub without
mixing, is what a real step would gain.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median

import numpy as np
import torch
import torch.nn.functional as F
from parts.resnet import ResNet18
from parts.rivals import authors_loss, authors_patchup, usual_mixup
from parts.timing import Row, Scale, Spread, interleave, seconds
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, Method, Mixup, PatchUp
from mixlayers.torch import audit, cross_entropy, wrap

STEP_LIMITS = {"Manifold Mixup": 1.0, "PatchUp hard": 2.0, "PatchUp soft": 2.0}
IDLE_LIMIT = 0.15
AUDIT_LIMIT = 1.0
CLASSES = 10


class Stub(nn.Module):
    """Passes on a feature in place of all the work that a model would do."""

    def __init__(self, feature: Tensor | None = None) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Identity(), nn.Identity()
        self.feature = feature

    def forward(self, images: Tensor) -> Tensor:
        return self.layer2(self.layer1(images if self.feature is None else self.feature))


def step_rows(scale: Scale) -> list[Row]:
    """Own time over step time, the average of the places that "auto" chooses."""
    images = torch.randn(scale.batch, 3, scale.size, scale.size)
    labels = torch.randint(CLASSES, (scale.batch,))
    hidden = {
        "layer1": torch.randn(scale.batch, scale.width, scale.size, scale.size),
        "layer2": torch.randn(scale.batch, 2 * scale.width, scale.size // 2, scale.size // 2),
    }
    features = {"input": None, **{name: x.requires_grad_() for name, x in hidden.items()}}
    logits = torch.randn(scale.batch, CLASSES, requires_grad=True)
    methods = {
        "Manifold Mixup": ManifoldMixup(),
        "PatchUp hard": PatchUp(),
        "PatchUp soft": PatchUp(mode="soft"),
    }

    def bare(feature: Tensor | None) -> Callable[[], None]:
        model, gradient = Stub(feature), None if feature is None else torch.randn(feature.shape)

        def run() -> None:
            output = model(images)
            torch.autograd.grad(F.cross_entropy(logits, labels), logits)
            if feature is not None:
                torch.autograd.grad(output, feature, gradient)

        return run

    def ours(method: Method, place: str) -> Callable[[], None]:
        feature = features[place]
        model = wrap(Stub(feature), method, layers=place, trust=True)
        gradient = None if feature is None else torch.randn(feature.shape)

        def run() -> None:
            output, target = model(images, target=labels)
            torch.autograd.grad(cross_entropy(logits, target), logits)
            if feature is not None:
                torch.autograd.grad(output, feature, gradient)

        return run

    def published(name: str, place: str) -> Callable[[], None]:
        feature, rng = features[place], np.random.default_rng(0)
        gradient = None if feature is None else torch.randn(feature.shape)
        x = images if feature is None else feature

        def run() -> None:
            if name == "Manifold Mixup" or feature is None:
                lam, perm = rng.beta(2.0, 2.0), torch.from_numpy(rng.permutation(scale.batch))
                output, share = usual_mixup(x, perm, lam), 1 - lam
            else:
                soft = name == "PatchUp soft"
                output, perm, share = authors_patchup(x, rng, soft=soft, gamma=0.75 if soft else 0.5)
            torch.autograd.grad(authors_loss(logits, labels, perm, share), logits)
            if feature is not None:
                torch.autograd.grad(output, feature, gradient)

        return run

    step = _plain_step(scale, images, labels)
    idle = {place: bare(feature) for place, feature in features.items()}
    cases = {(name, place, "ours"): ours(m, place) for name, m in methods.items() for place in features}
    if scale.more:
        cases |= {(name, place, "authors"): published(name, place) for name in methods for place in features}
    for run in (step, *idle.values(), *cases.values()):
        run()
    added: dict[tuple[str, str], list[float]] = {(name, who): [] for name, _, who in cases}
    for _ in range(scale.steps):
        whole = seconds(step)
        without = {place: median(seconds(run) for _ in range(3)) for place, run in idle.items()}
        times = {
            key: median(seconds(run) for _ in range(3 if key[2] == "ours" else 1))
            for key, run in cases.items()
        }
        for (name, who), percent in added.items():
            own = [times[name, place, who] - without[place] for place in features]
            percent.append(100 * mean(own) / whole)
    return [
        Row(
            "step",
            f"{name}, ResNet-18, batch {scale.batch}",
            "% of the step",
            Spread.of(added[name, "ours"]),
            {"authors' form": Spread.of(added[name, "authors"])} if scale.more else {},
            STEP_LIMITS[name],
        )
        for name in methods
    ]


def _plain_step(scale: Scale, images: Tensor, labels: Tensor) -> Callable[[], None]:
    model = ResNet18(scale.width, CLASSES)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def run() -> None:
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return run


def small_rows(scale: Scale) -> list[Row]:
    """Idle hooks, the audit, and the drawing of plans; on one thread."""
    model, images = ResNet18(scale.width, CLASSES), torch.randn(1, 3, scale.size, scale.size)
    plain, wrapped = Stub(), wrap(Stub(), ManifoldMixup(), layers=["input", "layer1", "layer2"], trust=True)
    model.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine would time the waiting
    with torch.no_grad():
        forward = interleave({"forward": lambda: model(images)}, scale.rounds)["forward"]
    rows = []
    for what, training in (("eval", False), ("training, no target", True)):
        plain.train(training)
        wrapped.train(training)
        calls = interleave(
            {"plain": lambda: plain(images), "wrapped": lambda: wrapped(images)}, 10 * scale.rounds, repeat=20
        )
        extra = [after - before for after, before in zip(calls["wrapped"], calls["plain"], strict=True)]
        rows.append(Row("idle hooks", what, "us a forward", Spread.of([1e6 * t for t in extra])))
        share = Spread.of([100 * t / median(forward) for t in extra])
        rows.append(Row("idle hooks", f"{what}, batch of one", "% of forward", share, limit=IDLE_LIMIT))
    three = torch.randn(3, 3, scale.size, scale.size)
    audits = interleave({"audit": lambda: audit(model, three)}, min(scale.rounds, 9))["audit"]
    rows.append(Row("audit", "ResNet-18, batch of 3", "seconds", Spread.of(audits), limit=AUDIT_LIMIT))
    torch.set_num_threads(threads)
    methods = {
        "Mixup": Mixup(),
        "CutMix": CutMix(),
        "Manifold Mixup": ManifoldMixup(),
        "PatchUp hard": PatchUp(),
        "PatchUp soft": PatchUp(mode="soft"),
    }
    drawn = interleave(
        {name: _plans(method, scale.batch) for name, method in methods.items()}, 10 * scale.rounds, repeat=5
    )
    return rows + [
        Row("plan", f"{name}, batch {scale.batch}", "us", Spread.of([1e6 * t for t in times]))
        for name, times in drawn.items()
    ]


def _plans(method: Method, batch: int) -> Callable[[], object]:
    steps = iter(range(10**9))
    return lambda: method.plan(step=next(steps), batch_size=batch, places=("input", "layer1", "layer2"))
