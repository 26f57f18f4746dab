"""Which layers, how much: Manifold Mixup's two choices
======================================================

Few-label networks trained with Manifold Mixup at other sets of layers, and with other alphas. `--full` runs what
docs/evidence/ablations.md reports; without it the run takes seconds and ranks nothing.
"""

# %%
# .. figure:: /pictures/ablations.png
#
#    What `--full` drew. What it says: :doc:`/evidence/ablations`.

# sphinx_gallery_thumbnail_path = "pictures/ablations.png"

import numpy as np
from evidence import Claim, Figure, Job, Record, Run, Study, figure, main, of
from evidence.compared import NOTE, comparison, having, is_sure
from evidence.networks import parts, pictures, scored, trained

from mixlayers import ManifoldMixup

DEFAULT = "input, layer1, layer2"
QUICK = {
    "data": "mnist5k",
    "labels": [10],
    "sets": ["none", DEFAULT],
    "alphas": [0.2],
    "steps": 40,
    "tested": 500,
    "seeds": 1,
}
FULL = {
    "data": "mnist5k",
    "labels": [20],
    "sets": [
        "none",
        "input",
        "layer1",
        "layer2",
        "layer3",
        "input, layer1",
        DEFAULT,
        "input, layer1, layer2, layer3",
    ],
    "alphas": [0.1, 0.2, 1.0, 4.0],
    "steps": 200,
    "tested": 4000,
    "seeds": 3,
}


def jobs(settings: Job, seed: int) -> list[Job]:
    """Every set at alpha 2, every other alpha at the default set."""
    cases = [(layers, 2.0) for layers in settings["sets"]] + [
        (DEFAULT, alpha) for alpha in settings["alphas"]
    ]
    return [
        {"labels": n, "layers": layers, "alpha": alpha}
        for n in settings["labels"]
        for layers, alpha in cases
    ]


def work(job: Job, settings: Job) -> Run:
    data = pictures(settings["data"])
    rows = parts(data, job["labels"], job["seed"], settings["tested"])
    layers = () if job["layers"] == "none" else tuple(job["layers"].split(", "))
    method = ManifoldMixup(job["alpha"]) if layers else None
    network = trained(method, layers, data, rows, job["seed"], settings["steps"])
    return scored(network, data, rows)


def alphas(settings: Job) -> list[float]:
    return sorted({2.0, *settings["alphas"]})


def tables(record: Record) -> str:
    """Accuracy, likelihood and calibration, before and after temperature scaling."""
    settings = record["settings"]
    found = []
    for n in settings["labels"]:
        plain = having(record["runs"], labels=n, layers="none")
        cases = {
            "layers (alpha 2)": [
                (layers, layers, 2.0) for layers in settings["sets"]
            ],
            f"alpha ({DEFAULT})": [
                (f"{alpha:g}", DEFAULT, alpha) for alpha in alphas(settings)
            ],
        }
        for head, lines in cases.items():
            rows = {
                title: having(record["runs"], labels=n, layers=layers, alpha=alpha)
                for title, layers, alpha in lines
            }
            title = f"{n} labels per class, {settings['seeds']} seeds"
            found.append(comparison(title, head, {"none": plain} | rows, base="none"))
    return "\n\n".join([*found, NOTE])


def claims(record: Record) -> list[Claim]:
    runs, settings = record["runs"], record["settings"]
    found = [
        (
            "Every network does better than guessing.",
            all(run["accuracy"] > 0.15 for run in runs),
        )
    ]
    if settings["steps"] < FULL["steps"]:
        return found

    def case(layers: str, n: int) -> list[Run]:
        return having(runs, labels=n, layers=layers, alpha=2.0)

    deep = ("layer2", "layer3")
    return [
        *found,
        (
            "Mixing at layer2 or layer3 alone is surely more accurate than plain "
            "training, and surely likelier after "
            "temperature scaling.",
            all(
                is_sure(case(layers, n), case("none", n), key)
                for layers in deep
                for key in ("accuracy", "scaled_nll")
                for n in settings["labels"]
            ),
        ),
        (
            "Mixing at the input alone is neither.",
            not any(
                is_sure(case("input", n), case("none", n), key)
                for key in ("accuracy", "scaled_nll")
                for n in settings["labels"]
            ),
        ),
    ]


def draw(record: Record) -> Figure:
    """Gain in accuracy of every seed, and its mean; left the sets, right the alphas."""
    settings = record["settings"]
    n = settings["labels"][0]
    plain = of(record["runs"], "accuracy", labels=n, layers="none")
    sets = [
        (layers.replace(", ", "\n"), layers, 2.0)
        for layers in settings["sets"]
        if layers != "none"
    ]
    fig = figure(10.0, 4.6)
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.4, 1))
    for axes, cases in (
        (left, sets),
        (right, [(f"{alpha:g}", DEFAULT, alpha) for alpha in alphas(settings)]),
    ):
        for place, (_, layers, alpha) in enumerate(cases):
            gain = 100 * (
                of(record["runs"], "accuracy", labels=n, layers=layers, alpha=alpha)
                - plain
            )
            axes.bar(place, gain.mean(), 0.7, color="#7FC9B3", edgecolor="#009E73")
            axes.plot(
                np.full(len(gain), place), gain, "o", color="#00513B", markersize=4
            )
        axes.axhline(0.0, color="#333333", linewidth=0.8)
        axes.set_xticks(range(len(cases)), [case[0] for case in cases], fontsize=10)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("gain in accuracy over plain, points", fontsize=11)
    left.set_title("where it mixes (alpha 2)", loc="left", fontsize=12)
    right.set_title(f"alpha ({DEFAULT})", loc="left", fontsize=12)
    return fig


STUDY = Study("ablations", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
