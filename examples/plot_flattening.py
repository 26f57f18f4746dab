"""Does mixing flatten hidden representations?
===========================================

Manifold Mixup's claim: mixed at a hidden layer, each class lies in fewer directions there. The paper's setting in
small: a fully connected network with a hidden layer of twelve units, MNIST, and the singular values of each class's
hidden states. `--full` runs what docs/evidence/flattening.md reports; without it the run takes seconds.
"""

# %%
# .. figure:: /pictures/flattening.png
#
#    What `--full` drew. What it says: :doc:`/evidence/flattening`.

# sphinx_gallery_thumbnail_path = "pictures/flattening.png"

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
from evidence.networks import parts, pictures
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Mixup
from mixlayers.torch import cross_entropy, unwrap, wrap

UNITS = 12
QUICK = {
    "data": "mnist5k",
    "labels": [100],
    "methods": ["plain", "Manifold Mixup"],
    "steps": 300,
    "tested": 500,
    "seeds": 1,
}
FULL = {
    "data": "mnist5k",
    "labels": [300],
    "methods": ["plain", "weight decay", "dropout", "Mixup", "Manifold Mixup"],
    "steps": 1000,
    "tested": 1000,
    "seeds": 5,
}
MIXING = {
    "Mixup": (Mixup(), "input"),
    "Manifold Mixup": (ManifoldMixup(), ["bottleneck"]),
}
COLOURS = {
    "plain": "#000000",
    "weight decay": "#56B4E9",
    "dropout": "#CC79A7",
    "Mixup": "#E69F00",
    "Manifold Mixup": "#009E73",
}


class Net(nn.Module):
    """Pictures of so many numbers to logits (N, 10), through twelve hidden units."""

    def __init__(self, dropout: float, pixels: int) -> None:
        super().__init__()
        self.early = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 128), nn.ReLU(), nn.Dropout(dropout)
        )
        self.bottleneck = nn.Linear(128, UNITS)
        self.late = nn.Sequential(
            nn.ReLU(),
            nn.Linear(UNITS, 128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.bottleneck(self.early(x)))


def jobs(settings: Job, seed: int) -> list[Job]:
    return [
        {"labels": n, "method": name}
        for n in settings["labels"]
        for name in settings["methods"]
    ]


def work(job: Job, settings: Job) -> Run:
    """Train, then take the singular values of each class's hidden training states."""
    data, name, seed, steps = (
        pictures(settings["data"]),
        job["method"],
        job["seed"],
        settings["steps"],
    )
    rows = parts(data, job["labels"], seed, settings["tested"])
    x, y = (
        torch.from_numpy(data.take(rows.train)),
        torch.from_numpy(data.labels[rows.train]),
    )
    torch.manual_seed(seed)
    net = Net(0.5 if name == "dropout" else 0.0, data.images[0].size)
    mixing, layers = MIXING.get(name, (None, ()))
    if mixing is not None:
        wrap(net, mixing, layers=layers, seed=seed)
    decay = 5e-3 if name == "weight decay" else 0.0
    optimizer = torch.optim.SGD(
        net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps)
    draw = np.random.default_rng([seed, 8])
    for _ in range(steps):
        batch = torch.from_numpy(draw.choice(len(y), 100, replace=False))
        output, target = (
            (net(x[batch]), y[batch])
            if mixing is None
            else net(x[batch], target=y[batch])
        )
        optimizer.zero_grad()
        cross_entropy(output, target).backward()
        optimizer.step()
        schedule.step()
    if mixing is not None:
        unwrap(net)
    net.eval()
    with torch.no_grad():
        hidden = net.bottleneck(net.early(x)).double().numpy()
        right = (
            net(torch.from_numpy(data.take(rows.test))).argmax(dim=1).numpy()
            == data.labels[rows.test]
        )
    own = [hidden[y.numpy() == label] for label in range(10)]
    as_they_are = np.mean([np.linalg.svd(h, compute_uv=False) for h in own], axis=0)
    centred = np.mean(
        [np.linalg.svd(h - h.mean(axis=0), compute_uv=False) for h in own], axis=0
    )
    share = centred**2 / (centred**2).sum()
    within = (
        sum(((h - h.mean(axis=0)) ** 2).sum() for h in own)
        / ((hidden - hidden.mean(axis=0)) ** 2).sum()
    )
    return {
        "accuracy": float(right.mean()),
        "values": as_they_are.round(4).tolist(),
        "centred": centred.round(4).tolist(),
        "largest": float(as_they_are[0]),
        "rest": float(as_they_are[1:].sum()),
        "ratio": float(as_they_are[1:].sum() / as_they_are[0]),
        "rank": float(np.exp(-(share * np.log(share + 1e-300)).sum())),
        "within": float(within),
    }


def tables(record: Record) -> str:
    """The paper's largest singular value and sum of the rest, and scale-free measures."""
    settings = record["settings"]
    heads = [
        "training",
        "test %",
        "largest value",
        "sum of the rest",
        "rest / largest",
        "effective rank around the mean",
        "within-class share, %",
    ]
    scale = {
        "accuracy": (1, 100.0),
        "largest": (1, 1.0),
        "rest": (1, 1.0),
        "ratio": (2, 1.0),
        "rank": (1, 1.0),
        "within": (1, 100.0),
    }
    found = []
    for n in settings["labels"]:
        rows = [
            [
                method,
                *(
                    spread(of(record["runs"], key, method=method, labels=n), *how)
                    for key, how in scale.items()
                ),
            ]
            for method in settings["methods"]
        ]
        title = (
            f"Hidden states of a class, mean of ten classes: {n} labels per class, "
            f"{settings['seeds']} seeds"
        )
        found.append(table(title, heads, rows))
    return "\n\n".join(found)


def claims(record: Record) -> list[Claim]:
    settings = record["settings"]

    def smallest(key: str) -> bool:
        means = {
            name: of(record["runs"], key, method=name).mean()
            for name in settings["methods"]
        }
        return min(means, key=means.__getitem__) == "Manifold Mixup"

    return [
        (
            "With Manifold Mixup the other singular values are smallest, compared "
            "with the largest.",
            smallest("ratio"),
        ),
        (
            "With Manifold Mixup the classes are narrowest, compared with the "
            "whole layer.",
            smallest("within"),
        ),
    ]


def draw(record: Record) -> Figure:
    """Singular values in order: as they are, and around the class's mean, scaled."""
    settings = record["settings"]
    fig = figure(10.0, 4.2)
    for axes, key in zip(fig.subplots(1, 2), ("values", "centred"), strict=True):
        for method in settings["methods"]:
            values = of(
                record["runs"], key, method=method, labels=settings["labels"][0]
            )
            if key == "centred":
                values = values / values[:, :1]
            mean = values.mean(axis=0)
            axes.plot(
                range(1, UNITS + 1),
                mean,
                "o-",
                color=COLOURS[method],
                markersize=4,
                label=method,
            )
        axes.set_xlabel("singular value, largest first", fontsize=11)
        axes.set_xticks(range(1, UNITS + 1))
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(
            "as they are"
            if key == "values"
            else "around the class's mean, over the largest",
            loc="left",
            fontsize=12,
        )
    axes.legend(frameon=False, fontsize=11)
    return fig


STUDY = Study("flattening", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
