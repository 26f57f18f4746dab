"""Padding masks: what they say, what two of them say together, and how many tokens they count."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from mixlayers._core.batch.arguments import positional
from mixlayers._core.errors import MixingError
from mixlayers._core.framework.framework import Framework
from mixlayers._core.methods.method import Method

Meaning = Literal["real", "ignored"]
"""What True or 1 says of a position."""

Mask = str | Sequence[str] | Mapping[str, Meaning] | None
"""What `mask=` takes: the name of an argument, several names, or names with their meanings."""

Share = Literal["features", "tokens"]
"""What the label's share counts: the features that were mixed, or the real tokens among them."""


def mask_meanings(mask: Mask) -> dict[str, Meaning]:
    """Each name with its meaning: by default "ignored" for names that end in `padding_mask`, else "real".

    Raises:
        ValueError: If a meaning is neither.
    """
    if isinstance(mask, Mapping):
        for name, meaning in mask.items():
            if meaning not in get_args(Meaning):
                raise ValueError(
                    f"mask={{{name!r}: ...}} must be 'real' or 'ignored' (what True means), got {meaning!r}."
                )
        return dict(mask)
    names = [mask] if isinstance(mask, str) else mask or ()
    return {name: "ignored" if name.endswith("padding_mask") else "real" for name in names}


def check_share(share: Share, method: Method) -> None:
    """Raise ValueError unless the label's share can be counted so."""
    if share not in get_args(Share):
        raise ValueError(f"share must be 'features' or 'tokens', got {share!r}.")
    if share == "tokens" and any(leaf.partial or not leaf.share_is_lam for leaf in method.leaves):
        raise ValueError(
            f"share='tokens' counts tokens that are blended as wholes, but {method!r} replaces parts of "
            "them, or gives labels another share than lam: leave share out, or use Mixup or ManifoldMixup."
        )


def united(
    framework: Framework, mask: Any, partners: Any, size: int, meaning: Meaning, name: str = "mask"
) -> Any:
    """A mask that is real where the sample's or its partner's is; one for all samples stays.

    Args:
        mask: (N, ...), or (1, ...) for all samples.
        partners: The plan's permutation, as the framework has it.
        size: N.
        meaning: What True says.
        name: As errors call it.

    Raises:
        MixingError: If it has another first axis.
    """
    if not framework.is_tensor(mask) or (mask.ndim and mask.shape[0] == 1 != size):
        return mask
    if not mask.ndim or mask.shape[0] != size:
        raise MixingError(
            f"the mask {name!r} must have the batch of {size} on its first axis, as (N, T) or "
            f"(N, 1, T, T), got shape {tuple(mask.shape)}: name the argument that holds the padding mask."
        )
    return union(framework, mask, partners.of(mask), meaning)


def union(framework: Framework, mask: Any, partner: Any, meaning: Meaning) -> Any:
    """Real where either of two masks says so.

    bool and whole numbers are combined by their meaning, so lengths (N,) become the longer one; floats are
    added to attention scores, 0 where a position is real and very negative elsewhere: the larger one.
    """
    if is_bool(mask):
        return mask & partner if meaning == "ignored" else mask | partner
    if meaning == "ignored" and not framework.is_float(mask):
        return -framework.maximum(-mask, -partner)
    return framework.maximum(mask, partner)


def is_bool(x: Any) -> bool:
    return str(x.dtype).endswith("bool")


def count_tokens(framework: Framework, mask: Any, meaning: Meaning) -> Any:
    """The real positions of each sample, (N,): of a mask (N, T) of bools or whole numbers; lengths are themselves.

    Raises:
        ValueError: If the mask is of another shape or floating-point.
    """
    if framework.is_float(mask) or mask.ndim > 2:
        raise ValueError(
            f"tokens are counted in a mask (N, T) of bools or whole numbers, got {mask.dtype} of shape "
            f"{tuple(mask.shape)}: give the model such a mask, or lengths (N,)."
        )
    if mask.ndim == 1:
        return mask
    real = mask == 0 if meaning == "ignored" and not is_bool(mask) else mask != 0
    return ((~real if meaning == "ignored" and is_bool(mask) else real) * 1).sum(1)


def token_share(lam: Any, own: Any, partner: Any) -> Any:
    """The partner's share of the real tokens in each blend: (1 - lam) b / (lam a + (1 - lam) b), (N,).

    Args:
        lam: Share of the original sample: a float, or (N,).
        own: Real tokens of each sample, a, (N,).
        partner: Those of its partner, b, (N,).
    """
    theirs = (1.0 - lam) * partner
    return theirs / (lam * own + theirs + 1e-12)  # two empty samples: the label stays


def parameters(forward: Any, names: Mapping[str, Meaning]) -> dict[str, int]:
    """The names that a forward takes, each with its position among the arguments."""
    try:
        taken = list(inspect.signature(forward).parameters)
    except (TypeError, ValueError):  # of a built-in
        return {}
    return {name: taken.index(name) for name in names if name in taken}


def present_masks(
    places: Mapping[str, int], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The masks that a call has, by name.

    Args:
        places: Their names, and as which positional arguments they may come.
        args, kwargs: The call's.
    """
    found = {name: args[at] if at < len(args) else kwargs.get(name) for name, at in places.items()}
    return {name: mask for name, mask in found.items() if mask is not None}


def masked_modules(meanings: Mapping[str, Meaning], modules: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The modules that take masks, by name: which ones, and as which positional arguments.

    Args:
        meanings: The masks' names.
        modules: The model, by the name "", and its layers.

    Raises:
        ValueError: If a mask is no module's argument.
    """
    found = {name: parameters(module.forward, meanings) for name, module in modules.items()}
    taken = positional(modules[""].forward)
    for name in meanings:
        if not any(name in places for places in found.values()):
            raise ValueError(
                f"mask: neither the model nor one of its layers has an argument {name!r}: give the name by which "
                f"forward takes the padding mask; the model's takes {', '.join(taken) or 'no names'}."
            )
    return {name: places for name, places in found.items() if places}
