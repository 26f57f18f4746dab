"""The mixer of a paddle.nn.Layer."""

from __future__ import annotations

from typing import Any

from paddle import distributed, nn

from mixlayers._core.audit.trial import Trial
from mixlayers._core.model.mixer import BaseMixer
from mixlayers_paddle._audit import put_on_trial
from mixlayers_paddle._autograd import AUTOGRAD
from mixlayers_paddle._framework import PADDLE
from mixlayers_paddle._hooks import Close, Enter, Leave, Masked, Place, Unmasked, check_wrappable
from mixlayers_paddle._stage import PaddleStage
from mixlayers_paddle._static_mixer import StaticMixer


class Mixer(StaticMixer):
    __doc__ = BaseMixer.__doc__

    _framework = PADDLE
    _autograd = AUTOGRAD

    def _check_wrappable(self, model: nn.Layer) -> None:
        check_wrappable(model)

    def _named_layers(self, model: nn.Layer) -> dict[str, nn.Layer]:
        return dict(model.named_sublayers())

    def _hook_model(self, model: nn.Layer) -> None:
        Enter(model, self)
        Leave(model, self)
        Close(model, self)

    def _hook_layer(self, layer: nn.Layer, name: str) -> None:
        Place(layer, self, name)

    def _hook_mask(self, layer: nn.Layer, name: str) -> None:
        Masked(layer, self, name)
        Unmasked(layer, self, name)

    def _audit(self, model: nn.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        return put_on_trial(model, args, kwargs, self.batch_dim, self._padding.masked)

    def _stage(self, model: nn.Layer) -> PaddleStage:
        return PaddleStage(model)

    def _alone(self) -> bool:
        return bool(distributed.get_world_size() == 1)
