"""Under attack and deformed: FGSM, PGD, rotation, shear, zoom
============================================================

The few-label networks, tested on images that were changed to mislead them, and on images that were turned, sheared or
zoomed. `--full` runs what docs/evidence/attacks.md reports; without it the run takes seconds and ranks nothing.
"""

# %%
# .. figure:: /pictures/attacks.png
#
#    What `--full` drew. What it says: :doc:`/evidence/attacks`.

# sphinx_gallery_thumbnail_path = "pictures/attacks.png"

import numpy as np
import torch
from evidence import (
    Claim,
    Figure,
    Job,
    Record,
    Run,
    Study,
    figure,
    main,
    of,
    spread,
    table,
)
from evidence.networks import parts, pictures, trained
from torch import Tensor, nn
from torch.nn import functional as F

from mixlayers.cli.methods import COMPARED, METHODS
from mixlayers.cli.score import accuracy
from mixlayers.cli.torch_side import fgsm, predict

QUICK = {
    "data": "mnist5k",
    "labels": [10],
    "methods": ["plain", "manifold"],
    "steps": 40,
    "tested": 100,
    "seeds": 1,
}
FULL = {
    "data": "mnist5k",
    "labels": [20],
    "methods": list(COMPARED),
    "steps": 200,
    "tested": 300,
    "seeds": 3,
}
ATTACKS = {
    "clean": "clean",
    "fgsm 0.05": "FGSM 0.05",
    "fgsm 0.1": "FGSM 0.1",
    "pgd 0.05": "PGD 0.05",
    "pgd 0.3": "PGD 0.3",
}
DEFORMATIONS = {
    "turn 20": "turned ≤ 20°",
    "turn 40": "turned ≤ 40°",
    "shear 28.6": "sheared ≤ 28.6°",
    "shear 57.3": "sheared ≤ 57.3°",
    "zoom 0.6": "zoom 0.6",
    "zoom 0.8": "zoom 0.8",
    "zoom 1.2": "zoom 1.2",
    "zoom 1.4": "zoom 1.4",
}


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int = 10
) -> Tensor:
    """Projected gradient descent (Madry et al., ICLR 2018), begun at the images."""
    moved = images.clone()
    for _ in range(steps):
        moved.requires_grad_()
        (gradient,) = torch.autograd.grad(
            F.cross_entropy(model(moved), labels), moved
        )
        moved = moved.detach() + epsilon / 4 * gradient.sign()
        moved = torch.clamp(
            torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon),
            0.0,
            1.0,
        )
    return moved


def deformed(images: Tensor, kind: str, amount: float, seed: int) -> Tensor:
    """Images turned or sheared by up to the amount in degrees, or zoomed by it."""
    draw = np.random.default_rng([seed, 9])
    angle = torch.from_numpy(np.radians(draw.uniform(-amount, amount, len(images))))
    one, zero = torch.ones(len(images)), torch.zeros(len(images))
    rows = {
        "turn": (angle.cos(), -angle.sin(), angle.sin(), angle.cos()),
        "shear": (one, angle.tan(), zero, one),
        "zoom": (one / amount, zero, zero, one / amount),
    }[kind]
    across, up = (
        torch.stack([rows[0], rows[1], zero], dim=1),
        torch.stack([rows[2], rows[3], zero], dim=1),
    )
    matrix = torch.stack([across, up], dim=1).float()
    return F.grid_sample(
        images,
        F.affine_grid(matrix, list(images.shape), align_corners=False),
        align_corners=False,
    )


def jobs(settings: Job, seed: int) -> list[Job]:
    return [
        {"labels": n, "method": name}
        for n in settings["labels"]
        for name in settings["methods"]
    ]


def work(job: Job, settings: Job) -> Run:
    data, entry = pictures(settings["data"]), METHODS[job["method"]]
    rows = parts(data, job["labels"], job["seed"], settings["tested"])
    network = trained(
        entry.method, entry.layers, data, rows, job["seed"], settings["steps"]
    )
    images, labels = (
        torch.from_numpy(array)
        for array in (data.take(rows.test), data.labels[rows.test])
    )
    scores = {}
    for name in (*ATTACKS, *DEFORMATIONS):
        kind, _, amount = name.partition(" ")
        changed = images
        if kind in ("fgsm", "pgd"):
            changed = {"fgsm": fgsm, "pgd": pgd}[kind](
                network, images, labels, float(amount)
            )
        elif kind != "clean":
            changed = deformed(images, kind, float(amount), job["seed"])
        scores[name] = accuracy(predict(network, changed), labels.numpy())
    return scores


def tables(record: Record) -> str:
    """Accuracy in per cent, under attack and deformed."""
    found = []
    for kind, names in (("Under attack", ATTACKS), ("Deformed", DEFORMATIONS)):
        for n in record["settings"]["labels"]:
            rows = [
                [
                    METHODS[method].title,
                    *(
                        spread(
                            of(record["runs"], name, method=method, labels=n),
                            1,
                            100.0,
                        )
                        for name in names
                    ),
                ]
                for method in record["settings"]["methods"]
            ]
            title = (
                f"{kind}: accuracy in %, {n} labels per class, "
                f"{record['settings']['seeds']} seeds"
            )
            found.append(table(title, ["method", *names.values()], rows))
    return "\n\n".join(found)


def claims(record: Record) -> list[Claim]:
    runs, settings = record["runs"], record["settings"]
    stronger = all(run["pgd 0.05"] <= run["fgsm 0.05"] + 0.01 for run in runs)
    broken = all(run["pgd 0.3"] < 0.1 for run in runs)
    found = [
        (
            "PGD leaves no more right than FGSM of the same strength, give or take "
            "a point, in every run.",
            stronger,
        ),
        (
            "PGD at 0.3 leaves less than 10 % right in every run: no network hides "
            "its gradient.",
            broken,
        ),
    ]
    if settings["steps"] < FULL["steps"]:
        return found
    left = {
        name: of(runs, "fgsm 0.05", method=name).mean()
        for name in ("plain", "mixup", "manifold")
    }
    withstands = left["plain"] < min(left["mixup"], left["manifold"])
    return [
        *found,
        (
            "FGSM at 0.05 leaves more right after Mixup and Manifold Mixup than "
            "after plain training.",
            withstands,
        ),
    ]


def draw(record: Record) -> Figure:
    """Mean accuracy of every method in every test; bars are standard deviations."""
    settings = record["settings"]
    fig = figure(10.0, 6.8)
    for axes, names in zip(fig.subplots(2, 1), (ATTACKS, DEFORMATIONS), strict=True):
        for place, method in enumerate(settings["methods"]):
            entry = METHODS[method]
            values = [
                100
                * of(
                    record["runs"], name, method=method, labels=settings["labels"][0]
                )
                for name in names
            ]
            x = np.arange(len(names)) + 0.11 * (
                place - (len(settings["methods"]) - 1) / 2
            )
            bars = [value.std(ddof=1) if len(value) > 1 else 0.0 for value in values]
            means = [value.mean() for value in values]
            axes.errorbar(
                x,
                means,
                bars,
                fmt="o",
                color=entry.colour,
                markersize=6,
                linewidth=1.5,
                label=entry.title,
            )
        axes.set_xticks(
            range(len(names)),
            [name.replace(" ", "\n", 1) for name in names.values()],
            fontsize=11,
        )
        axes.set_ylabel("accuracy, %", fontsize=11)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    fig.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center",
        ncols=6,
        frameon=False,
        fontsize=11,
    )
    return fig


STUDY = Study("attacks", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
