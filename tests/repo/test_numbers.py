"""Numbers that pages say in sentences are those of the records: docs/results.json, docs/race.json, docs/peers.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
RECORDS: dict[str, Any] = {
    name: json.loads((DOCS / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("results", "race", "peers")
}
Sentence = Callable[[], str]


def costs(*what: str, column: int = 3) -> list[float]:
    """The first number in a column of all rows of docs/results.md whose name begins so."""
    lines = [line for record in RECORDS["results"].values() for line in record["table"]]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [row[column] for row in rows if row[0].startswith(what)]
    assert found, f"no row of docs/results.md begins with {what}"
    return [float(re.search(r"-?\d[\d.]*", text)[0]) for text in found]  # type: ignore[index]


def others(*what: str) -> list[float]:
    return costs(*what, column=4)


def operation(what: str) -> dict[str, Any]:
    """A row of docs/race.json."""
    [row] = [row for row in RECORDS["race"]["operation"]["rows"] if row["what"] == what and row["rivals"]]
    return dict(row)


def rival(what: str, name: str) -> float:
    """A rival's median, over ours."""
    return float(operation(what)["rivals"][name]["median"])


def ours(what: str) -> float:
    return float(operation(what)["ours"]["median"])


def between(values: list[float], digits: int = 1) -> str:
    """The smallest and the largest, rounded: one number where they round alike."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


BIG, SMALL = "64x3x224x224", "128x3x32x32"
STEP = "step: {}, ResNet-18, batch "
SENTENCES: list[tuple[str, Sentence]] = [
    ("methods/mixup.md", lambda: f"about {between(costs('blend: one lam'))} times as long as two additions"),
    ("methods/mixup.md", lambda: f"takes {between(others('blend: one lam'), 0)} times"),
    ("methods/mixup.md", lambda: f"drawing the plan takes about {costs('plan: Mixup,')[0]:.0f} µs"),
    (
        "methods/mixup.md",
        lambda: f"about {costs(STEP.format('Mixup') + '32')[0]:.2f} times as long in PaddlePaddle",
    ),
    ("methods/mixup.md", lambda: f"images takes about {costs('loading uint8: Mixup')[0]:.1f} times as long"),
    (
        "methods/cutmix.md",
        lambda: f"about {between(costs('blend: CutMix box'))} times as long as two additions",
    ),
    ("methods/cutmix.md", lambda: f"assignment takes {between(others('blend: CutMix box'), 0)} times"),
    ("methods/cutmix.md", lambda: f"drawing the plan takes about {costs('plan: CutMix,')[0]:.0f} µs"),
    (
        "methods/cutmix.md",
        lambda: f"batch of 32 takes about {costs('step: CutMix, batch 32')[0]:.2f} times as long",
    ),
    (
        "methods/cutmix.md",
        lambda: f"images takes about {costs('loading uint8: CutMix')[0]:.2f} times as long",
    ),
    (
        "methods/manifold_mixup.md",
        lambda: f"About {costs(STEP.format('Manifold Mixup') + '128')[0]:.1f} % of a ResNet-18",
    ),
    (
        "methods/manifold_mixup.md",
        lambda: f"authors' form takes about {others(STEP.format('Manifold Mixup') + '128')[0]:.1f} %",
    ),
    ("methods/manifold_mixup.md", lambda: f"hooks take about {between(costs('idle hooks: eval')[:1], 0)} µs"),
    (
        "methods/manifold_mixup.md",
        lambda: f"about {costs(STEP.format('Manifold Mixup') + '32')[0]:.2f} times as long in PaddlePaddle",
    ),
    (
        "methods/patchup.md",
        lambda: "About {:.1f} % (hard) and {:.1f} % (soft) of a ResNet-18".format(
            *(costs(STEP.format(f"PatchUp {mode}") + "128")[0] for mode in ("hard", "soft"))
        ),
    ),
    (
        "methods/patchup.md",
        lambda: (
            f"takes {between(others(STEP.format('PatchUp hard') + '128', STEP.format('PatchUp soft') + '128'), 0)} %"
        ),
    ),
    ("methods/patchup.md", lambda: f"Drawing the plan takes about {between(costs('plan: PatchUp'), 0)} µs"),
    (
        "methods/patchup.md",
        lambda: (
            f"about {between(costs(STEP.format('PatchUp hard') + '32', STEP.format('PatchUp soft') + '32'), 2)} times"
        ),
    ),
    (
        "choosing_a_method.md",
        lambda: f"{costs(STEP.format('Manifold Mixup') + '128')[0]:.1f} % (Manifold Mixup)",
    ),
    ("choosing_a_method.md", lambda: f"{costs(STEP.format('PatchUp soft') + '128')[0]:.1f} % (PatchUp soft)"),
    (
        "distributed.md",
        lambda: f"| {between([value / 1000 for value in costs('plan: ')], 3)} ms at a batch of 128",
    ),
    ("distributed.md", lambda: f"| {between(costs('blend: one lam'))} of the time of two additions"),
    (
        "distributed.md",
        lambda: f"{between([*costs(STEP.format('Manifold Mixup') + '128'), *costs('step: PatchUp')[:2]])} %",
    ),
    ("distributed.md", lambda: f"| {between(costs('DDP step'), 2)}; its own part"),
    (
        "how_it_works.md",
        lambda: "took {:.2f} (Manifold Mixup), {:.2f} (PatchUp hard) and {:.2f} (PatchUp soft)".format(
            *costs("compiled step")
        ),
    ),
    ("peers.md", lambda: f"Ours takes {ours(f'Mixup, lam per batch, {BIG}'):.1f} ms"),
    (
        "peers.md",
        lambda: f"timm takes {rival(f'Mixup, lam per batch, {BIG}', 'timm Mixup, batch'):.1f} times as long",
    ),
    (
        "peers.md",
        lambda: f"torchvision {rival(f'Mixup, lam per batch, {BIG}', 'torchvision MixUp'):.1f} times",
    ),
    (
        "peers.md",
        lambda: f"kornia takes {rival(f'Mixup, lam per sample, {BIG}', 'kornia RandomMixUpV2'):.1f}",
    ),
    ("peers.md", lambda: f"Keras {rival(f'Mixup, lam per sample, {BIG}', 'Keras MixUp'):.1f}"),
    ("peers.md", lambda: f"fastai {rival(f'Mixup, lam per sample, {BIG}', 'fastai MixUp'):.1f} times"),
    ("peers.md", lambda: f"package mixup takes {rival(f'CutMix, lam per batch, {BIG}', 'mixup CutMix'):.2f}"),
    (
        "peers.md",
        lambda: f"timm {rival(f'CutMix, lam per batch, {BIG}', 'timm CutMix, batch'):.2f} of our time",
    ),
    (
        "peers.md",
        lambda: f"timm takes {rival(f'Mixup, lam per batch, {SMALL}', 'timm Mixup, batch'):.2f} of our time",
    ),
    (
        "peers.md",
        lambda: f"and {rival(f'CutMix, lam per batch, {SMALL}', 'timm CutMix, batch'):.2f} for CutMix",
    ),
]


@pytest.mark.parametrize(("page", "sentence"), SENTENCES, ids=[page for page, _ in SENTENCES])
def test_sentence_says_what_was_measured(page: str, sentence: Sentence) -> None:
    text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
    assert sentence() in text, f"docs/{page} should say: {sentence()}"


def test_wrong_shares_are_those_that_the_page_names() -> None:
    wrong = {each["peer"] for each in RECORDS["peers"]["peers"] if "share" in each["failed"]}
    assert wrong == {"Keras CutMix", "MONAI CutMix"}
