"""Two spirals: what mixing does to a decision boundary and to the hidden space
============================================================================

Manifold Mixup's Figure 1: two interleaved spirals, a network with a hidden layer of two units, and the same network
trained plainly, with Mixup at the input, and with Manifold Mixup at the layer of two units. `--full` runs what
docs/evidence/spirals.md reports; without it one seed is trained briefly.
"""

# %%
# .. figure:: /pictures/spirals.png
#
#    What `--full` drew. What it says: :doc:`/evidence/spirals`.

# sphinx_gallery_thumbnail_path = "pictures/spirals.png"

from functools import cache

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
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Mixup
from mixlayers.torch import cross_entropy, unwrap, wrap

QUICK = {
    "methods": ["plain", "Mixup", "Manifold Mixup"],
    "steps": 300,
    "points": 300,
    "seeds": 1,
}
FULL = {**QUICK, "steps": 1000, "seeds": 5}
MIXING = {
    "plain": (None, ()),
    "Mixup": (Mixup(), "input"),
    "Manifold Mixup": (ManifoldMixup(), ["bottleneck"]),
}
EDGE = 1.3
BLUE, ORANGE = "#0B5FA5", "#C4500A"
MAP = LinearSegmentedColormap.from_list(
    "classes", ["#3D8FD1", "#A9CFEE", "#FFFFFF", "#FBCB9F", "#EB8A3C"]
)


class Net(nn.Module):
    """Points (N, 2) to logits (N, 2), through a hidden layer of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(
            *(part for n in (2, 64, 64) for part in (nn.Linear(n, 64), nn.ReLU()))
        )
        self.bottleneck = nn.Linear(64, 2)
        self.late = nn.Sequential(
            nn.Linear(2, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.bottleneck(self.early(x)))


def spirals(points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (N, 2) of two noisy spirals of one and a half turns, and their labels."""
    rng = np.random.default_rng([seed, 7])
    labels = np.arange(points) % 2
    radius = np.sqrt(rng.random(points))
    angle = 3 * np.pi * radius + np.pi * labels
    places = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    places += 0.03 * rng.standard_normal(places.shape)
    return torch.from_numpy(places.astype(np.float32)), torch.from_numpy(labels)


@cache
def trained(method: str, seed: int, points: int, steps: int) -> Net:
    mixing, layers = MIXING[method]
    x, y = spirals(points, seed)
    torch.manual_seed(seed)
    net = Net()
    if mixing is not None:
        wrap(net, mixing, layers=layers, seed=seed)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
    draw = np.random.default_rng([seed, 8])
    for _ in range(steps):
        rows = torch.from_numpy(draw.choice(points, 100, replace=False))
        output, target = (
            (net(x[rows]), y[rows])
            if mixing is None
            else net(x[rows], target=y[rows])
        )
        optimizer.zero_grad()
        cross_entropy(output, target).backward()
        optimizer.step()
        schedule.step()
    return unwrap(net).eval() if mixing is not None else net.eval()


def chances(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).softmax(dim=1)


def grid(
    across: tuple[float, float], up: tuple[float, float], side: int = 150
) -> Tensor:
    axes = np.meshgrid(np.linspace(*across, side), np.linspace(*up, side))
    return torch.from_numpy(np.stack(axes, axis=-1).reshape(-1, 2).astype(np.float32))


def jobs(settings: Job, seed: int) -> list[Job]:
    return [{"method": method} for method in settings["methods"]]


def work(job: Job, settings: Job) -> Run:
    net = trained(job["method"], job["seed"], settings["points"], settings["steps"])
    x, y = spirals(settings["points"], job["seed"])
    unseen, labels = spirals(2000, 1000 + job["seed"])
    with torch.no_grad():
        hidden = net.bottleneck(net.early(x)).numpy()
    spread_of_all = ((hidden - hidden.mean(axis=0)) ** 2).sum()
    own = [hidden[y.numpy() == label] for label in (0, 1)]
    within = sum(((h - h.mean(axis=0)) ** 2).sum() for h in own)
    sure = chances(net, grid((-EDGE, EDGE), (-EDGE, EDGE))).amax(dim=1) > 0.9
    tested = chances(net, unseen)
    return {
        "train": float((chances(net, x).argmax(dim=1) == y).float().mean()),
        "test": float((tested.argmax(dim=1) == labels).float().mean()),
        "nll": float(
            -tested[torch.arange(len(labels)), labels].clamp_min(1e-12).log().mean()
        ),
        "sure": float(sure.float().mean()),
        "within": float(within / spread_of_all),
    }


def tables(record: Record) -> str:
    """Accuracy, the share of the plane that is sure, and the classes' width inside."""
    heads = [
        "training",
        "train %",
        "test %",
        "test NLL",
        "area with confidence > 0.9, %",
        "within-class share, %",
    ]
    scale = {
        "train": (1, 100.0),
        "test": (1, 100.0),
        "nll": (3, 1.0),
        "sure": (1, 100.0),
        "within": (1, 100.0),
    }
    rows = [
        [
            method,
            *(
                spread(of(record["runs"], key, method=method), *how)
                for key, how in scale.items()
            ),
        ]
        for method in record["settings"]["methods"]
    ]
    return table(f"Two spirals, {record['settings']['seeds']} seeds", heads, rows)


def claims(record: Record) -> list[Claim]:
    runs = record["runs"]
    plain, mixup, manifold = (
        {
            key: of(runs, key, method=method).mean()
            for key in ("test", "sure", "within")
        }
        for method in MIXING
    )
    fitted = record["settings"]["steps"] < FULL["steps"] or (
        plain["test"] > 0.98 and manifold["test"] > 0.98
    )
    return [
        (
            "Plain training and Manifold Mixup both get more than 98 % of unseen "
            "points right.",
            fitted,
        ),
        (
            "Mixup at the input gets fewer points right than Manifold Mixup.",
            mixup["test"] < manifold["test"],
        ),
        (
            "With Manifold Mixup less of the plane has a confidence above 0.9 than "
            "with plain training.",
            manifold["sure"] < plain["sure"],
        ),
        (
            "With Manifold Mixup the classes are narrower in the hidden space than "
            "with the other two.",
            manifold["within"] < min(plain["within"], mixup["within"]),
        ),
    ]


def draw(record: Record) -> Figure:
    """Above the plane, below the hidden space; the colour is the network's belief."""
    settings = record["settings"]
    x, y = spirals(settings["points"], 0)
    fig = figure(10.0, 7.3)
    panes = fig.subplots(2, 3)
    for (top, low), method in zip(panes.T, settings["methods"], strict=True):
        net = trained(method, 0, settings["points"], settings["steps"])
        with torch.no_grad():
            hidden = net.bottleneck(net.early(x))
        middle = (hidden.amax(dim=0) + hidden.amin(dim=0)) / 2
        reach = 0.62 * float((hidden.amax(dim=0) - hidden.amin(dim=0)).max())
        window = [(float(m) - reach, float(m) + reach) for m in middle]
        run = next(
            run
            for run in record["runs"]
            if run["method"] == method and run["seed"] == 0
        )
        paint(top, net, [(-EDGE, EDGE)] * 2, x, y)
        paint(low, net.late, window, hidden, y)
        top.set_title(method, fontsize=15, fontweight="bold")
        top.set_xlabel(
            f"{run['test']:.1%} right\nconfident in {run['sure']:.0%} of the area",
            fontsize=12,
        )
    panes[0, 0].set_ylabel("the plane", fontsize=13)
    panes[1, 0].set_ylabel("the hidden layer of two units", fontsize=13)
    return fig


def paint(
    axes,
    model: nn.Module,
    window: list[tuple[float, float]],
    points: Tensor,
    labels: Tensor,
) -> None:
    belief = chances(model, grid(*window))[:, 1].view(150, 150).numpy()
    extent = (*window[0], *window[1])
    axes.imshow(
        belief,
        origin="lower",
        extent=extent,
        cmap=MAP,
        vmin=0.0,
        vmax=1.0,
        interpolation="bilinear",
        aspect="auto",
    )
    axes.contour(
        belief, levels=[0.5], extent=extent, colors="#333333", linewidths=1.2
    )
    for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
        own = points[labels == label]
        axes.scatter(
            *own.T, s=17, c=colour, marker=marker, edgecolors="white", linewidths=0.5
        )
    axes.set(xticks=[], yticks=[], xlim=window[0], ylim=window[1])
    axes.spines[:].set_color("#999999")


STUDY = Study("spirals", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
