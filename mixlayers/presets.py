"""Published settings, each with its source: `wrap(model, preset.method, layers=...)`.

`layers` are the names in the authors' own networks; in another model say where the same depth is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mixlayers._core.methods.alignmixup import AlignMixup
from mixlayers._core.methods.around import Beside
from mixlayers._core.methods.combined import OneOf
from mixlayers._core.methods.cutmix import CutMix
from mixlayers._core.methods.fmix import FMix
from mixlayers._core.methods.method import Method
from mixlayers._core.methods.mixstyle import DSU, MixStyle, PAdaIN
from mixlayers._core.methods.mixup import ManifoldMixup, Mixup
from mixlayers._core.methods.moex import MoEx
from mixlayers._core.methods.noisy import NoisyFeatureMixup
from mixlayers._core.methods.patchup import PatchUp
from mixlayers._core.methods.resizemix import ResizeMix
from mixlayers._core.methods.specmix import SpecMix
from mixlayers._core.plan.groups import Across
from mixlayers._core.plan.pairs import Near


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
_SGD = "SGD lr 0.1, nesterov 0.9, decay 1e-4, batch 100"
_PATCHUP = f"PatchUp, authors' README (chandar-lab/PatchUp, 31133f3), block 7, {_SGD}"
_REGMIXUP = "RegMixup, authors' code (FrancescoPinto/RegMixup, fd78465): give the batch twice"
_NOISY = "Noisy Feature Mixup, ICLR 2022, authors' settings (erichson/NFM)"
_MOEX = "MoEx, authors' code (Boyiliee/MoEx, 016571c)"
_C_MIXUP = (
    "C-Mixup, NeurIPS 2022: bandwidth of the label; pairs are close to the authors', not equal (see Near)"
)

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
            f"{_MANIFOLD}: {_SGD}; BCE of the softmax, whose gradient is that of cross-entropy / (K - 1)",
        ),
        "manifold-mixup-wide-resnet-paper": Preset(
            ManifoldMixup(alpha=2.0),
            ("input", "layer1"),
            "Manifold Mixup, ICML 2019, WRN-28-10: the paper names the input and the first block; the code adds layer2",
        ),
        "manifold-mixup-tiny-imagenet": Preset(
            ManifoldMixup(alpha=0.2),
            ("input", "layer1", "layer2"),
            "Manifold Mixup, ICML 2019, Tiny-ImageNet table, and the command in the authors' README",
        ),
        "patchup-hard-cifar": Preset(
            PatchUp("hard", gamma=0.5, block_size=7, prob=0.7, loss_scale=2.0),
            ("input", "conv1", "layer1"),
            _PATCHUP,
        ),
        "patchup-soft-cifar": Preset(
            PatchUp("soft", gamma=0.75, block_size=7, loss_scale=2.0), ("input", "conv1", "layer1"), _PATCHUP
        ),
        "fmix": Preset(FMix(), ("input",), "FMix, authors' code (ecs-vlc/FMix, e5991dc): hard masks"),
        "resizemix": Preset(ResizeMix(), ("input",), "ResizeMix, authors' code (JayQine/ResizeMix, 45441ff)"),
        "specmix": Preset(SpecMix(), ("input",), "SpecMix, Interspeech 2021, as third parties have it"),
        "regmixup-cifar10": Preset(Beside(Mixup(20.0)), ("input",), _REGMIXUP),
        "regmixup-cifar100": Preset(Beside(Mixup(10.0)), ("input",), _REGMIXUP),
        "alignmixup": Preset(
            AlignMixup(),
            ("input", "layer4"),
            "AlignMixup, authors' code (shashankvkt/AlignMixup_CVPR22, ec01a68): input, or the map before the pooling",
        ),
        "noisy-feature-mixup-cifar": Preset(
            NoisyFeatureMixup(), ("input", "layer1", "layer2", "layer3"), _NOISY
        ),
        "noisy-feature-mixup-imagenet": Preset(
            NoisyFeatureMixup(add=0.1, multiply=0.1), ("input", "layer1", "layer2", "layer3"), _NOISY
        ),
        "mixstyle": Preset(
            MixStyle(),
            ("layer1", "layer2"),
            "MixStyle, authors' code (KaiyangZhou/mixstyle-release, 16f7cf1): after stages 1 and 2, or 1 to 3",
        ),
        "freq-mixstyle": Preset(
            MixStyle(0.4, "frequency", prob=0.4, fold=True),
            ("input",),
            "Freq-MixStyle, authors' code (fschmid56/EfficientAT, a425fdc): spectrograms (N, C, frequency, time)",
        ),
        "dsu": Preset(
            DSU(),
            ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"),
            "DSU, authors' code (lixiaotong97/DSU, 82a1de0)",
        ),
        "padain": Preset(
            PAdaIN(),
            ("conv1",),
            "pAdaIN, CVPR 2021, as third parties have it: every convolution; name them all",
        ),
        "moex-cifar": Preset(
            MoEx(0.5, prob=0.25), ("bn1",), f"{_MOEX}: after the first norm, before its ReLU"
        ),
        "moex-imagenet": Preset(MoEx(0.9), ("maxpool",), f"{_MOEX}: ResNet-50, after the stem's pooling"),
        "tmix-bert": Preset(
            ManifoldMixup(16.0, fold=True),
            ("encoder.layer.6", "encoder.layer.8", "encoder.layer.11"),
            "TMix, authors' code (GT-SALT/MixText, f17198d): after layers 7, 9 and 12 of BERT",
        ),
        "c-mixup-no2": Preset(Mixup(2.0, pairs=Near("label", 1.2)), ("input",), _C_MIXUP),
        "c-mixup-electricity": Preset(Mixup(2.0, pairs=Near("label", 0.5)), ("input",), _C_MIXUP),
        "c-mixup-skillcraft": Preset(Mixup(2.0, pairs=Near("label", 1.0)), ("input",), _C_MIXUP),
        "lisa": Preset(
            OneOf(
                {
                    Mixup(2.0, lam_per="sample", pairs=Across("different", "same")): 1.0,
                    Mixup(2.0, lam_per="sample", pairs=Across("same", "different")): 1.0,
                }
            ),
            ("input",),
            "LISA, authors' code (huaxiuyao/LISA, c857a6b): each batch in one way or the other",
        ),
    }
)
