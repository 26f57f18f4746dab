"""One training step: what rides with its batch, and what has come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask

from mixlayers import MixedTarget
from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.plan.plan import INPUT
from mixlayers_keras._engine import ENGINE


class Step:
    """A step that is being made, or traced.

    Attributes:
        plan: Its plan, as the backend has it.
    """

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self._ran: Counter[str] = Counter()
        self._made: list[MixedTarget] = []

    def mixed(self, place: str, x: Any, keep: Collection[str] = ()) -> Any:
        """What a layer returns, mixed; its padding mask sees as real what is so in either sample."""
        self._ran[place] += 1
        mixed = self.plan.mixed(place, x, keep)
        for before, after in zip(keras.tree.flatten(x), keras.tree.flatten(mixed), strict=True):
            mask = None if before is None else get_keras_mask(before)
            if mask is not None and after is not before:
                set_keras_mask(after, mask | ENGINE.partners(self.plan, place).of(mask))
        return mixed

    def input(self, data: Any, keep: Collection[str]) -> Any:
        """A batch as the model gets it, mixed if the plan is for the input."""
        if INPUT not in ENGINE.places(self.plan):
            return data
        if isinstance(data, tuple | list):
            return type(data)([self.mixed(INPUT, data[0], keep), *data[1:]])
        return self.mixed(INPUT, data, keep)

    def target(self, y: Any) -> MixedTarget:
        """The step's labels.

        Raises:
            MixingError: If the plan's layer has not run once.
        """
        for place in ENGINE.places(self.plan) if self.plan.mixes else ():
            if self._ran[place] != 1:
                refuse(
                    f"the plan's place {place!r} ran {self._ran[place]} times before the loss, so that labels would "
                    "not follow the features",
                    "call the model once a step, before its loss; or choose another layer",
                )
        self._made.append(ENGINE.target(y, self.plan))
        return self._made[-1]

    def rows(self, weight: Any) -> Any:
        """The partners' sample weights."""
        return ENGINE.target(weight, self.plan).partner

    def check_used(self) -> None:
        """Raise if features were mixed, and no loss has seen it."""
        if self.plan.mixes and not any(target.used for target in self._made):
            raise MixingError(
                "a step mixed the features, and its loss did not use the mixed labels: give compile(loss=...) the "
                "loss, which blends it; in a train_step or compute_loss of your own take "
                "target = mixlayers.keras.get_mixer(self).target(y) and target.blend(lambda y: loss(y, y_pred))."
            )
