"""What one step does, decided before any tensor is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import check_integer, same_fields
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.masks import Blocks, Box, Mask, Span
from mixlayers._core.plan.replacements import DroppedBlocks, ErasedBoxes, Replace
from mixlayers._core.plan.streams import MASK, stream

INPUT: Final = "input"
"""The place before the first layer."""

Recipe = Box | Blocks | DroppedBlocks | ErasedBoxes

FORMAT: Final = 2
"""Version of a plan's dict; raised whenever an old dict would no longer draw the same step."""


@dataclass(frozen=True, eq=False)
class Blend:
    """A plan brought to one feature's shape: `x + w * (x[perm] - x)`, with `w = mask * (1 - lam)`.

    Attributes:
        perm: Partners, int64 (N,).
        lam: Share of the original sample under the mask: a float, or float32 (N,).
        mask: bool, broadcastable to the feature with its batch axis first; None: everywhere.
        box: The mask again as slices over all axes, when it is one box for the whole batch.
        s: Share of the partner that the label gets, the mean of w: a float, or float32 (N,).
    """

    perm: npt.NDArray[np.int64]
    lam: Lam
    mask: Mask | None
    box: Span | None
    s: Lam

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays


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

    @property
    def batch_size(self) -> int:
        """N."""
        return len(self.perm)

    @property
    def mixes(self) -> bool:
        """Whether the step mixes samples; a clean one does not, nor one that drops or erases."""
        return self.place is not None and not isinstance(self.recipe, DroppedBlocks | ErasedBoxes)

    def blend(self, shape: Sequence[int], channel_dim: int = 1) -> Blend | Replace:
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
            return Blend(self.perm, self.lam, None, None, _partner_share(self.lam, 1.0))
        if channel_dim not in (1, -1):
            raise ValueError(f"channel_dim must be 1 or -1, got {channel_dim}.")
        if len(shape) < 2:
            raise ValueError(f"a mask needs a feature of shape (N, C, ...), got shape {tuple(shape)}.")
        last = channel_dim == -1
        channels, spatial = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])
        rng = stream(self.seed, self.rank, self.step, MASK)
        if isinstance(self.recipe, DroppedBlocks | ErasedBoxes):
            replaced = self.recipe.draw(rng, shape[0], channels, spatial)
            return replaced.channels_last() if last else replaced
        mask, box = self.recipe.draw(rng, channels, spatial)
        covered: Any = mask.reshape(len(mask), -1).mean(axis=1) if len(mask) > 1 else mask.mean()
        if isinstance(self.recipe, Box) and not self.correct_lam:
            covered = 1.0 - self.recipe.lam
        if last:
            mask = np.ascontiguousarray(np.moveaxis(mask, 1, -1))
            box = None if box is None else (box[0], *box[2:], box[1])
        return Blend(self.perm, self.lam, mask, box, _partner_share(self.lam, covered))

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
            ValueError: If the labels have another number of spatial axes.
        """
        how = self.blend(shape, channel_dim)
        if isinstance(how, Replace) or how.mask is None:
            return how.s
        covered = how.mask.mean(axis=channel_dim, dtype=np.float32)
        if covered.ndim - 1 != len(spatial):
            raise ValueError(
                f"a mask over {covered.ndim - 1} spatial axes cannot be brought to labels of shape "
                f"(N, {', '.join(map(str, spatial))})."
            )
        for axis, (size, own) in enumerate(zip(spatial, covered.shape[1:], strict=True), start=1):
            if size != own:
                averaged = np.tensordot(covered, overlaps(size, own), (axis, 1))
                covered = np.moveaxis(averaged, -1, axis)
        give = np.asarray(1.0 - self.lam, dtype=np.float32)
        shares: npt.NDArray[np.float32] = give.reshape((-1,) + (1,) * len(spatial)) * covered
        return shares

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "rank": self.rank,
            "step": self.step,
            "method": self.method,
            "place": self.place,
            "perm": self.perm.tolist(),
            "lam": _to_json(self.lam),
            "recipe": None if self.recipe is None else _recipe_to_dict(self.recipe),
            "correct_lam": self.correct_lam,
            "loss_scale": self.loss_scale,
        }

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
                lam=_from_json(data["lam"]),
                recipe=None if data["recipe"] is None else _recipe_from_dict(data["recipe"]),
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
        if not 0.0 < plan.loss_scale < float("inf"):
            raise ValueError(f"loss_scale must be > 0 and finite, got {plan.loss_scale}.")
        return plan


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


def _partner_share(lam: Lam, covered: Any) -> Lam:
    """The mean of w = mask * (1 - lam): a float, or float32 (N,)."""
    s = (1.0 - lam) * covered
    return s.astype(np.float32) if isinstance(s, np.ndarray) else float(s)


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, str | bytes | bool) or value is None:
        raise TypeError(f"lam must be a number, got {value!r}")
    return np.asarray(value, dtype=np.float32) if isinstance(value, list) else float(value)


_RECIPES: Final[dict[str, Any]] = {kind.__name__: kind for kind in (Box, Blocks, DroppedBlocks, ErasedBoxes)}


def _recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    return {"kind": type(recipe).__name__, **{name: _to_json(value) for name, value in vars(recipe).items()}}


def _recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    arguments = {
        name: _from_json(value) if name == "lam" else tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name != "kind"
    }
    recipe: Recipe = _RECIPES[data["kind"]](**arguments)
    return recipe
