"""One line on, one line off."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from paddle import nn

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.batch.token_masks import Mask, Share
from mixlayers._core.model.judge import Trust
from mixlayers._core.model.mixer import attached
from mixlayers_paddle._hooks import find_mixer, remove_hooks
from mixlayers_paddle._mixer import Mixer

Model = TypeVar("Model", bound=nn.Layer)


def wrap(
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

    The same object comes back, with hooks attached; the arguments are `Mixer`'s. In eval mode, without
    gradients, or without a target, the model computes what it always did.
    """
    Mixer(
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


def unwrap(model: Model) -> Model:
    """Take mixing off the model again: no hook stays.

    Raises:
        ValueError: If the model is not wrapped.
    """
    remove_hooks(model, get_mixer(model))
    return model


def get_mixer(model: nn.Layer) -> Mixer:
    """The mixer that `wrap` attached to the model, for its `step`, `last`, `loss` and `state_dict`.

    Raises:
        ValueError: If the model is not wrapped.
    """
    return attached(find_mixer(model), Mixer, model)
