"""Chainer's classifier, mixing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
from chainer import Link, Variable

from mixlayers import ManifoldMixup, Method, MixedTarget, Mixup
from mixlayers._core.audit.places import Layers, auto_layers
from mixlayers._core.plan.plan import INPUT
from mixlayers_chainer._audit import audit
from mixlayers_chainer._autograd import AUTOGRAD
from mixlayers_chainer._functions import accuracy, get_mixer
from mixlayers_chainer._loss import cross_entropy
from mixlayers_chainer._mixer import Mixer


class Classifier(L.Classifier):
    """`L.Classifier` that mixes while it trains; the same names in snapshots and logs.

    Reports `loss` and `accuracy`, and in mixed steps `lam` (the label's share of the original sample) and
    `layer` (the place's index in `mixer.places`). With `chainer.config.train` False, without backprop mode, or
    in an Evaluator, it is an `L.Classifier`.

    Args:
        predictor: The network; it is wrapped, as by `wrap`.
        method, layers: As of `wrap`.
        lossfun: A loss of (output, labels); blended, `(1 - s) * loss(y) + s * loss(y[perm])`. Where lam is
            drawn per sample it must be the default, or return one value per sample.
        accfun: The same for the accuracy.
        label_key: Where the labels are among the arguments, as of `L.Classifier`.
        options: Keyword arguments of `wrap`: example, seed, rank, batch_dim, channel_dim.
    """

    def __init__(
        self,
        predictor: Link,
        method: Method | None = None,
        layers: Layers = "auto",
        lossfun: Any = cross_entropy,
        accfun: Any = accuracy,
        label_key: int | str = -1,
        **options: Any,
    ) -> None:
        super().__init__(predictor, lossfun, accfun, label_key)
        Mixer(predictor, method, layers, **options)

    @property
    def mixer(self) -> Mixer:
        """The predictor's mixer, for its `step`, `last`, `places` and `extension`."""
        return get_mixer(self.predictor)

    def forward(self, *args: Any, **kwargs: Any) -> Variable:
        """The loss of a batch; in training that of the mixed batch."""
        key = self.label_key
        mixing = chainer.config.train and AUTOGRAD.grad_enabled()
        if not mixing or not (key in kwargs if isinstance(key, str) else -len(args) <= key < len(args)):
            return super().forward(*args, **kwargs)
        if isinstance(key, str):
            labels = kwargs.pop(key)
        else:
            labels = args[key]
            args = tuple(x for index, x in enumerate(args) if index != key % len(args))
        self.y = self.loss = self.accuracy = None
        with self.mixer(labels) as target:
            self.y = self.predictor(*args, **kwargs)
        self.loss = self._loss(target)
        chainer.report({"loss": self.loss}, self)
        if self.compute_accuracy:
            self.accuracy = self._blended(self.accfun, accuracy, target)
            chainer.report({"accuracy": self.accuracy}, self)
        if target.mixed:
            lam = target.lam if isinstance(target.lam, float) else target.lam.mean()
            chainer.report({"lam": lam, "layer": self._index(target)}, self)
        return self.loss

    def _index(self, target: MixedTarget) -> int:
        places: Sequence[str | None] = self.mixer.places or ()
        return places.index(target.layer)

    def _loss(self, target: MixedTarget) -> Variable:
        loss = self._blended(self.lossfun, cross_entropy, target)
        if self.lossfun is not cross_entropy:  # which scales by itself
            loss = loss * target.loss_scale
        return F.mean(loss) if loss.ndim else loss

    def _blended(self, f: Any, ours: Any, target: MixedTarget) -> Variable:
        if (
            f is F.softmax_cross_entropy and getattr(target.y, "ndim", 1) > 1
        ):  # pixels may have to follow a mask
            return cross_entropy(self.y, target) / target.loss_scale
        return f(self.y, target) if f is ours else target.blend(lambda labels: f(self.y, labels))


class ManifoldMixupClassifier(Classifier):
    """Manifold Mixup by the arguments of a well-known Chainer recipe.

    Args:
        predictor: The network, for example ResNet50Layers inside a Chain; it needs no editing.
        mixup_hidden: Whether to mix at hidden layers too; False: the input alone.
        mixup_alpha: Of lam's Beta distribution, > 0.
        layer_mix: The one place to mix at: a number, 0 being the input and k the k-th of `layers`, or a name.
            None: a place drawn anew in each step.
        layers: The hidden places, as of `wrap`; "stages": the ends of the network's stages.
        example: What the predictor takes; needed to number stages.
        lossfun, accfun, label_key, options: As of `Classifier`.
    """

    def __init__(
        self,
        predictor: Link,
        mixup_hidden: bool = True,
        mixup_alpha: float = 0.2,
        layer_mix: int | str | None = None,
        layers: Layers = "stages",
        *,
        example: Any = None,
        lossfun: Any = cross_entropy,
        accfun: Any = accuracy,
        label_key: int | str = -1,
        **options: Any,
    ) -> None:
        method: Method = ManifoldMixup(mixup_alpha) if mixup_hidden else Mixup(mixup_alpha)
        if not mixup_hidden:
            layers = "auto"
        elif isinstance(layer_mix, str):
            layers = layer_mix
        elif layer_mix is not None:
            layers = _numbered(_places(predictor, layers, example), layer_mix)
        super().__init__(predictor, method, layers, lossfun, accfun, label_key, example=example, **options)


def _numbered(places: Sequence[Any], number: int) -> Any:
    if not 0 <= number < len(places):
        named = ", ".join(f"{at} is {place!r}" for at, place in enumerate(places))
        raise ValueError(
            f"layer_mix must be in [0, {len(places) - 1}], or a layer's name, got {number}: {named}."
        )
    return places[number]


def _places(predictor: Link, layers: Layers, example: Any) -> Sequence[Any]:
    if not isinstance(layers, str):
        return [INPUT, *(layer for layer in layers if layer != INPUT)]
    if example is None:
        raise ValueError(
            "layer_mix as a number counts the network's stages, which only an example shows: "
            "give example=images, or the layer's name."
        )
    return auto_layers(audit(predictor, example), layers)
