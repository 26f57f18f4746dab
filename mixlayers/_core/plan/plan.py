"""The plan of one step, decided before any tensor is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import check_integer
from mixlayers._core.plan.alignments import Align
from mixlayers._core.plan.blends import Blend as Blend
from mixlayers._core.plan.blends import Weigh, partner_share
from mixlayers._core.plan.feature import Feature
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.masks import Box
from mixlayers._core.plan.noise import Jitter
from mixlayers._core.plan.relabel import Lopsided
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste
from mixlayers._core.plan.streams import MASK, stream
from mixlayers._core.plan.styles import Restyle
from mixlayers._core.plan.written import Acts, from_json, recipe_from_dict, recipe_to_dict, to_json
from mixlayers._core.plan.written import Recipe as Recipe

INPUT: Final = "input"
"""The place before the first layer."""

FORMAT: Final = 2
"""Version of a plan's dict; raised whenever an old dict would no longer draw the same step."""


Act = Blend | Weigh | Paste | Restyle | Align | Jitter | Replace
"""A plan brought to one feature's shape: what is to be done there."""


@dataclass(frozen=True, eq=False)
class MixPlan:
    """One step's decisions: a pure function of (method, seed, rank, step, batch size, layers).

    Frozen, free of any framework's tensors, and replayable: `MixPlan.from_dict(plan.to_dict())` mixes
    exactly as `plan` does.

    Attributes:
        seed, rank, step: Where the step's random streams lie.
        method: `repr` of the method that decided.
        place: "input", a layer's name, or None for a step that mixes nothing.
        perm: Partners, int64 (N,).
        lam: Share of the original sample under the mask: a float, or float32 (N,).
        recipe: The mask to draw when the feature's shape is known; None: everywhere.
        correct_lam: Whether the label gets the share that was really replaced (the default), or CutMix's
            nominal one.
        loss_scale: Factor of the loss (PatchUp's published loss is twice ours).
        relabel: The rule by which labels have another share than the features (Remix); None: they have the same.
        also: What the step does at other places, where it acts at several (MixStyle, which leaves the labels).
        number: Which of these places this is, from 1 on; 0: there is one.
    """

    seed: int
    rank: int
    step: int
    method: str
    place: str | None
    perm: npt.NDArray[np.int64]
    lam: Lam = 1.0
    recipe: Recipe | None = None
    correct_lam: bool = True
    loss_scale: float = 1.0
    relabel: Lopsided | None = None
    also: tuple[MixPlan, ...] = ()
    number: int = 0

    @property
    def batch_size(self) -> int:
        """N."""
        return len(self.perm)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the step acts."""
        return (
            () if self.place is None else (self.place, *(other.place for other in self.also if other.place))
        )

    def at(self, place: str) -> MixPlan | None:
        """What the step does at a place; None: nothing."""
        return next((plan for plan in (self, *self.also) if plan.place == place), None)

    @property
    def mixes(self) -> bool:
        """Whether the step mixes samples; a clean one does not, nor one that drops or erases."""
        return self.place is not None and not getattr(self.recipe, "labels_stay", False)

    @property
    def blends(self) -> bool:
        """Whether it blends, everywhere or under a mask, and does nothing else: what a compiled graph can hold."""
        return not isinstance(self.recipe, Acts)

    @property
    def masked(self) -> bool:
        """Whether the partner's share differs from point to point of the feature, or points are moved."""
        return self.recipe is not None and self.recipe.masked

    def label_share(self, shares: Shares) -> Lam:
        """The partner's share of the label: a float, or float32 (N,).

        Args:
            shares: Its share in each mixed feature, and the feature's shape.
        """
        s = joint_share(shares)
        return s if self.relabel is None else self.relabel.share(s)

    def blend(self, shape: Sequence[int], channel_dim: int = 1) -> Act:
        """Bring the plan to a feature's shape.

        The mask comes from the step's own stream, so equal shapes get equal masks at every call.

        Args:
            shape: The feature's, batch axis first: `(N, C, *spatial)`, or `(N, *spatial, C)`.
            channel_dim: 1 or -1, where C is. Only masks look at it.

        Raises:
            ValueError: If N is not the plan's batch size, or the mask cannot be drawn for the shape.
        """
        if shape[0] != self.batch_size:
            raise ValueError(
                f"the plan is for a batch of {self.batch_size}, got a feature of shape {tuple(shape)}."
            )
        if self.recipe is None:
            return Blend(self.perm, self.lam, None, None, partner_share(self.lam, 1.0))
        if channel_dim not in (1, -1):
            raise ValueError(f"channel_dim must be 1 or -1, got {channel_dim}.")
        if len(shape) < 2:
            raise ValueError(f"a mask needs a feature of shape (N, C, ...), got shape {tuple(shape)}.")
        feature = Feature(self.perm, self.lam, tuple(shape), channel_dim == -1)
        rng = stream(self.seed, self.rank, self.step, MASK, self.number)
        if isinstance(self.recipe, Acts):
            how: Act = self.recipe.draw(rng, feature)
            return how.channels_last() if feature.last else how
        mask, box = self.recipe.draw(rng, feature.channels, feature.spatial)
        covered: Any = mask.reshape(len(mask), -1).mean(axis=1) if len(mask) > 1 else mask.mean()
        if isinstance(self.recipe, Box) and not self.correct_lam:
            covered = 1.0 - self.recipe.lam
        blend = Blend(self.perm, self.lam, mask, box, partner_share(self.lam, covered))
        return blend.channels_last() if feature.last else blend

    def share_map(self, shape: Sequence[int], spatial: Sequence[int], channel_dim: int = 1) -> Lam:
        """The partner's share at each point, for labels that have a point for each part of the feature.

        Args:
            shape: The mixed feature's, batch axis first.
            spatial: The labels' own resolution. Each of their points has the mean of the mask over the part of the
                feature that it stands for, so that the mean over all points is the share of the feature.
            channel_dim: As of `blend`.

        Returns:
            float32, `(1 or N, *spatial)`, the mean over the feature's channels; without a mask as `blend` has it.

        Raises:
            ValueError: If the labels have another number of spatial axes; if the plan moves points (ResizeMix,
                AlignMixup).
        """
        shares: Lam = share_map(self.blend(shape, channel_dim), spatial, channel_dim)
        return shares

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        told = {
            "format": FORMAT,
            "seed": self.seed,
            "rank": self.rank,
            "step": self.step,
            "method": self.method,
            "place": self.place,
            "perm": self.perm.tolist(),
            "lam": to_json(self.lam),
            "recipe": None if self.recipe is None else recipe_to_dict(self.recipe),
            "correct_lam": self.correct_lam,
            "loss_scale": self.loss_scale,
        }
        if self.relabel is not None:
            told["relabel"] = {"rarer": list(self.relabel.rarer), "tau": self.relabel.tau}
        if self.number:
            told |= {"number": self.number, "also": [other.to_dict() for other in self.also]}
        return told

    @classmethod
    def from_dict(cls, data: Any) -> MixPlan:
        """Read a plan back.

        Raises:
            ValueError: If the dict is of another format, or is not a plan; says why.
        """
        if not isinstance(data, Mapping) or "format" not in data:
            raise ValueError("not a plan: expected the dict of MixPlan.to_dict(), which has a 'format'.")
        if data["format"] != FORMAT:
            raise ValueError(
                f"the plan has format {data['format']!r}, this version of mixlayers reads format {FORMAT}: "
                "replay it with the version that wrote it, or draw the step again from (seed, rank, step)."
            )
        try:
            given = list(data["perm"])
            seed, rank, step = (
                check_integer(key, data[key], 0, 2**64 - 1) for key in ("seed", "rank", "step")
            )
            plan = cls(
                seed,
                rank,
                step,
                data["method"],
                data["place"],
                correct_lam=data["correct_lam"],
                loss_scale=float(data["loss_scale"]),
                perm=np.array([check_integer("perm", i, 0, 2**31 - 1) for i in given], dtype=np.int64),
                lam=from_json(data["lam"]),
                recipe=None if data["recipe"] is None else recipe_from_dict(data["recipe"]),
                relabel=_relabel_from_dict(data.get("relabel")),
                also=tuple(cls.from_dict(other) for other in data.get("also", ())),
                number=check_integer("number", data.get("number", 0), 0, 2**31 - 1),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a whole plan of format {FORMAT}: {error!r}.") from error
        size = plan.batch_size
        if sorted(given) != list(range(size)):
            raise ValueError(f"perm must be a permutation of 0..{size - 1}, got {given}.")
        for lam in (plan.lam, getattr(plan.recipe, "lam", 0.0)):
            if np.ndim(lam) and np.shape(lam) != (size,):
                raise ValueError(
                    f"lam must be one number, or one for each of {size} samples, got shape {np.shape(lam)}."
                )
            if not ((np.asarray(lam) >= 0.0) & (np.asarray(lam) <= 1.0)).all():
                raise ValueError(f"lam must be in [0, 1], got {lam}.")
        if plan.relabel is not None and len(plan.relabel.rarer) != size:
            raise ValueError(
                f"rarer must have {size} entries, one for each sample, got {len(plan.relabel.rarer)}."
            )
        if not 0.0 < plan.loss_scale < float("inf"):
            raise ValueError(f"loss_scale must be > 0 and finite, got {plan.loss_scale}.")
        return plan


def _relabel_from_dict(data: Mapping[str, Any] | None) -> Lopsided | None:
    if data is None:
        return None
    return Lopsided(tuple(check_integer("rarer", i, -1, 1) for i in data["rarer"]), float(data["tau"]))


def share_map(how: Act, spatial: Sequence[int], channel_dim: int) -> Any:
    """`MixPlan.share_map` of a plan that was brought to a feature's shape, NumPy's or what works alike."""
    if isinstance(how, Paste | Align):
        raise ValueError(
            f"{'ResizeMix' if isinstance(how, Paste) else 'AlignMixup'} moves points to other places, and labels with "
            "points, such as (N, H, W), do not follow: take a method that leaves points where they are, such as "
            "CutMix, FMix or ManifoldMixup."
        )
    if isinstance(how, Replace | Restyle | Jitter) or (isinstance(how, Blend) and how.mask is None):
        return how.s
    mask: Any = 1.0 - how.keep if isinstance(how, Weigh) else how.mask
    covered = mask.mean(axis=channel_dim, dtype=np.float32)
    if covered.ndim - 1 != len(spatial):
        raise ValueError(
            f"a mask over {covered.ndim - 1} spatial axes cannot be brought to labels of shape "
            f"(N, {', '.join(map(str, spatial))})."
        )
    for axis, (size, own) in enumerate(zip(spatial, covered.shape[1:], strict=True), start=1):
        if size != own:
            covered = (covered.swapaxes(axis, -1) @ overlaps(size, own).T).swapaxes(axis, -1)
    if not isinstance(how, Blend):
        return covered
    give: Any = 1.0 - how.lam
    return (give.reshape((-1,) + (1,) * len(spatial)) if np.ndim(give) else give) * covered


def overlaps(size: int, own: int) -> npt.NDArray[np.float32]:
    """Of each of `size` equal parts of an axis, what share lies in each of `own` equal parts: (size, own)."""
    start, at = np.arange(size)[:, None] / size, np.arange(own) / own
    common = np.minimum(start + 1 / size, at + 1 / own) - np.maximum(start, at)
    shares: npt.NDArray[np.float32] = (np.maximum(common, 0.0) * size).astype(np.float32)
    return shares


Shares = Sequence[tuple[Lam, Sequence[int]]]
"""The partner's share in each mixed feature, and the feature's shape, batch axis first."""


def joint_share(shares: Shares) -> Lam:
    """The mean of w over several features: their shares, weighted by their elements per sample."""
    if len(shares) == 1:
        return shares[0][0]
    elements = [prod(shape[1:]) for _, shape in shares]
    if not sum(elements):
        elements = [1] * len(shares)
    return sum(s * (own / sum(elements)) for (s, _), own in zip(shares, elements, strict=True))
