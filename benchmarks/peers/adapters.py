"""Other people's mixing, each called as its own documentation says, behind one signature: `(x, y) -> x, target`.

A target is soft labels (N, K), or `y_a, y_b, lam` with lam the share of y_a. Nothing here corrects a peer; where its
lam weighs the partner, 1 - lam is passed on. Each library is imported when its adapter is made, not before.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

Mixing = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Peer:
    """One way to mix.

    Attributes:
        name: As the tables say it.
        package: The distribution that it comes from.
        call: What a user writes.
        op: "Mixup" or "CutMix".
        lam_per: "batch", "pair" or "sample".
        make: Makes the mixing for a number of classes; raises ImportError where the package is not installed.
        labels: "indices" (N,) or "one-hot" (N, K): what it takes.
        means: What a failed rule of `mixlayers.testing.check` means to a user.
        remark: What should be known to read a row without failures.
    """

    name: str
    package: str
    call: str
    op: str
    lam_per: str
    make: Callable[[int], Mixing]
    labels: str = "indices"
    means: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


def seed_everything(seed: int) -> None:
    """Seed the global generators that most peers draw from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def timm(mode: str, cutmix: bool, **more: Any) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        from timm.data import Mixup

        alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 1.0} if cutmix else {"mixup_alpha": 1.0}
        mixing: Mixing = Mixup(**alphas, mode=mode, label_smoothing=0.0, num_classes=classes, **more)
        return mixing

    return make


def torchvision(name: str) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        from torchvision.transforms import v2

        mixing: Mixing = getattr(v2, name)(num_classes=classes)
        return mixing

    return make


def kornia_mixup(classes: int) -> Mixing:
    from kornia.augmentation import RandomMixUpV2

    mixing = RandomMixUpV2(data_keys=["input", "class"])

    def mix(x: Any, y: Any) -> Any:
        mixed, rows = mixing(x, y)
        return mixed, rows[:, 0].long(), rows[:, 1].long(), 1 - rows[:, 2]

    return mix


def kornia_cutmix(correct: bool) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        import warnings

        from kornia.augmentation import RandomCutMixV2

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            mixing = RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=correct)

        def mix(x: Any, y: Any) -> Any:
            mixed, rows = mixing(x, y)
            lam = rows[0, :, 2]
            return mixed, rows[0, :, 0].long(), rows[0, :, 1].long(), lam if correct else 1 - lam

        return mix

    return make


def keras(name: str) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        import os

        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras

        class Mix:
            def __init__(self) -> None:
                self.reseed(0)

            def reseed(self, seed: int) -> None:
                options = {"alpha": 1.0} if name == "MixUp" else {}
                self.layer = getattr(keras.layers, name)(**options, seed=seed, data_format="channels_first")

            def __call__(self, x: Any, y: Any) -> Any:
                output = self.layer({"images": x, "labels": y}, training=True)
                return output["images"], output["labels"]

        return Mix()

    return make


def fastai(name: str) -> Callable[[int], Mixing]:
    """The callback's own arithmetic; the batch hangs on a stand-in for its Learner."""

    def make(classes: int) -> Mixing:
        from fastai.callback import mixup

        callback = getattr(mixup, name)(1.0)
        callback.stack_y = True

        def mix(x: Any, y: Any) -> Any:
            callback.learn = SimpleNamespace(xb=(x,), yb=(y,), x=x, y=y)
            callback.before_batch()
            return callback.learn.xb[0], y, callback.yb1[0], callback.lam

        return mix

    return make


def mixup_package(name: str) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        import mixup

        mixing: Mixing = getattr(mixup, name)(alpha=1.0)
        return mixing

    return make


def torchbearer(classes: int) -> Mixing:
    import torchbearer
    from torchbearer.callbacks import Mixup

    callback = Mixup(alpha=1.0)

    def mix(x: Any, y: Any) -> Any:
        state = {torchbearer.X: x, torchbearer.Y_TRUE: y}
        callback.on_sample(state)
        return state[torchbearer.X], *state[torchbearer.Y_TRUE], state[torchbearer.MIXUP_LAMBDA]

    return mix


def monai(name: str) -> Callable[[int], Mixing]:
    def make(classes: int) -> Mixing:
        from monai import transforms

        class Mix:
            def __init__(self) -> None:
                self.transforms: dict[int, Any] = {}

            def reseed(self, seed: int) -> None:
                for transform in self.transforms.values():
                    transform.set_random_state(seed)

            def __call__(self, x: Any, y: Any) -> Any:
                if len(x) not in self.transforms:  # its batch size is fixed
                    self.transforms[len(x)] = getattr(transforms, name)(batch_size=len(x), alpha=1.0)
                return self.transforms[len(x)](x, y)

        return Mix()

    return make
