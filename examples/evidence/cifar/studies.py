"""All studies on CIFAR-10, by name: the articles' tables, then what users ask."""

from importlib import import_module
from typing import Final

from evidence import Job, Run
from evidence.cifar.study import Asked, Work

TWO: Final[Job] = {"method": ["plain", "manifold"]}
ALL: Final[Job] = {"method": ["plain", "manifold", "patchup-soft", "patchup-hard", "mixup", "cutmix"]}
FOUR: Final[Job] = {"method": ["plain", "manifold", "mixup", "patchup-soft"]}
SETS: Final = ("input", "layer1", "layer2", "layer3", "input, layer1, layer2")
ALPHAS: Final = ("0.2", "4")
FAST: Final[Job] = {"bfloat16": True}
"""Half the time on a processor that multiplies bfloat16 (AMX)."""
SMALL_VIT: Final[Job] = {"network": "vit", "width": 64, "stages": 4}


def of(module: str) -> Work:
    """The `work` of a module beside this one, imported when it is needed: it may bring another framework."""

    def work(job: Job, settings: Job) -> Run:
        found: Run = import_module(f"evidence.cifar.{module}").work(job, settings)
        return found

    return work


LIST: Final = (
    Asked(
        "methods",
        "What does each method gain with 1,000 labels, and how far can its probabilities be trusted?",
        ("labels", "method"),
        quick={**TWO, "corrupted": 20},
        full={**ALL, "corrupted": 2000},
        gpu={"method": ["plain", "manifold", "patchup-hard", "patchup-soft", "cutmix"], "corrupted": 10000},
        also=("noise 0.04", "noise 0.08", "blur x2", "blur x4", "contrast x0.4", "contrast x0.2"),
        work=of("corruption"),
    ),
    Asked(
        "lightning",
        "Five epochs of 20,000 images in Lightning, with Mixup and without?",
        ("labels", "method"),
        quick={"method": ["plain", "mixup"]},
        full={"method": ["plain", "mixup"], "labels": [2000], "batch": 128, "epochs": 5},
        gpu={"method": ["plain", "mixup"], "labels": [2000], "epochs": 5},
        work=of("lightning"),
    ),
    Asked(
        "chainer",
        "Chainer's ManifoldMixupClassifier with alpha 0.2 against L.Classifier?",
        ("labels", "method"),
        quick={**TWO, "alpha": 0.2},
        full={**TWO, "alpha": 0.2, "labels": [400], "epochs": 30, "epochs_at": 400},
        gpu=None,
        work=of("chainer_trainer"),
    ),
    Asked(
        "iebn",
        "ResNet-18 in Paddle with IEBN, with BatchNorm, with BatchNorm that starts as IEBN does, and with RBN?",
        ("labels", "norm"),
        quick={"norm": ["BatchNorm", "IEBN"], "side": 32},
        full={
            "norm": ["BatchNorm", "IEBN", "BatchNorm from 0.269", "RBN"], "labels": [400], "side": 32, "batch": 64,
            "epochs": 20, "epochs_at": 400,
        },
        gpu={
            "norm": ["BatchNorm", "IEBN", "BatchNorm from 0.269", "RBN"], "side": 128, "batch": 256, "epochs": 30,
        },
        base="BatchNorm",
        work=of("paddle_iebn"),
    ),
    Asked(
        "one_percent",
        "And with 1 % of the labels, 500?",
        ("labels", "method"),
        quick={**TWO, "labels": [1]},
        full={**ALL, **FAST, "labels": [50]},
        gpu={**ALL, "labels": [50], "batch": 100, "epochs": 400, "epochs_at": 50},
    ),
    Asked(
        "more_labels",
        "How does the gain change from 500 labels to 10,000?",
        ("labels", "method"),
        along="labels",
        quick={**TWO, "labels": [2, 3]},
        full={**TWO, **FAST, "labels": [50, 100, 400, 1000]},
        gpu=None,
    ),
    Asked(
        "epochs",
        "How long must the schedule be before mixing pays? One training for each length.",
        ("labels", "epochs", "method"),
        along="epochs",
        quick={**TWO, "epochs": [1, 2]},
        full={**TWO, **FAST, "epochs": [15, 30, 60, 120]},
        gpu={**FOUR, "epochs": [5, 10, 20, 40, 80]},
    ),
    Asked(
        "longer",
        "Does a longer schedule make mixing pay with 4,000 labels?",
        ("labels", "epochs", "method"),
        along="epochs",
        quick={**TWO, "epochs": [1, 2]},
        full={**TWO, **FAST, "labels": [400], "epochs": [60, 120], "epochs_at": 400},
        gpu=None,
    ),
    Asked(
        "longer_10000",
        "And with 10,000 labels?",
        ("labels", "epochs", "method"),
        along="epochs",
        quick={**TWO, "epochs": [1, 2]},
        full={**TWO, **FAST, "labels": [1000], "epochs": [38, 76], "epochs_at": 1000},
        gpu=None,
    ),
    Asked(
        "places",
        "Which layers, and what alpha? Manifold Mixup with 500 labels.",
        ("labels", "at"),
        quick={"at": ["none", "input, layer1 (alpha 2)"]},
        full={
            "at": [
                "none",
                *(f"{names} (alpha 2)" for names in SETS),
                *(f"input, layer1, layer2 (alpha {alpha})" for alpha in ALPHAS),
            ],
            "labels": [50],
            **FAST,
        },
        gpu=None,
        base="none",
    ),
    Asked(
        "noise",
        "Does mixing help where 20 % or 40 % of the labels are wrong?",
        ("labels", "noise", "method"),
        quick={**TWO, "noise": [0.4]},
        full={"method": ["plain", "manifold", "mixup"], "noise": [0.2, 0.4]},
        gpu={**FOUR, "noise": [0.2, 0.4]},
    ),
    Asked(
        "vit",
        "Does a small vision transformer gain?",
        ("labels", "method"),
        quick={"method": ["plain", "manifold", "cutmix"], "network": "vit", "width": 32, "stages": 2},
        full={"method": ["plain", "manifold", "cutmix"], **SMALL_VIT},
        gpu={
            "method": ["plain", "manifold", "mixup", "cutmix"], "network": "vit", "width": 192, "stages": 9,
            "epochs": 60,
        },
    ),
    Asked(
        "frozen",
        "Does mixing help a new head on a frozen trunk, with 20 labels in each of five new classes?",
        ("labels", "method"),
        quick={**TWO, "stages": 3, "trunk_labels": 4, "trunk_epochs": 1, "trunk_batch": 10},
        full={
            **FOUR, "labels": [20], "batch": 20, "epochs": 200, "epochs_at": 20, "trunk_labels": 2000,
            "trunk_epochs": 10, "trunk_batch": 100,
        },
        gpu=None,
        titles=(("labels", lambda n: f"{5 * n} labels of five classes"),),
        work=of("frozen"),
    ),
)  # fmt: skip
STUDIES: Final = {asked.name: asked for asked in LIST}
