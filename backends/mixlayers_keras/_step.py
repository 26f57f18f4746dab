"""One training step: what rides with its batch, and what has come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from threading import get_ident
from typing import Any, NamedTuple

import keras
from keras.src.backend import get_keras_mask

from mixlayers import MixedTarget
from mixlayers._core.errors import MixingError, refuse
from mixlayers._core.plan.plan import INPUT
from mixlayers_keras._engine import ENGINE, Planned
from mixlayers_keras._masks import give_mask, mask_of


class Masks(NamedTuple):
    """Padding masks of blended samples, True where there is a token."""

    own: Any
    partner: Any


class Step:
    """A step that is being made, or traced: it knows its batch's tensors, and which calls of a layer are its own.

    Args:
        planned: The batch, and the plan as the backend has it.
    """

    def __init__(self, planned: Planned) -> None:
        self.data, self.plan = planned
        self._thread = get_ident()
        self._batch = {id(leaf) for leaf in _tensors(self.data)}
        self._ran: Counter[str] = Counter()
        self._made: list[MixedTarget] = []
        self._united: list[tuple[Any, Masks]] = []

    @property
    def here(self) -> bool:
        """Whether this is its thread, or one in which a backward pass runs layers again."""
        return self._thread == get_ident() or ENGINE.in_backward()

    def holds(self, y: Any) -> bool:
        """Whether labels are its batch's: the very tensors, however they are nested.

        Raises:
            MixingError: If some of them are, and some are not.
        """
        known = [id(leaf) in self._batch for leaf in _tensors(y)] if self.here else []
        if any(known) and not all(known):
            refuse(
                f"{known.count(False)} of {len(known)} labels are not the tensors of the step's batch, whose partners "
                "are known",
                "give the batch's own, and make of them what the loss takes inside of it, "
                "target.blend(lambda y: loss(one_hot(y), y_pred)), or before fit",
            )
        return any(known)

    def mixed(self, place: str, x: Any, keep: Collection[str] = ()) -> Any:
        """What a layer returns, mixed; its padding mask sees as real what is so in either of two blended samples."""
        if not self.here:
            return x
        self._ran[place] += not (ENGINE.in_backward() or (self._made and ENGINE.recomputes_unseen()))
        mixed = self.plan.mixed(place, x, keep)
        for before, after in zip(keras.tree.flatten(x), keras.tree.flatten(mixed), strict=True):
            mask = None if before is None else mask_of(before)
            if mask is not None and after is not before:
                give_mask(after, self._either(place, mask) if self.plan.mixes else mask, like=before)
        return mixed

    def _either(self, place: str, mask: Any) -> Any:
        """A padding mask that sees as real what is so in either of two blended samples."""
        partners = ENGINE.partners(self.plan, place)
        united, before = mask | partners.of(mask), self._masks(mask) or Masks(mask, mask)
        self._united.append((united, Masks(before.own, partners.of(before.partner))))
        return united

    def _masks(self, mask: Any) -> Masks | None:
        return next((masks for united, masks in self._united if united is mask), None)

    def masks(self, y_pred: Any, weight: Any) -> Masks:
        """The padding masks of a loss's two terms; the predictions' own, or None, where weights say what counts.

        Raises:
            ValueError: If the predictions' mask is none that was united here: whose padding it shows is not known.
        """
        mask = get_keras_mask(y_pred)
        masks = self._masks(mask)
        if mask is not None and masks is None and len(getattr(weight, "shape", ())) < len(mask.shape):
            raise ValueError(
                f"the predictions have a padding mask {tuple(mask.shape)} that does not come unchanged from the mixed "
                "layer, so that the labels of one sample's padding would count where its partner has none: give fit "
                "sample weights of that shape, 0 at each sample's padding."
            )
        return masks or Masks(mask, mask)

    def input(self, keep: Collection[str]) -> Any:
        """The batch as the model gets it, mixed if the plan is for the input."""
        data = self.data
        if INPUT not in ENGINE.places(self.plan):
            return data
        if isinstance(data, tuple | list):
            return type(data)([self.mixed(INPUT, data[0], keep), *data[1:]])
        return self.mixed(INPUT, data, keep)

    def target(self, y: Any) -> MixedTarget:
        """The step's labels.

        Raises:
            MixingError: If the plan's layer has not run, or not once.
        """
        self._check_once()
        self._made.append(ENGINE.target(y, self.plan))
        return self._made[-1]

    def rows(self, weight: Any) -> Any:
        """The partners' sample weights."""
        return ENGINE.target(weight, self.plan).partner

    def check_used(self) -> None:
        """Raise if features were mixed, and no loss has seen it; or if they were mixed more than once."""
        if self.plan.mixes and not any(target.used for target in self._made):
            raise MixingError(
                "a step mixed the features, and its loss did not use the mixed labels: give compile(loss=...) the "
                "loss, which blends it; in a train_step or compute_loss of your own take "
                "target = mixlayers.keras.get_mixer(self).target(y) and target.blend(lambda y: loss(y, y_pred)). "
                "Give both the batch's own label tensors: what is made of them before is not known."
            )
        self._check_once()

    def _check_once(self) -> None:
        for place in ENGINE.places(self.plan) if self.plan.mixes else ():
            if self._ran[place] != 1:
                refuse(
                    f"the plan's place {place!r} ran {self._ran[place]} times in one step, so that labels would not "
                    "follow the features",
                    "call the model once a step, before its loss; or choose another layer",
                )


def _tensors(data: Any) -> list[Any]:
    return [leaf for leaf in keras.tree.flatten(data) if hasattr(leaf, "shape")]
