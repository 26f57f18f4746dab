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


def costs(*what: str, column: int = 3, but: str = "nothing") -> list[float]:
    """The first number in a column of all rows of docs/results.md whose name begins so; but: left out."""
    lines = [line for record in RECORDS["results"].values() for line in record["table"]]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = [row[column] for row in rows if row[0].startswith(what) and but not in row[0]]
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
PATCHUP = ("PatchUp hard", "PatchUp soft")


def step(method: str, batch: int, column: int = 3) -> float:
    """Of a ResNet-18; batches of 128 are PyTorch's, of 32 PaddlePaddle's."""
    return costs(f"step: {method}, ResNet-18, batch {batch}", column=column)[0]


SENTENCES: list[tuple[str, Sentence]] = [
    (
        "../README.md",
        lambda: (
            f"Mixing took {between([step(each, 128) for each in ('Manifold Mixup', *PATCHUP)])} % of a ResNet-18"
        ),
    ),
    ("methods/mixup.md", lambda: f"about {between(costs('blend: one lam'))} times as long as two additions"),
    ("methods/mixup.md", lambda: f"takes {between(others('blend: one lam'), 0)} times"),
    ("methods/mixup.md", lambda: f"drawing the plan takes about {costs('plan: Mixup,')[0]:.0f} µs"),
    (
        "methods/mixup.md",
        lambda: f"takes {step('Mixup', 32):.2f} times the plain step",
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
        lambda: f"batch of 32 takes {costs('step: CutMix, batch 32')[0]:.2f} times the plain step",
    ),
    (
        "methods/cutmix.md",
        lambda: f"images takes about {costs('loading uint8: CutMix')[0]:.2f} times as long",
    ),
    (
        "methods/manifold_mixup.md",
        lambda: f"About {step('Manifold Mixup', 128):.1f} % of a ResNet-18",
    ),
    (
        "methods/manifold_mixup.md",
        lambda: f"authors' form takes about {step('Manifold Mixup', 128, 4):.1f} %",
    ),
    ("methods/manifold_mixup.md", lambda: f"hooks take about {between(costs('idle hooks: eval')[:1], 0)} µs"),
    (
        "methods/manifold_mixup.md",
        lambda: (
            f"a step takes {step('Manifold Mixup', 32):.2f} times the plain step's time in PaddlePaddle "
            "(`python benchmarks/iebn_paddle.py --quick`) and "
            f"{costs('step: Manifold Mixup, batch 32')[0]:.2f} in Chainer"
        ),
    ),
    (
        "methods/patchup.md",
        lambda: f"About {between([step(each, 128) for each in PATCHUP])} % of",
    ),
    (
        "methods/patchup.md",
        lambda: f"takes about {between([step(each, 128, 4) for each in PATCHUP], 0)} %",
    ),
    ("methods/patchup.md", lambda: f"soft, {costs('step: PatchUp soft, batch 32')[0]:.2f} in Chainer"),
    ("methods/patchup.md", lambda: f"Drawing the plan takes about {between(costs('plan: PatchUp'), 0)} µs"),
    (
        "methods/patchup.md",
        lambda: f"takes {between([step(each, 32) for each in PATCHUP], 2)} times",
    ),
    (
        "choosing_a_method.md",
        lambda: f"{step('Manifold Mixup', 128):.1f} % (Manifold Mixup)",
    ),
    ("choosing_a_method.md", lambda: f"{step('PatchUp soft', 128):.1f} % (PatchUp soft)"),
    (
        "distributed.md",
        lambda: f"| {between([value / 1000 for value in costs('plan: ')], 3)} ms at a batch of 128",
    ),
    ("distributed.md", lambda: f"| {between(costs('blend: one lam'))} of the time of two additions"),
    (
        "distributed.md",
        lambda: f"{between([*(step(each, 128) for each in ('Manifold Mixup', *PATCHUP))])} %",
    ),
    ("distributed.md", lambda: f"| {between(costs('DDP step'), 2)}; its own part"),
    (
        "how_it_works.md",
        lambda: "took {:.2f} (Manifold Mixup), {:.2f} (PatchUp hard) and {:.2f} (PatchUp soft)".format(
            *costs("compiled step")
        ),
    ),
    (
        "recipe/policies.md",
        lambda: f"RandAugment takes {costs('RandAugment: PIL')[1]:.2f} of torchvision's time on PIL",
    ),
    ("recipe/policies.md", lambda: f"images and {costs('RandAugment: uint8')[1]:.2f} from array"),
    ("methods/iebn.md", lambda: f"less than BatchNorm**: {between(costs('train: ', but='x4x4')[:5])} of `nn"),
    ("methods/iebn.md", lambda: f"({costs('drawn: the median')[0]:.2f} as the median of twelve"),
    ("methods/iebn.md", lambda: f"{between(costs('bfloat16: ', but='x4x4'))} in bfloat16"),
    (
        "methods/iebn.md",
        lambda: f"and {between(costs('channels_last: ', but='x4x4'))} with the channels last",
    ),
    (
        "methods/iebn.md",
        lambda: f"ResNet-18 step takes {costs('step: ResNet-18, batch 128, width 64')[0]:.2f}.",
    ),
    ("methods/iebn.md", lambda: f"Eval mode takes {between(costs('eval: ', but='x4x4'))}."),
    ("methods/iebn.md", lambda: f"takes {between(costs('IEBN: '), 2)} of the time of `L.BatchNormalization`"),
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
