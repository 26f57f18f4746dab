"""PaddleClas's operators, which need PaddlePaddle and a checkout, and our own mixing in three frameworks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mixlayers import CutMix, Method, Mixup

Mixing = Callable[[Any, Any], Any]
LIGHT = ("ppcls", "ppcls.utils", "ppcls.data", "ppcls.data.preprocess")


def batch_operator(operator: str, classes: int, **options: Any) -> Callable[[list[Any]], list[Any]]:
    """A list of (x, label) to one of (x, target): an operator of the PaddleClas checkout that $PADDLECLAS names.

    It is imported without what the rest of PaddleClas imports.
    """
    folder = os.environ.get("PADDLECLAS")
    if not folder:
        raise ImportError("$PADDLECLAS does not name a checkout of PaddleClas.")
    for name in LIGHT:
        if name not in sys.modules:
            package = sys.modules[name] = ModuleType(name)
            package.__path__ = [str(Path(folder, *name.split(".")))]
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, package)
    sys.modules["ppcls.utils"].logger = import_module("ppcls.utils.logger")  # type: ignore[attr-defined]
    module = import_module("ppcls.data.preprocess.batch_ops.batch_operators")
    key = "num_classes" if operator == "MixupCutmixHybrid" else "class_num"
    mixing: Callable[[list[Any]], list[Any]] = getattr(module, operator)(**options, **{key: classes})
    return mixing


def paddleclas(operator: str, **options: Any) -> Callable[[int], Mixing]:
    """The same for a batch of images and labels."""

    def make(classes: int) -> Mixing:
        mixing = batch_operator(operator, classes, **options)

        def mix(x: Any, y: Any) -> Any:
            images, targets = zip(*mixing(list(zip(x, y, strict=True))), strict=True)
            return np.stack(images), np.stack(targets)

        return mix

    return make


class Ours:
    """`mix` of a framework, with a step that counts from 0 at each seeding."""

    def __init__(self, mix: Any, method: Method, classes: int, soft: bool = True) -> None:
        self.mix, self.method, self.classes, self.soft = mix, method, classes, soft
        self.reseed(0)

    def reseed(self, seed: int) -> None:
        self.seed, self.step = seed, 0

    def __call__(self, x: Any, y: Any) -> Any:
        x, target = self.mix(x, y, self.method, step=self.step, seed=self.seed)
        self.step += 1
        return x, target.soft(self.classes) if self.soft else target


def ours(framework: str, op: str, lam_per: str) -> Callable[[int], Mixing]:
    """Our Mixup or CutMix; alpha 1, as in all the others."""

    def make(classes: int) -> Mixing:
        return Ours(import_module(f"mixlayers.{framework}").mix, method_of(op, lam_per), classes)

    return make


def method_of(op: str, lam_per: str) -> Method:
    """The same for any framework."""
    method: Method = {"Mixup": Mixup, "CutMix": CutMix}[op](1.0, lam_per=lam_per)
    return method


def tensors(framework: str) -> Callable[[Any], Any]:
    """What makes the framework's tensors of NumPy arrays."""
    if framework == "torch":
        import torch

        return torch.tensor
    if framework == "paddle":
        import paddle

        return paddle.to_tensor
    return np.asarray
