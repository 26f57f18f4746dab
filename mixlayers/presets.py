"""Published settings, each with its source: `wrap(model, preset.method, layers=...)`.

`layers` are the names in the authors' own networks; in another model say where the same depth is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mixlayers._core.methods.cutmix import CutMix
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixup import ManifoldMixup, Mixup
from mixlayers._core.methods.patchup import PatchUp


@dataclass(frozen=True)
class Preset:
    """A published setting.

    Attributes:
        method: What to pass to `wrap`.
        layers: Where the authors mixed, by the names in their networks.
        source: Where the setting is published, and what else belongs to it.
    """

    method: Method
    layers: tuple[str, ...]
    source: str


_MANIFOLD = "Manifold Mixup, authors' code (vikasverma1077/manifold_mixup, supervised/, 870ef77)"
_PATCHUP = "PatchUp, authors' README (chandar-lab/PatchUp, 31133f3), block 7, SGD lr 0.1, batch 100"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "mixup-cifar": Preset(
            Mixup(alpha=1.0),
            ("input",),
            "Mixup, authors' code (facebookresearch/mixup-cifar10): 200 epochs, lr 0.1",
        ),
        "mixup-imagenet": Preset(Mixup(alpha=0.2), ("input",), "Mixup for ImageNet as in OpenMixup's tables"),
        "cutmix-cifar": Preset(
            CutMix(alpha=1.0, prob=0.5),
            ("input",),
            "CutMix, authors' README (clovaai/CutMix-PyTorch), CIFAR command",
        ),
        "cutmix-imagenet": Preset(
            CutMix(alpha=1.0),
            ("input",),
            "CutMix, authors' README (clovaai/CutMix-PyTorch), ImageNet command",
        ),
        "manifold-mixup-cifar": Preset(
            ManifoldMixup(alpha=2.0),
            ("input", "layer1", "layer2"),
            f"{_MANIFOLD}: batch 100, lr 0.1; BCE of the softmax, whose gradient is that of cross-entropy / (K - 1)",
        ),
        "manifold-mixup-wide-resnet-paper": Preset(
            ManifoldMixup(alpha=2.0),
            ("input", "layer1"),
            "Manifold Mixup, ICML 2019, WRN-28-10: the paper names the input and the first block; the code adds layer2",
        ),
        "manifold-mixup-tiny-imagenet": Preset(
            ManifoldMixup(alpha=0.2),
            ("input", "layer1", "layer2"),
            "Manifold Mixup, ICML 2019, Tiny-ImageNet table",
        ),
        "patchup-hard-cifar": Preset(
            PatchUp("hard", gamma=0.5, block_size=7, prob=0.7, loss_scale=2.0),
            ("input", "conv1", "layer1"),
            _PATCHUP,
        ),
        "patchup-soft-cifar": Preset(
            PatchUp("soft", gamma=0.75, block_size=7, loss_scale=2.0), ("input", "conv1", "layer1"), _PATCHUP
        ),
    }
)
