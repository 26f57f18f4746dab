"""The padding masks of a model's mixed steps: they travel with the plan, and real tokens can weigh the label."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.batch.token_masks import (
    Mask,
    Share,
    check_share,
    count_tokens,
    mask_meanings,
    masked_modules,
    present_masks,
    token_share,
    united,
)
from mixlayers._core.errors import MixingError
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.methods.method import Method
from mixlayers._core.model.passes import Call, Pass

_USUAL = ("attention_mask", "key_padding_mask", "src_key_padding_mask", "padding_mask")


class Padding:
    """The masks of one model's mixed steps.

    A module that takes a mask, runs after the mixed place and is not inside another such module sees the union
    of each sample's mask with its partner's; what is inside gets it handed down, and so does what is given a mask
    that such a module returned. The decision is recorded with the pass, since a module that activation
    checkpointing runs again must see the same mask.

    Attributes:
        meanings: The masks' names, with what they say.
        masked: The modules that take masks, by name ("" is the model): which, and as which positional arguments.
    """

    def __init__(
        self, framework: Framework, method: Method, mask: Mask, share: Share, modules: Mapping[str, Any]
    ) -> None:
        self.framework, self.share, self.meanings = framework, share, mask_meanings(mask)
        check_share(share, method)
        if share == "tokens" and not self.meanings:
            raise ValueError(
                "share='tokens' counts the tokens in the padding mask: name its argument, as mask='attention_mask'."
            )
        self.masked = masked_modules(self.meanings, modules) if self.meanings else {}
        self._model_takes = self.masked.get("", {})
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

    def enter(
        self, module: str, mixed: Pass, call: Call | None, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A module that takes masks is called in a mixed forward: what to call it with; None: as it is.

        Args:
            module: Its name.
            mixed: The pass that it belongs to.
            call: The forward that runs; None where the module runs again apart from it.
            args, kwargs: The module's.
        """
        places = self.masked[module]
        masks = present_masks(places, args, kwargs)
        if call is not None and call.tokens is None:
            tensors = ((x, name) for name, mask in masks.items() for x in leaves(mask))
            call.tokens = next(
                ((x, self.meanings[name]) for x, name in tensors if self.framework.is_tensor(x)), None
            )
        mixed.masks += self.framework.tensors(masks.values())
        names = self._to_unite(module, masks, mixed, call) if masks and mixed.mixes else ()
        if not names:
            return None
        args, kwargs = list(args), dict(kwargs)
        for name in names:
            united = tree_map(partial(self._unite, name, mixed), masks[name])
            mixed.unions += self.framework.tensors([united])
            if places[name] < len(args):
                args[places[name]] = united
            else:
                kwargs[name] = united
        return tuple(args), kwargs

    def leave(self, call: Call, output: Any) -> None:
        """A module that was given the union has run: masks that it made of that, and returns, are united too."""
        call.united_in = None
        call.mixed.unions += [x for x in self.framework.tensors([output]) if not self.framework.is_float(x)]

    def token_share(self, call: Call) -> Any:
        """A mixed forward is over: the label's share, (N,), by real tokens; None if it is by features.

        Raises:
            MixingError: If no module was given a mask, so that padding would not be known.
        """
        if not self.meanings or not call.mixed.mixes:
            return None
        if call.tokens is None or call.mixed.plan is None:
            names = " or ".join(map(repr, self.meanings))
            raise MixingError(
                f"no layer was given a mask as {names} in a mixed step, so padding would be taken for tokens: pass "
                "the mask to the model by that name, or leave mask= out where nothing is padded."
            )
        if self.share == "features":
            return None
        own = count_tokens(self.framework, *call.tokens)
        lam = self.framework.share(call.mixed.plan.lam, own)
        return token_share(lam, own * 1.0, call.mixed.partners_of(self.framework).of(own) * 1.0)

    def lengths(self, args: Any, kwargs: Any) -> npt.NDArray[np.int64]:
        """The samples' lengths on the host, from a mask that the model itself is called with.

        Raises:
            ValueError: If there is none.
        """
        for name, mask in present_masks(self._model_takes, args, kwargs).items():
            tokens = count_tokens(self.framework, mask, self.meanings[name])
            return self.framework.to_numpy(tokens).astype(np.int64)
        raise ValueError(
            'pairs=Near("length", ...) needs the padding mask, or lengths (N,), when the model is called: name its '
            f"argument as mask=, {', '.join(map(repr, self.meanings)) or 'none now'}, and pass it to the model."
        )

    def masks_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The masks' tensors in a call of the model: arguments, and entries of batches that are mappings."""
        batches = [x for x in (*args, *kwargs.values()) if isinstance(x, Mapping)]
        own = {**kwargs, **present_masks(self._model_takes, args, kwargs)}
        found = [known[name] for known in (own, *batches) for name in self.meanings if name in known]
        return [x for mask in found for x in leaves(mask) if self.framework.is_tensor(x)]

    def without_masks(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call of the model without its masks, which are not features."""
        at = self._model_takes.values()
        rest = tuple(None if index in at else x for index, x in enumerate(args))
        return rest, {name: value for name, value in kwargs.items() if name not in self.meanings}

    def _to_unite(
        self, module: str, masks: Mapping[str, Any], mixed: Pass, call: Call | None
    ) -> frozenset[str]:
        """Which of a module's masks become unions: as in the forward, where it runs again apart from that."""
        known, names = mixed.united, frozenset[str]()
        if call is None:
            again = known.get(module, names)
            if again is None:
                raise MixingError(
                    f"{module!r} ran with and without its partners' masks in one forward, so its recomputation "
                    "cannot tell which: recompute its callers instead, or mix elsewhere."
                )
            return again & masks.keys()
        if call.mixed_already and call.united_in is None:
            call.united_in = module
            names = frozenset(name for name, mask in masks.items() if not self._is_united(mask, mixed))
        known[module] = names if known.get(module, names) == names else None
        return names

    def _is_united(self, mask: Any, mixed: Pass) -> bool:
        tensors = self.framework.tensors([mask])
        return bool(tensors) and all(any(x is known for known in mixed.unions) for x in tensors)

    def _unite(self, name: str, mixed: Pass, mask: Any) -> Any:
        size = mixed.plan.batch_size if mixed.plan is not None else 0
        partners = mixed.partners_of(self.framework)
        return united(self.framework, mask, partners, size, self.meanings[name], name)
