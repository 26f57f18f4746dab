"""Every peer that is looked at, with the call that its own documentation gives and what its failures mean."""

from __future__ import annotations

from itertools import product

from peers import adapters, own
from peers.adapters import Peer

EVEN = "batches of odd size are refused, by an assertion that says so: use drop_last=True"
IN_PLACE = "the batch is overwritten: harmless unless it is used again"

TIMM = [
    Peer(
        f"timm {op}, {mode}",
        "timm",
        f"Mixup({'mixup_alpha=0, cutmix_alpha=1' if op == 'CutMix' else ''}"
        f"{', ' if op == 'CutMix' else ''}mode={mode!r}, label_smoothing=0, num_classes=K)",
        op,
        lam_per,
        adapters.timm(mode, op == "CutMix"),
        means={"untouched": IN_PLACE, "batches": EVEN},
    )
    for (mode, lam_per), op in product(
        [("batch", "batch"), ("pair", "pair"), ("elem", "sample")], ["Mixup", "CutMix"]
    )
]
TORCHVISION = [
    Peer(
        f"torchvision {name}",
        "torchvision",
        f"v2.{name}(num_classes=K)",
        op,
        "batch",
        adapters.torchvision(name),
        remark="partner: the sample before it, always; shuffled batches are asked for",
    )
    for name, op in [("MixUp", "Mixup"), ("CutMix", "CutMix")]
]
KORNIA = [
    Peer(
        "kornia RandomMixUpV2",
        "kornia",
        'RandomMixUpV2(data_keys=["input", "class"])',
        "Mixup",
        "sample",
        adapters.kornia_mixup,
        remark="its lam is uniform, and the partner's share, as its documented loss has it",
    ),
    Peer(
        "kornia RandomCutMixV2",
        "kornia",
        'RandomCutMixV2(data_keys=["input", "class"])',
        "CutMix",
        "sample",
        adapters.kornia_cutmix(False),
        remark="its lam is the partner's share; read as in the paper, the labels would be swapped (kornia#3077), "
        "of which it warns",
    ),
    Peer(
        "kornia RandomCutMixV2, correct",
        "kornia",
        'RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)',
        "CutMix",
        "sample",
        adapters.kornia_cutmix(True),
        remark="its lam is the original's share, as in the paper; RandomMixUpV2's documented loss weighs the other way",
    ),
]
KERAS = [
    Peer(
        "Keras MixUp",
        "keras",
        "keras.layers.MixUp(alpha=1)",
        "Mixup",
        "sample",
        adapters.keras("MixUp"),
        "one-hot",
    ),
    Peer(
        "Keras CutMix",
        "keras",
        "keras.layers.CutMix()",
        "CutMix",
        "sample",
        adapters.keras("CutMix"),
        "one-hot",
        {
            "share": "the label's share is that of a box with fractional corners, not of the whole pixels pasted"
        },
    ),
]
FASTAI = [
    Peer(
        "fastai MixUp",
        "fastai",
        "MixUp(1.)",
        "Mixup",
        "sample",
        adapters.fastai("MixUp"),
        means={"batches": "a batch of 1 raises"},
        remark="its lam is at least 0.5: the larger share is always the original's",
    ),
    Peer(
        "fastai CutMix",
        "fastai",
        "CutMix(1.)",
        "CutMix",
        "batch",
        adapters.fastai("CutMix"),
        means={"untouched": IN_PLACE},
    ),
]
MIXUP = [
    Peer(
        f"mixup {name}",
        "mixup",
        f"{name}(alpha=1.0)",
        op,
        "batch",
        adapters.mixup_package(name),
        "one-hot",
        {
            "rows": "the target has shape (N, 1, N, K), so that cross-entropy raises",
        },
    )
    for name, op in [
        ("VanillaMixUp", "Mixup"),
        ("CutMix", "CutMix"),
        ("ResizeMix", "other"),
        ("FMix", "other"),
        ("SaliencyMix", "other"),
        ("PuzzleMix", "other"),
    ]
]
OTHERS = [
    Peer(
        "torchbearer Mixup",
        "torchbearer",
        "Mixup(alpha=1.0)",
        "Mixup",
        "batch",
        adapters.torchbearer,
    ),
    Peer(
        "MONAI MixUp",
        "monai",
        "MixUp(batch_size=N)",
        "Mixup",
        "sample",
        adapters.monai("MixUp"),
        "one-hot",
        {
            "runs": "labels (N, K) raise: it takes volumes, as segmentation has them; y[:, :, None, None] goes through"
        },
        "the batch size is fixed: a smaller last batch raises",
    ),
    Peer(
        "MONAI CutMix",
        "monai",
        "CutMix(batch_size=N)",
        "CutMix",
        "sample",
        adapters.monai("CutMix"),
        "one-hot",
        {
            "share": "with labels (N, K) the label becomes the partner's, whole, whatever was pasted (MONAI#8137)"
        },
        "the batch size is fixed: a smaller last batch raises",
    ),
]
PADDLECLAS = [
    Peer(
        f"PaddleClas {operator}",
        "paddleclas",
        f"{operator}(class_num=K)",
        op,
        "batch",
        own.paddleclas(operator),
        means={"shape": "float32 images become float64, twice the memory, since its mask is float64"},
    )
    for operator, op in [("MixupOperator", "Mixup"), ("CutmixOperator", "CutMix"), ("FmixOperator", "other")]
] + [
    Peer(
        f"PaddleClas MixupCutmixHybrid {op}, {mode}",
        "paddleclas",
        f"MixupCutmixHybrid(mixup_alpha={1 - cutmix}, cutmix_alpha={cutmix}, mode={mode!r}, label_smoothing=0, "
        "num_classes=K)",
        op,
        lam_per,
        own.paddleclas(
            "MixupCutmixHybrid",
            mixup_alpha=1.0 - cutmix,
            cutmix_alpha=float(cutmix),
            mode=mode,
            label_smoothing=0.0,
        ),
        means={"batches": EVEN},
    )
    for (mode, lam_per), (op, cutmix) in product(
        [("batch", "batch"), ("pair", "pair"), ("elem", "sample")], [("Mixup", 0), ("CutMix", 1)]
    )
]
OURS = [
    Peer(
        f"mixlayers.{framework} {op}, lam per {lam_per}",
        "mixlayers",
        f"mix(x, y, {op}({', '.join(['1.0'] + ([f'lam_per={lam_per!r}'] if lam_per != 'batch' else []))}))",
        op,
        lam_per,
        own.ours(framework, op, lam_per),
    )
    for framework, op, lam_per in product(
        ["torch", "paddle", "chainer"], ["Mixup", "CutMix"], ["batch", "pair", "sample"]
    )
]
PEERS = (*TIMM, *TORCHVISION, *KORNIA, *KERAS, *FASTAI, *MIXUP, *OTHERS, *PADDLECLAS, *OURS)
