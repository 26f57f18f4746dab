"""Gains that pages say in sentences are those of the records of CIFAR-10, docs/evidence/cifar_*.json."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

DOCS = Path(__file__).parents[2] / "docs"
NORM, CONTROL = "BatchNorm", "BatchNorm from 0.269"
Sentence = Callable[[], str]


def gained(study: str, what: str, over: str = "plain", **others: float) -> NDArray[np.floating]:
    """Shares of right answers in a study on CIFAR-10, a seed each; others: which of its tables."""
    runs = json.loads((DOCS / "evidence" / f"cifar_{study}.json").read_text(encoding="utf-8"))["runs"]
    runs = [run for run in runs if others.items() <= run.items()]
    axis = {"iebn": "norm", "places": "at"}.get(study, "method")
    found = {(run[axis], run["seed"]): run["accuracy"] for run in runs}
    return np.array([found[what, seed] - found[over, seed] for method, seed in found if method == what])


def gain(study: str, what: str, over: str = "plain", **others: float) -> str:
    """Their mean in points, rounded as the tables have it."""
    return f"{abs(100 * gained(study, what, over, **others).mean()):.1f}"


def by_both(noise: float) -> tuple[str, str]:
    """What Manifold Mixup and Mixup gain where so many labels are wrong."""
    return gain("noise", "manifold", noise=noise), gain("noise", "mixup", noise=noise)


def at(where: str, alpha: float = 2) -> str:
    """What Manifold Mixup at these places gains over no mixing, with 500 labels."""
    return gain("places", f"{where} (alpha {alpha})", over="none")


SENTENCES: list[tuple[str, Sentence]] = [
    ("evidence/cifar10_articles.md", lambda: f"it is {gain('lightning', 'mixup')} points behind in the mean"),
    ("evidence/cifar10_articles.md", lambda: f"The gain in accuracy, {gain('chainer', 'manifold')} points"),
    (
        "evidence/cifar10_articles.md",
        lambda: (
            f"IEBN gains {gain('iebn', 'IEBN', NORM)} points, more than the article's 2.5; BatchNorm from 0.269, "
            f"without any attention, gains {gain('iebn', CONTROL, NORM)}."
        ),
    ),
    *(
        (page, lambda words=words: words.format(gain("iebn", "IEBN", NORM), gain("iebn", CONTROL, NORM)))
        for page, words in (
            ("evidence/index.md", "IEBN gains {} points in Paddle, of which {} need no attention"),
            ("methods/iebn.md", "{} points by IEBN, and {} by BatchNorm whose weights start at 0.269"),
            ("iebn_evidence.md", "gains {} points by IEBN and {} by the control alone"),
        )
    ),
    (
        "evidence/cifar10_articles.md",
        lambda: "a further {:.1f}, {:.1f} and {:.1f} points ahead".format(
            *100 * gained("iebn", "IEBN", CONTROL)
        ),
    ),
    *(
        (page, lambda words=words: words.format(*by_both(0.2), *by_both(0.4)))
        for page, words in (
            (
                "evidence/cifar10_questions.md",
                "Manifold Mixup gains {} points and Mixup {}, with 40 % they gain {} and {}, in 3 of 3 seeds",
            ),
            (
                "evidence/index.md",
                "with 20 % wrong labels Manifold Mixup gains {} points and Mixup {}, about twice",
            ),
            ("choosing_a_method.md", "with 20 % wrong labels {} and {} points more accurate"),
            ("../README.md", "20 % of the labels are wrong, Manifold Mixup gains {} points"),
        )
    ),
    (
        "evidence/cifar10.md",
        lambda: (
            f"Mixup gains {gain('one_percent', 'mixup')} points and Manifold Mixup "
            f"{gain('one_percent', 'manifold')}, in 3 of 3 seeds each"
        ),
    ),
    (
        "evidence/cifar10.md",
        lambda: "{} (soft) and {} points (hard) are in 2 of 3 seeds".format(
            *(gain("one_percent", f"patchup-{form}") for form in ("soft", "hard"))
        ),
    ),
    (
        "evidence/cifar10.md",
        lambda: "Manifold Mixup loses {} points in 15 epochs and {} in 30, in 3 of 3".format(
            *(gain("epochs", "manifold", epochs=length) for length in (15, 30))
        ),
    ),
    *(
        (page, lambda words=words: words.format(gain("vit", "manifold"), gain("vit", "cutmix")))
        for page, words in (
            ("evidence/cifar10_questions.md", "Manifold Mixup {} points and CutMix {}, in 3 of 3 seeds each"),
            ("evidence/index.md", "Manifold Mixup gains {} points and CutMix {}, in 3 of 3 seeds"),
            ("../README.md", "in a small vision transformer {}. More"),
        )
    ),
    (
        "choosing_a_method.md",
        lambda: "`ManifoldMixup()` lost {} points in 15 epochs and {} in 30, was level at 60".format(
            *(gain("epochs", "manifold", epochs=length) for length in (15, 30))
        ),
    ),
    (
        "choosing_a_method.md",
        lambda: (
            f"and {gain('one_percent', 'manifold')} with 50, where `Mixup()` gains {gain('one_percent', 'mixup')}"
        ),
    ),
    (
        "evidence/cifar10.md",
        lambda: f"at 120 it is {gain('epochs', 'manifold', epochs=120)} points ahead, again in 3 of 3 seeds",
    ),
    (
        "evidence/cifar10.md",
        lambda: (
            f"alone it has {at('input')} points, `layer1` {at('layer1')} (2 of 3 seeds), `layer2` none, and `layer3` "
            f"alone costs {at('layer3')} points, in every seed"
        ),
    ),
    (
        "evidence/cifar10.md",
        lambda: "{} points at 0.2, {} at 2, {} at 4,".format(
            *(at("input, layer1, layer2", alpha) for alpha in (0.2, 2, 4))
        ),
    ),
    (
        "choosing_layers.md",
        lambda: (
            f"the input alone gained {at('input')} points over no mixing, the default (input, `layer1`, `layer2`) "
            f"{at('input, layer1, layer2')}, and `layer3` alone lost {at('layer3')}"
        ),
    ),
    *(
        (page, lambda words=words: words.format(gain("longer", "manifold", epochs=120)))
        for page, words in (
            ("evidence/cifar10.md", "after 120 it gains {} points, in 3 of 3 seeds"),
            ("evidence/index.md", "Manifold Mixup gains {} points, in 3 of 3 seeds | [A longer"),
            ("choosing_a_method.md", "with 4,000 it gained nothing in 60 epochs, {} points in 120"),
            ("../README.md", "with 4,000 it gains nothing in 60 epochs and {} points in 120"),
        )
    ),
    *(
        (page, lambda words=words: words.format(gain("longer_10000", "manifold", epochs=76)))
        for page, words in (
            ("evidence/cifar10.md", "after 76 it is level with plain training: {} ± 0.5 points ahead"),
            ("evidence/index.md", "Manifold Mixup is level with plain training, {} ± 0.5 points ahead"),
        )
    ),
    *(
        (page, lambda words=words, n=n: words.format(gain("more_labels", "manifold", labels=n)))
        for page, n, words in (
            ("evidence/cifar10.md", 400, "Manifold Mixup is {} points behind in the mean"),
            (
                "evidence/cifar10.md",
                1000,
                "With 10,000 labels and 38 epochs it costs {} points and likelihood, in every seed.",
            ),
            ("evidence/index.md", 400, "Manifold Mixup is {} points behind in the mean;"),
            ("../README.md", 1000, "with 10,000 it loses {} points to plain training in 38 epochs"),
            (
                "choosing_a_method.md",
                1000,
                "`ManifoldMixup()` lost {} points in 38 epochs of 10,000 labels",
            ),
            ("evidence/index.md", 1000, "with 10,000 and 38 epochs it costs {} points"),
        )
    ),
    ("evidence/cifar10.md", lambda: f"CutMix is {gain('one_percent', 'cutmix')} points behind in the mean"),
    (
        "evidence/cifar10_questions.md",
        lambda: (
            f"PatchUp gains {gain('frozen', 'patchup-soft')} points and Manifold Mixup {gain('frozen', 'manifold')},"
        ),
    ),
    ("methods/rbn.md", lambda: f"is {gain('iebn', 'RBN', NORM)} ± 1.0 points more accurate"),
]


@pytest.mark.parametrize(("page", "sentence"), SENTENCES, ids=[page for page, _ in SENTENCES])
def test_sentence_says_what_was_gained(page: str, sentence: Sentence) -> None:
    text = " ".join((DOCS / page).read_text(encoding="utf-8").split())
    assert sentence() in text, f"docs/{page} should say: {sentence()}"
