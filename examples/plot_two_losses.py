"""PatchUp's two losses are one
============================

PatchUp's paper adds a loss of two terms, weighed by the share of features that were replaced, to a loss of a
reweighted target. For every loss that is affine in the target they are the same number with the same gradient. This
computes both for a network and its gradients, in double precision, and shows two losses for which they differ.
"""

from collections.abc import Callable

import numpy as np
import torch
from evidence import Claim, Figure, Job, Record, Run, Study, figure, main, of, table
from torch import Tensor
from torch.nn import functional as F

from mixlayers import PatchUp
from mixlayers.cli.network import initial_weights
from mixlayers.cli.torch_side import SmallResNet
from mixlayers.torch import Mixer

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "cross-entropy": F.cross_entropy,
    "cross-entropy, smoothing 0.1": lambda z, t: F.cross_entropy(
        z, t, label_smoothing=0.1
    ),
    "binary cross-entropy of the softmax (published)": lambda z, t: (
        F.binary_cross_entropy(z.softmax(1), t)
    ),
    "squared error of the softmax": lambda z, t: F.mse_loss(z.softmax(1), t),
    "absolute error of the softmax": lambda z, t: F.l1_loss(z.softmax(1), t),
}
AFFINE = list(LOSSES)[:3]
QUICK = {"modes": ["hard", "soft"], "losses": list(LOSSES), "batch": 16, "seeds": 3}
FULL = {**QUICK, "batch": 50, "seeds": 5}


def jobs(settings: Job, seed: int) -> list[Job]:
    return [
        {"mode": mode, "loss": loss}
        for mode in settings["modes"]
        for loss in settings["losses"]
    ]


def work(job: Job, settings: Job) -> Run:
    """Both published terms, and the blended target's one, for the same step."""
    seed, loss, batch = job["seed"], LOSSES[job["loss"]], settings["batch"]
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.random((batch, 1, 28, 28)))
    labels = torch.from_numpy(rng.integers(0, 10, batch))
    network = SmallResNet(8).double()
    start = {
        name: torch.from_numpy(value).double()
        for name, value in initial_weights(seed, 8).items()
    }
    network.load_state_dict(start, strict=False)
    mixer = Mixer(
        network, PatchUp(job["mode"], loss_scale=2.0), layers=["layer1"], seed=seed
    )
    with mixer(labels) as target:
        logits = network(images)
    ours = target.loss_scale * target.blend(
        lambda y: loss(logits, F.one_hot(y, 10).double())
    )

    blend = target.plan.blend((batch, 8, 14, 14))
    y, partner = (
        F.one_hot(some, 10).double()
        for some in (labels, labels[torch.from_numpy(blend.perm)])
    )
    changed, lam = float(blend.mask.mean()), float(blend.lam)
    under_blocks = lam * y + (1 - lam) * partner  # the authors' target_b
    reweighted = (1 - changed) * y + changed * under_blocks
    first = (1 - changed) * loss(logits, y) + changed * loss(logits, under_blocks)
    second = loss(logits, reweighted)

    def gradient(value: Tensor) -> Tensor:
        found = torch.autograd.grad(
            value, list(network.parameters()), retain_graph=True
        )
        return torch.cat([each.flatten() for each in found])

    of_first, of_second = gradient(first), gradient(second)
    return {
        "changed": changed,
        "lam": lam,
        "first": first.item(),
        "second": second.item(),
        "value": (first - second).abs().item(),
        "gradient": (
            (of_first - of_second).abs().max() / of_second.abs().max()
        ).item(),
        "ours": (ours - first - second).abs().item(),
    }


def tables(record: Record) -> str:
    """The largest differences over the seeds."""
    heads = [
        "mode",
        "loss",
        "first term",
        "second term",
        "largest difference",
        "in the gradient, relative",
    ]
    rows = []
    for mode in record["settings"]["modes"]:
        for loss in record["settings"]["losses"]:
            own = {
                key: of(record["runs"], key, mode=mode, loss=loss)
                for key in ("first", "second", "value", "gradient")
            }
            rows.append(
                [
                    mode,
                    loss,
                    f"{own['first'][0]:.10f}",
                    f"{own['second'][0]:.10f}",
                    magnitude(own["value"].max()),
                    magnitude(own["gradient"].max()),
                ]
            )
    seeds = record["settings"]["seeds"]
    title = (
        "Both terms of a step at layer1 (of seed 0), and how far they are apart in "
        f"{seeds} seeds"
    )
    return table(title, heads, rows)


def magnitude(value: float) -> str:
    """Rounding errors differ between machines: print only that they are such."""
    return "< 1e-12" if value < 1e-12 else f"{value:.1e}"


def claims(record: Record) -> list[Claim]:
    affine = [run for run in record["runs"] if run["loss"] in AFFINE]
    other = [run for run in record["runs"] if run["loss"] not in AFFINE]
    equal = all(run["value"] < 1e-12 and run["gradient"] < 1e-12 for run in affine)
    twice = all(run["ours"] < 1e-12 for run in affine)
    return [
        (
            "For every loss that is affine in the target both terms and their "
            "gradients are equal.",
            equal,
        ),
        ("loss_scale=2 gives their sum.", twice),
        (
            "For the squared and the absolute error the terms are not equal.",
            all(run["value"] > 1e-6 for run in other),
        ),
        (
            "For the squared error their gradients still are; for the absolute "
            "error they are not.",
            all(
                (run["gradient"] < 1e-12) == ("squared" in run["loss"])
                for run in other
            ),
        ),
    ]


def draw(record: Record) -> Figure:
    """First term against second, for every run."""
    fig = figure(5.2, 4.8)
    axes = fig.subplots()
    markers = dict(zip(LOSSES, "os^Dv", strict=True))
    for loss, marker in markers.items():
        first, second = (
            of(record["runs"], key, loss=loss) for key in ("first", "second")
        )
        axes.plot(first, second, marker, markersize=6, label=loss, alpha=0.8)
    axes.set(xscale="log", yscale="log", xlabel="first term", ylabel="second term")
    axes.axline((0.1, 0.1), (1.0, 1.0), color="#999999", linewidth=1, zorder=0)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return fig


STUDY = Study("two_losses", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
