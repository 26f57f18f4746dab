"""A step's plan as data of a jitted function."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Final, NoReturn

import jax
import numpy as np
from jax.sharding import PartitionSpec

from mixlayers import DSU, AlignMixup, MixStyle, MoEx, NoisyFeatureMixup, PAdaIN
from mixlayers._core.batch.mix import can_mix, mix_tree, refuse_unmixable, warn_of_full_mask
from mixlayers._core.errors import refuse
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.plan.blends import Weigh
from mixlayers._core.plan.masks import Blocks
from mixlayers._core.plan.plan import Act, Blend, MixPlan, share_map
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.resized import Paste
from mixlayers_jax._blend import Partners
from mixlayers_jax._framework import JAX

NOT_YET = (MixStyle, DSU, PAdaIN, MoEx, AlignMixup, NoisyFeatureMixup)
"""Methods whose plans are no data of a jitted function yet."""

STATIC = {"static": True}

ACTS: Final = {Blend: "box", Weigh: "", Paste: "channel_dim", Replace: ""}
"""What can be done to a feature, and which field of each is static."""

for act, static in ACTS.items():
    names = [each.name for each in fields(act)]
    jax.tree_util.register_dataclass(
        act, [n for n in names if n != static], [n for n in names if n == static]
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Plan:
    """What one step does, as a pytree: an argument of jitted functions, like the batch.

    Its arrays change from step to step; what is static changes with the place, for which jit compiles once.

    Attributes:
        partners: Who mixes with whom.
        act: What is done at the place, as the core has it at the feature's shape; None for a clean step.
        s: Share of the partner in the label, () or (N,).
        masks: Where one compiled function serves several places: the mask of each, if there are any.
        at: Which of `places` mixes, int32 (); -1 for none.
        place: "input", a layer's name, or None for a clean step. Static.
        places: Where one compiled function serves several places: these. Static; None: `place` says it.
        loss_scale: Factor of the loss. Static.
        hard: Whether lam is 0 under a mask, so that the partner is pasted. Static.
        labels_stay: Whether the labels are not mixed (DropBlock, Erasing). Static.
        masked: Whether the partner's share differs from point to point of the feature. Static.
        channel_dim: 1 or -1, where a masked feature's channels are. Static.
    """

    recipe: ClassVar[None] = None  # what MixPlan has, and is drawn here

    partners: Partners
    act: Act | None
    s: Any
    masks: Any = None
    at: Any = None
    place: str | None = field(default=None, metadata=STATIC)
    places: tuple[str, ...] | None = field(default=None, metadata=STATIC)
    loss_scale: float = field(default=1.0, metadata=STATIC)
    hard: bool = field(default=False, metadata=STATIC)
    labels_stay: bool = field(default=False, metadata=STATIC)
    masked: bool = field(default=False, metadata=STATIC)
    channel_dim: int = field(default=-1, metadata=STATIC)

    @classmethod
    def of(cls, plan: MixPlan, shape: Sequence[int] | None, channel_dim: int) -> Plan:
        """A plan brought to the shape of its place's feature.

        Args:
            plan: What the core drew.
            shape: The feature's, batch axis first; None for a clean step, or where nothing depends on it.
            channel_dim: As of `MixPlan.blend`.
        """
        partners = Partners.drawn(plan.perm)
        if plan.place is None:
            return cls(partners, None, number(0.0), channel_dim=channel_dim)
        shape = shape or (plan.batch_size,)
        how: Any = plan.blend(shape, channel_dim)
        if type(how) not in ACTS or plan.also:
            raise ValueError(not_yet(plan.method))
        if isinstance(plan.recipe, Blocks):
            warn_of_full_mask(plan.recipe, tuple(shape[1:-1] if channel_dim == -1 else shape[2:]))
        hard = (
            isinstance(how, Blend) and how.mask is not None and isinstance(how.lam, float) and how.lam == 0.0
        )
        s = number(how.s if isinstance(how, Replace) else plan.label_share([(how.s, shape)]))
        given = {each.name: getattr(how, each.name) for each in fields(how)}
        given |= dict.fromkeys({"perm", "box"} & given.keys())  # perm is among the partners
        given = {name: _narrow(value) for name, value in given.items()}
        return cls(
            partners,
            type(how)(**given),
            s,
            place=plan.place,
            loss_scale=plan.loss_scale,
            hard=hard,
            labels_stay=not plan.mixes,
            masked=plan.masked,
            channel_dim=channel_dim,
        )

    @property
    def batch_size(self) -> int:
        """N."""
        size: int = self.partners.perm.size
        return size

    @property
    def perm(self) -> Any:
        """Partners, int32 (N,), or (D, N / D) within D groups."""
        return self.partners.perm

    @property
    def lam(self) -> Any:
        """Share of the original sample under the mask, () or (N,); 1 for a clean step."""
        return getattr(self.act, "lam", np.float32(1.0))

    @property
    def mixes(self) -> bool:
        """Whether samples may be mixed, and their labels."""
        return not self.labels_stay and (self.place is not None or self.places is not None)

    @property
    def features_shape(self) -> tuple[int, ...] | None:
        """The shape of the mask, for labels that have points to follow it; None: there is no one mask."""
        mask = _mask(self.act)
        return (
            None
            if mask is None or not self.masked or self.places is not None
            else getattr(mask, "shape", None)
        )

    def mixed(self, place: str, x: Any, keep: Collection[str] = ()) -> Any:
        """The output of a layer, mixed if this is the plan's place.

        Args:
            place: "input", or the layer's name.
            x: An array (N, ...), or a container: its floating-point arrays with N rows are mixed.
            keep: Names of entries that are not.

        Raises:
            MixingError: If there is none; if a mask is for a feature of another shape.
        """
        if self.places is None:
            return self._mixed(x, keep) if place == self.place else x
        if place not in self.places:
            return x
        act: Any = self.act
        own = replace(self, place=place, places=None, at=None, masks=None)
        if self.masks is not None:
            own = replace(own, act=replace(act, mask=self.masks[place]))
        here = self.at == self.places.index(place)

        def mix(leaf: Any) -> Any:
            if not can_mix(JAX, leaf, self.batch_size, 0):
                return leaf
            return jax.lax.cond(here, lambda leaf: own._mixed(leaf, ()), lambda leaf: leaf, leaf)

        mixed = tree_map(mix, x, keep=keep)
        if mixed is x:
            own._nothing(x)
        return mixed

    def _mixed(self, x: Any, keep: Collection[str]) -> Any:
        mixed, shares = mix_tree(JAX, x, self, self.partners, 0, self.channel_dim, keep)  # type: ignore[arg-type]
        if not shares:
            self._nothing(x)
        return mixed

    def _nothing(self, x: Any) -> NoReturn:
        way_out = (
            "draw the plan for this batch's size, mixer.plan(len(y)), and let the batch axis be the first"
        )
        refuse_unmixable(JAX, self.batch_size, self.place, x, way_out)

    def blend(self, shape: Sequence[int], channel_dim: int = -1) -> Act:
        """What is done to a feature of a shape: see `MixPlan.blend`."""
        act: Any = self.act
        mask = _mask(act)
        if mask is not None and not (
            mask.ndim == len(shape)
            and all(own in (1, size) for own, size in zip(mask.shape, shape, strict=True))
        ):
            refuse(
                f"the plan's mask is for a feature of shape {tuple(mask.shape)} at {self.place!r}, which now has shape "
                f"{tuple(shape)}",
                "give the mixer an example like this batch; for batches of several sizes make a mixer for each",
            )
        if isinstance(act, Replace):
            return act
        act = replace(act, perm=self.perm)
        return replace(act, lam=0.0) if self.hard else act

    def share_map(self, shape: Sequence[int], spatial: Sequence[int], channel_dim: int = -1) -> Any:
        """The partner's share at each point of labels `(N, *spatial)`: see `MixPlan.share_map`."""
        return share_map(self.act, spatial, channel_dim)  # type: ignore[arg-type]

    def specs(self, axis: str) -> Plan:
        """Which part of a plan for groups is on which device, for shard_map's `in_specs` and for shardings.

        Args:
            axis: Name of the mesh's axis over which the batch is split.
        """
        size = self.batch_size

        def spec(leaf: Any) -> PartitionSpec:
            return PartitionSpec(axis) if np.ndim(leaf) and len(leaf) == size else PartitionSpec()

        groups = PartitionSpec(axis)
        return replace(jax.tree.map(spec, self), partners=Partners(groups, groups))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Placed:
    """A plan, or an audit's marks, as data of the layer that it is for.

    Attributes:
        action: What has `mixed(name, output)`.
        name: The layer's. Static, so that functions that layers of one kind share are compiled for each.
    """

    action: Any
    name: str = field(metadata=STATIC)

    def mixed(self, output: Any) -> Any:
        """The layer's output, mixed or marked."""
        return self.action.mixed(self.name, output)


def blend(x: Any, plan: Plan | None, place: str | None = None) -> Any:
    """Mix features by a plan, in a model that is a function: `h = blend(h, plan, "layer1")`.

    Args:
        x: An array (N, ...), or a container of some.
        plan: The step's; None mixes nothing, as in evaluation. Or what `audit` hands in to find the places.
        place: The name of this place: it is mixed where the plan's place has this name. None: it is mixed in any case,
            for models with one place.

    Raises:
        MixingError: If the plan is for another batch size, or its mask for another shape.
    """
    if plan is None:
        return x
    return plan.mixed(getattr(plan, "place", None) or "hidden" if place is None else place, x)


def stacked(plans: Sequence[Plan]) -> Plan:
    """The plans of several steps as one, for `jax.lax.scan` over them; they must be of one place, or for all places."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *plans)


def number(value: Any) -> np.ndarray[Any, Any]:
    """A number or array as float32; as float64 where JAX calculates so and it is known so well."""
    return np.asarray(value, np.float32 if np.ndim(value) else jax.dtypes.canonicalize_dtype(np.float64))


def _narrow(value: Any) -> Any:
    """A field of the core's act as jitted functions take it."""
    if isinstance(value, float):
        return number(value)
    return value.astype(np.int32) if isinstance(value, np.ndarray) and value.dtype == np.int64 else value


def _mask(act: Any) -> Any:
    """What of an act has the feature's shape."""
    return getattr(act, "keep", getattr(act, "mask", None))


def not_yet(method: str) -> str:
    """The error of a method that is not there."""
    return f"{method} is not yet there in JAX, whose plans blend, weigh, paste or replace at one place."
