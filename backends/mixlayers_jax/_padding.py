"""Padded batches: shares by real tokens, and masks that follow the blend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from mixlayers._core.batch.token_masks import Meaning, token_share
from mixlayers._core.batch.token_masks import united as united_masks
from mixlayers_jax._framework import JAX
from mixlayers_jax._plan import Plan


def by_tokens(plan: Plan, lengths: Any) -> Plan:
    """A plan whose labels get the partner's share of the real tokens.

    Args:
        plan: The step's, of one lam or one for each sample, everywhere.
        lengths: How many real tokens each sample has, (N,).

    Raises:
        ValueError: If there is another number of them.
    """
    own = np.asarray(lengths)
    if own.shape != (plan.batch_size,):
        raise ValueError(
            f"lengths are one number for each of {plan.batch_size} samples, got shape {own.shape}: mask.sum(1)."
        )
    if not plan.mixes:
        return replace(plan, s=np.zeros(len(own), np.float32))  # of one form in every step
    s = token_share(plan.lam, own * 1.0, plan.partners.of(own) * 1.0)
    return replace(plan, s=s.astype(np.float32))


def united(mask: Any, plan: Plan | None, place: str | None = None, *, meaning: Meaning = "real") -> Any:
    """A padding mask for what runs after a mixed place: real where the sample's or its partner's is.

    Inside jit or outside: `h, mask = blend(h, plan, "layer1"), united(mask, plan, "layer1")`, or
    `model(x, mask=united(mask, plan), target=y, plan=plan)` where nothing before the place looks at the mask.

    Args:
        mask: (N, ...) of bools, whole numbers (lengths too) or floats that are added to scores; (1, ...), which is one
            for all samples, stays.
        plan: The step's; None leaves the mask, as in evaluation.
        place: United where the plan mixes here; None: wherever it does.
        meaning: What True or 1 says: "real", or "ignored".

    Raises:
        MixingError: If the mask has another number of samples.
    """
    if not isinstance(plan, Plan) or not plan.mixes:  # or an audit's marks
        return mask
    part = plan if place is None else plan.part(place)
    if part is None:
        return mask
    both = united_masks(JAX, mask, part.partners, part.batch_size, meaning)
    acts = part.at >= 0 if part.places is not None else part.acts
    return both if acts is None or both is mask else jnp.where(acts, both, mask)
