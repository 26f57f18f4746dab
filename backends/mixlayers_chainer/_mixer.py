"""The mixer of a chainer.Link."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import uuid4

import chainer
from chainer import Link
from chainer.training import Extension

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.trial import Trial
from mixlayers._core.batch.token_masks import Mask, Share
from mixlayers._core.model.judge import Trust
from mixlayers._core.model.mixer import BaseMixer
from mixlayers_chainer._audit import put_on_trial
from mixlayers_chainer._autograd import AUTOGRAD
from mixlayers_chainer._framework import CHAINER
from mixlayers_chainer._hooks import (
    Around,
    Keyed,
    Place,
    check_wrappable,
    hook,
    named_layers,
    warn_of_position,
)
from mixlayers_chainer._stage import ChainerStage


class Mixer(Keyed):
    __doc__ = BaseMixer.__doc__

    _framework = CHAINER
    _autograd = AUTOGRAD

    def __init__(
        self,
        model: Link,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any = None,
        seed: int = 0,
        rank: int | None = None,
        batch_dim: int = 0,
        channel_dim: int = 1,
        mask: Mask = None,
        share: Share = "features",
        trust: Trust = False,
        keep: Collection[str] = (),
    ) -> None:
        if mask:
            raise ValueError(
                f"mask={mask!r}: Chainer's links take no padding masks, so none can travel with the mixed features: "
                "mix where sequences are features of one length, (N, ...), such as after pooling."
            )
        layers = _dotted(layers)
        for name in [layers] if isinstance(layers, str) else layers if isinstance(layers, Sequence) else []:
            if isinstance(name, str):
                warn_of_position(model, name)
        self.key = uuid4().hex
        super().__init__(
            model,
            method,
            layers,
            example=example,
            seed=seed,
            rank=rank,
            batch_dim=batch_dim,
            channel_dim=channel_dim,
            mask=mask,
            share=share,
            trust=trust if isinstance(trust, bool) else _dotted(trust),
            keep=keep,
        )

    @property
    def extension(self) -> MixerExtension:
        """For the Trainer: `trainer.extend(mixer.extension)` keeps the step in its snapshots."""
        return MixerExtension(self)

    def serialize(self, serializer: Any) -> None:
        """Save or load the step with one of Chainer's serializers."""
        step = serializer("step", self.step)
        if isinstance(serializer, chainer.Deserializer):
            self.load_state_dict({"step": int(step)})

    def _check_wrappable(self, model: Link) -> None:
        check_wrappable(model)

    def _named_layers(self, model: Link) -> dict[str, Link]:
        named: dict[int, tuple[str, Link]] = {}
        for name, link in named_layers(model):
            named.setdefault(id(link), (name, link))  # a link may be registered twice
        return dict(named.values())

    def _training(self, model: Link) -> bool:
        return bool(chainer.config.train)

    def _hook_model(self, model: Link) -> None:
        hook(model, Around(self))

    def _hook_layer(self, layer: Link, name: str) -> None:
        hook(layer, Place(self, name))

    def _audit(self, model: Link, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        return put_on_trial(model, args, kwargs, self.batch_dim)

    def _stage(self, model: Link) -> ChainerStage:
        return ChainerStage(model)

    def _alone(self) -> bool:
        return not CHAINER.has_peers()


class MixerExtension(Extension):
    """Does nothing but be saved and loaded with the Trainer."""

    name = "mixer"
    trigger = (1, "epoch")

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer

    def __call__(self, trainer: Any) -> None:
        pass

    def serialize(self, serializer: Any) -> None:
        self.mixer.serialize(serializer)


def _dotted(layers: Layers) -> Layers:
    """Chainer's own paths, such as /base/res2, as names."""
    if isinstance(layers, str):
        return layers.strip("/").replace("/", ".")
    if isinstance(layers, Sequence) and not isinstance(layers, Link):
        return [_dotted(item) for item in layers]
    return layers
