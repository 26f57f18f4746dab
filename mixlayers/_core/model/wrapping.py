"""One line on, one line off: `wrap`, `unwrap` and `get_mixer`, once for every framework that has hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from mixlayers._core.audit.places import Layers
from mixlayers._core.batch.token_masks import Mask, Share
from mixlayers._core.documents import add_arguments
from mixlayers._core.methods.method import Method
from mixlayers._core.model.judge import Trust
from mixlayers._core.model.mixer import BaseMixer

Model = TypeVar("Model")
AnyMixer = TypeVar("AnyMixer")


class Wrapping(Generic[AnyMixer]):
    """The three functions of one framework; a backend shows the methods.

    Args:
        mixer: The framework's Mixer.
        find: The mixer on a model, None without one.
        remove: Takes a mixer's hooks off a model.
    """

    def __init__(
        self,
        mixer: type[AnyMixer],
        find: Callable[[Any], object],
        remove: Callable[[Any, Any], None],
    ) -> None:
        self._mixer, self._find, self._remove = mixer, find, remove

    def wrap(
        self,
        model: Model,
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
    ) -> Model:
        """Make a model mix: afterwards `output, target = model(images, target=labels)`.

        The same object comes back, with hooks attached. In eval mode (in Chainer with
        `chainer.config.train` False), without gradients, or without a target, the model computes what it always did.
        """
        make: Any = self._mixer
        make(
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
            trust=trust,
            keep=keep,
        )
        return model

    def unwrap(self, model: Model) -> Model:
        """Take mixing off the model again: no hook stays, and in Chainer the links get their classes back.

        Raises:
            ValueError: If the model is not wrapped.
        """
        self._remove(model, self.get_mixer(model))
        return model

    def get_mixer(self, model: object) -> AnyMixer:
        """The mixer that `wrap` attached to the model, for its `step`, `last`, `loss` and `state_dict`.

        Raises:
            ValueError: If the model is not wrapped.
        """
        mixer = self._find(model)
        if not isinstance(mixer, self._mixer):
            raise ValueError(f"this {type(model).__name__} is not wrapped: call wrap(model) first.")
        return mixer


add_arguments(Wrapping.wrap, BaseMixer)
