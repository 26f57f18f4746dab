"""The padding masks of a model's mixed steps: they travel with the plan, and real tokens can weigh the label."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from mixlayers._core.batch.token_masks import (
    Mask,
    Meaning,
    Share,
    count_tokens,
    given,
    mask_meanings,
    token_share,
    union,
)
from mixlayers._core.errors import MixingError
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.model.passes import Pass, State, running
from mixlayers._core.plan.plan import MixPlan

if TYPE_CHECKING:
    from mixlayers._core.model.layer_hooks import LayerHooks

_USUAL = ("attention_mask", "key_padding_mask", "src_key_padding_mask", "padding_mask")


@dataclass
class Masks:
    """What one forward's masks were.

    Attributes:
        seen: Whether a module was given one.
        tokens: The first one, to count tokens in, and its meaning.
        inside: The module around this call that has the union already.
    """

    seen: bool = False
    tokens: tuple[Any, Meaning] | None = None
    inside: str | None = None


class Padding:
    """The masks of one model's mixed steps: what its hooks on masked modules ask.

    A module that takes a mask, runs after the mixed place and is not inside another such module sees the union
    of each sample's mask with its partner's; what is inside gets it handed down. The decision is recorded with
    the pass, since a module that activation checkpointing runs again must see the same mask.
    """

    def __init__(self, hooks: LayerHooks[Any], mask: Mask, share: Share) -> None:
        meanings = mask_meanings(mask)
        if share not in get_args(Share):
            raise ValueError(f"share must be 'features' or 'tokens', got {share!r}.")
        if share == "tokens" and not meanings:
            raise ValueError(
                "share='tokens' counts the tokens in the padding mask: name its argument, as mask='attention_mask'."
            )
        if share == "tokens" and any(leaf.partial for leaf in hooks.method.leaves):
            raise ValueError(
                f"share='tokens' counts tokens that are blended as wholes, but {hooks.method!r} replaces parts of "
                "them: leave share out, or use Mixup or ManifoldMixup."
            )
        self.hooks, self.meanings, self.share = hooks, meanings, share
        self.masked: Mapping[str, Mapping[str, int]] = {}  # the modules that take masks, and where
        self.model_takes: Mapping[str, int] = {}  # which masks the model itself takes, and where
        self._warns = mask is None

    def warn_of_unnamed(self, names: Iterable[str]) -> None:
        """Warn, once, of a mixed forward whose arguments hold a mask that nobody named."""
        unnamed = next((name for name in names if name in _USUAL), None) if self._warns else None
        if unnamed is not None:
            self._warns = False
            warnings.warn(
                f"the model is called with {unnamed!r}, but mixing does not know of it: if it pads, layers that run "
                "after the mixed place take the partner's tokens for padding. "
                f"Give mask={unnamed!r}, or mask=() if nothing is padded.",
                stacklevel=2,
            )

    def before(
        self, module: str, places: Mapping[str, int], args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A module that takes masks is called: the arguments to call it with; None: as they are.

        Args:
            module: Its name.
            places: The masks that it takes, and as which positional arguments.
            args, kwargs: The call's.
        """
        mixed, again, *_ = self.hooks.acting()
        if mixed is None or mixed.plan is None or not mixed.mixes:
            return None
        masks = given(places, args, kwargs)
        if not masks:
            return None
        self._note(mixed, masks)
        if not self._unites(module, mixed, again=again):
            return None
        args, kwargs = list(args), dict(kwargs)
        for name, mask in masks.items():
            united = tree_map(partial(self._unite, name, mixed.plan, mixed), mask)
            if places[name] < len(args):
                args[places[name]] = united
            else:
                kwargs[name] = united
        return tuple(args), kwargs

    def after(self, module: str) -> None:
        """A module that takes masks has run."""
        mixed = running(self.hooks._session)
        if mixed is not None and mixed.masks is not None and mixed.masks.inside == module:
            mixed.masks.inside = None

    def end(self, mixed: Pass) -> Any:
        """A mixed forward is over: the label's share, (N,), by real tokens; None if it is by features.

        Raises:
            MixingError: If no module was given a mask, so that padding would not be known.
        """
        masks, mixed.masks = self._masks(mixed), None
        if not self.meanings or not mixed.mixes:
            return None
        if not masks.seen or masks.tokens is None or mixed.plan is None:
            names = " or ".join(map(repr, self.meanings))
            raise MixingError(
                f"no layer was given a mask as {names} in a mixed step, so padding would be taken for tokens: pass "
                "the mask to the model by that name, or leave mask= out where nothing is padded."
            )
        if self.share == "features":
            return None
        own = count_tokens(self.hooks.framework, *masks.tokens)
        lam = self.hooks.framework.share(mixed.plan.lam, own)
        return token_share(lam, own * 1.0, self.hooks._partners(mixed).of(own) * 1.0)

    def lengths(self, args: Any, kwargs: Any) -> npt.NDArray[np.int64]:
        """The samples' lengths on the host, from a mask that the model itself is called with.

        Raises:
            ValueError: If there is none.
        """
        for name, mask in given(self.model_takes, args, kwargs).items():
            tokens = count_tokens(self.hooks.framework, mask, self.meanings[name])
            return self.hooks.framework.to_numpy(tokens).astype(np.int64)
        raise ValueError(
            'pairs=Near("length", ...) needs the padding mask, or lengths (N,), when the model is called: name its '
            f"argument as mask=, and pass it (mask={self.meanings!r})."
        )

    def of_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The masks that the model itself is called with."""
        return list(given(self.model_takes, args, kwargs).values())

    def apart(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call of the model without its masks, which are not features."""
        at = self.model_takes.values()
        rest = tuple(None if index in at else x for index, x in enumerate(args))
        return rest, {name: value for name, value in kwargs.items() if name not in self.meanings}

    def _masks(self, mixed: Pass) -> Masks:
        if mixed.masks is None:
            mixed.masks = Masks()
        masks: Masks = mixed.masks
        return masks

    def _unites(self, module: str, mixed: Pass, *, again: bool) -> bool:
        united = mixed.origin.united
        if again:
            unites = united.get(module, False)
            if unites is None:
                raise MixingError(
                    f"{module!r} ran with and without its partners' masks in one forward, so its recomputation "
                    "cannot tell which: recompute its callers instead, or mix elsewhere."
                )
            return unites
        masks = self._masks(mixed)
        unites = mixed.state is State.FIRED and masks.inside is None
        if unites:
            masks.inside = module
        united[module] = unites if united.get(module, unites) == unites else None
        return unites

    def _note(self, mixed: Pass, named: Mapping[str, Any]) -> None:
        masks = self._masks(mixed)
        for name, mask in named.items():
            tensors = [x for x in leaves(mask) if self.hooks.framework.is_tensor(x)]
            masks.seen = masks.seen or bool(tensors)
            if masks.tokens is None and tensors:
                masks.tokens = tensors[0], self.meanings[name]

    def _unite(self, name: str, plan: MixPlan, mixed: Pass, mask: Any) -> Any:
        if not self.hooks.framework.is_tensor(mask):
            return mask
        if mask.ndim and mask.shape[0] == 1 != plan.batch_size:
            return mask  # one for all samples
        if not mask.ndim or mask.shape[0] != plan.batch_size:
            raise MixingError(
                f"the mask {name!r} must have the batch of {plan.batch_size} on its first axis, as (N, T) or "
                f"(N, 1, T, T), got shape {tuple(mask.shape)}: name the argument that holds the padding mask."
            )
        partner = self.hooks._partners(mixed).of(mask)
        return union(self.hooks.framework, mask, partner, self.meanings[name])
