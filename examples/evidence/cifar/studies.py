"""All studies on CIFAR-10, by name."""

from typing import Final

from evidence.cifar.study import Asked
from mixlayers.cli.methods import METHODS

TWO: Final = {"method": ["plain", "manifold"]}
ALL: Final = {"method": ["plain", "manifold", "patchup-soft", "patchup-hard", "mixup", "cutmix"]}
ARTICLE_000: Final = {"method": ["plain", "manifold", "patchup-hard", "patchup-soft", "cutmix"]}
FOUR: Final = {"method": ["plain", "mixup", "manifold", "patchup-soft"]}

assert set(ALL["method"]) == set(METHODS)  # noqa: S101

LIST: Final = (
    Asked(
        "methods",
        "What does each method gain with 1,000 labels, and how far can its probabilities be trusted?",
        ("labels", "method"),
        TWO,
        ALL,
        ARTICLE_000,
    ),
)
STUDIES: Final = {asked.name: asked for asked in LIST}
