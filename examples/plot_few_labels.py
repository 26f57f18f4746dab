"""Few labels: accuracy, likelihood and calibration
=================================================

What each method gains over plain training when there are 10, 20 or 50 labelled images per class. `--full` runs what
docs/evidence/few_labels.md reports, `--full --data fashion` the same on Fashion-MNIST (Debian's package
dataset-fashion-mnist); without it the run takes seconds and ranks nothing.
"""

# %%
# .. figure:: /pictures/few_labels.png
#
#    What `--full` drew. What it says: :doc:`/evidence/few_labels`.

# sphinx_gallery_thumbnail_path = "pictures/few_labels.png"

import numpy as np
from evidence import Claim, Figure, Job, Record, Run, Study, figure, main, of
from evidence.compared import NOTE, comparison, having, is_sure
from evidence.networks import parts, pictures, scored, trained

from mixlayers.cli.data import title_of
from mixlayers.cli.methods import COMPARED, METHODS

QUICK = {
    "data": "mnist5k",
    "labels": [10],
    "methods": ["plain", "manifold"],
    "steps": 40,
    "tested": 500,
    "seeds": 1,
}
FULL = {
    "data": "mnist5k",
    "labels": [10, 20, 50],
    "methods": list(COMPARED),
    "steps": 200,
    "tested": 4000,
    "seeds": 5,
}


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
    return scored(network, data, rows)


def tables(record: Record) -> str:
    """Accuracy, likelihood and calibration, before and after temperature scaling."""
    settings = record["settings"]
    found = []
    for n in settings["labels"]:
        rows = {
            METHODS[name].title: having(record["runs"], labels=n, method=name)
            for name in settings["methods"]
        }
        data, seeds = title_of(settings["data"]), settings["seeds"]
        title = f"{data}, {n} labels per class, {seeds} seeds"
        found.append(comparison(title, "method", rows))
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

    def better(name: str, n: int, measure: str) -> bool:
        return is_sure(
            having(runs, labels=n, method=name),
            having(runs, labels=n, method="plain"),
            measure,
        )

    def means(measure: str, n: int) -> dict[str, float]:
        return {
            name: float(of(runs, measure, labels=n, method=name).mean())
            for name in settings["methods"]
        }

    labels = settings["labels"]
    if settings["data"] == "fashion":
        none = not any(
            better(name, n, "accuracy")
            for name in settings["methods"]
            for n in labels
        )
        return [
            *found,
            ("No method is surely more accurate than plain training.", none),
            (
                "Manifold Mixup and soft PatchUp have a better mean likelihood, "
                "before and after temperature scaling.",
                all(
                    max(each["manifold"], each["patchup-soft"]) < each["plain"]
                    for each in (
                        means(key, n) for key in ("nll", "scaled_nll") for n in labels
                    )
                ),
            ),
        ]
    fewest, most = min(labels), max(labels)
    hidden = ("manifold", "patchup-hard", "patchup-soft")
    fewer = [n for n in labels if n < most]
    return [
        *found,
        (
            f"With {fewest} labels per class Manifold Mixup and both PatchUps are "
            "surely more accurate than plain "
            "training, and surely likelier after temperature scaling.",
            all(
                better(name, fewest, key)
                for name in hidden
                for key in ("accuracy", "scaled_nll")
            ),
        ),
        (
            f"With {most} labels per class nothing is surely more accurate or likelier.",
            not any(
                better(name, most, key)
                for name in settings["methods"]
                for key in ("accuracy", "scaled_nll")
            ),
        ),
        (
            "As trained, plain networks have the smallest calibration error, "
            "whatever the number of labels.",
            all(
                min(each, key=each.__getitem__) == "plain"
                for each in (means("ece", n) for n in labels)
            ),
        ),
        (
            "After temperature scaling no method's calibration error is above 3 %.",
            all(max(means("scaled_ece", n).values()) < 0.03 for n in labels),
        ),
        (
            f"Below {most} labels per class every mixed network then has a better "
            "mean likelihood than plain training.",
            all(
                max(found, key=found.__getitem__) == "plain"
                for found in (means("scaled_nll", n) for n in fewer)
            ),
        ),
    ]


def draw(record: Record) -> Figure:
    """Mean accuracy, and NLL before and after temperature scaling, by number of labels.

    Bars are standard deviations.
    """
    settings = record["settings"]
    heads = {
        "accuracy": "accuracy, %",
        "nll": "NLL",
        "scaled_nll": "NLL after temperature scaling",
    }
    fig = figure(10.0, 4.2)
    grid = fig.subplots(1, 3)
    grid[2].sharey(grid[1])
    for axes, (key, head) in zip(grid, heads.items(), strict=True):
        for place, name in enumerate(settings["methods"]):
            entry, factor = METHODS[name], 100.0 if key == "accuracy" else 1.0
            values = [
                factor * of(record["runs"], key, labels=n, method=name)
                for n in settings["labels"]
            ]
            x = np.arange(len(values)) + 0.06 * (
                place - (len(settings["methods"]) - 1) / 2
            )
            bars = [value.std(ddof=1) if len(value) > 1 else 0.0 for value in values]
            axes.errorbar(
                x,
                [value.mean() for value in values],
                bars,
                fmt="o",
                linestyle=entry.dashes,
                color=entry.colour,
                markersize=5,
                linewidth=1.5,
                label=entry.title,
            )
        axes.set_xticks(range(len(values)), [str(n) for n in settings["labels"]])
        axes.set_xlabel("labels per class", fontsize=11)
        axes.set_title(head, loc="left", fontsize=12)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    fig.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=11,
    )
    return fig


STUDY = Study("few_labels", QUICK, FULL, jobs, work, tables, claims, draw)

if __name__ == "__main__":
    main(STUDY)
