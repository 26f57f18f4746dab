"""A step's plan as data of a jitted function."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NoReturn

import jax
import numpy as np
from jax.sharding import PartitionSpec

from mixlayers._core.batch.mix import can_mix, mix_tree, refuse_unmixable, warn_of_full_mask
from mixlayers._core.checks import check_names
from mixlayers._core.errors import refuse
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.plan.acts import drawn_for, mask_of, zeros
from mixlayers._core.plan.masks import Blocks
from mixlayers._core.plan.plan import Act, MixPlan, share_map
from mixlayers._core.plan.replacements import Replace
from mixlayers._core.plan.styles import Restyle
from mixlayers_jax._acts import as_data, number
from mixlayers_jax._blend import Partners
from mixlayers_jax._framework import JAX
from mixlayers_jax._runs import Runs

STATIC: Final = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Plan:
    """What one step does, as a pytree: an argument of jitted functions, like the batch.

    Its arrays change from step to step; what is static changes with the place, for which jit compiles once.

    Attributes:
        partners: Who mixes with whom.
        act: What is done at the place, as the core has it at the feature's shape; None for a clean step.
        s: Share of the partner in the label, () or (N,).
        acts: Whether it acts at all, bool (), where a compiled function is to ask; None: it does.
        parts: What a step does at each of several places, of which it may act at any.
        masks: Where one compiled function serves several places: the mask of each, if there are any.
        at: Which of `places` mixes, int32 (); -1 for none.
        place: "input", a layer's name, or None for a clean step. Static.
        places: Where one compiled function serves several places: these. Static; None: `place` says it.
        loss_scale: Factor of the loss. Static.
        zeros: Names of the act's numbers that are 0 in each step: under a mask of lam 0 the partner is pasted. Static.
        labels_stay: Whether the labels are not mixed (DropBlock, MixStyle). Static.
        masked: Whether the partner's share differs from point to point of the feature. Static.
        channel_dim: 1 or -1, where a masked feature's channels are. Static.
        ranks: How many axes the places had in the audit, where there was one. Static.
        beside: What places returned there that holds no samples, by its number among floating-point arrays. Static.
    """

    recipe: ClassVar[None] = None  # what MixPlan has, and is drawn here

    partners: Partners
    act: Act | None
    s: Any
    acts: Any = None
    parts: tuple[Plan, ...] = ()
    masks: Any = None
    at: Any = None
    place: str | None = field(default=None, metadata=STATIC)
    places: tuple[str, ...] | None = field(default=None, metadata=STATIC)
    loss_scale: float = field(default=1.0, metadata=STATIC)
    zeros: tuple[str, ...] = field(default=(), metadata=STATIC)
    labels_stay: bool = field(default=False, metadata=STATIC)
    masked: bool = field(default=False, metadata=STATIC)
    channel_dim: int = field(default=-1, metadata=STATIC)
    ranks: tuple[tuple[str, int], ...] = field(default=(), metadata=STATIC)
    beside: tuple[tuple[str, int], ...] = field(default=(), metadata=STATIC)

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
        if isinstance(plan.recipe, Blocks):
            warn_of_full_mask(plan.recipe, tuple(shape[1:-1] if channel_dim == -1 else shape[2:]))
        return cls(
            partners,
            as_data(how),
            number(how.s if isinstance(how, Replace) else plan.label_share([(how.s, shape)])),
            place=plan.place,
            loss_scale=plan.loss_scale,
            zeros=zeros(how),
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
        """Share of the original sample under the mask, () or (N,); 1 for a clean step and for weights a point."""
        act = getattr(self.act, "blend", self.act)  # what noise is added to
        return getattr(act, "keep" if isinstance(act, Restyle) else "lam", np.float32(1.0))

    @property
    def reached(self) -> tuple[str, ...]:
        """The places that it is for, whether it acts there or not."""
        own = () if self.place is None else (self.place,)
        return self.places or (*own, *(place for part in self.parts for place in part.reached))

    @property
    def mixes(self) -> bool:
        """Whether samples may be mixed, and their labels."""
        return not self.labels_stay and (self.place is not None or self.places is not None)

    @property
    def features_shape(self) -> tuple[int, ...] | None:
        """The shape of the mask, for labels that have points to follow it; None: there is no one mask."""
        mask = mask_of(self.act)
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
        check_names("keep", keep)
        part = self.part(place)
        if part is None:
            return x
        self._check_rank(place, x)
        arrays = [leaf for leaf in leaves(x) if JAX.is_tensor(leaf) and JAX.is_float(leaf)]
        still = [leaf for at, leaf in enumerate(arrays) if (place, at) in self.beside]
        if part.acts is None:
            return part._mixed(x, keep, still)

        def mix(leaf: Any) -> Any:
            if not can_mix(JAX, leaf, self.batch_size, 0) or any(leaf is other for other in still):
                return leaf
            return jax.lax.cond(part.acts, lambda leaf: part._mixed(leaf, ()), lambda leaf: leaf, leaf)

        mixed = tree_map(mix, x, keep=keep)
        if mixed is x:
            part._nothing(x)
        return mixed

    def _check_rank(self, place: str, x: Any) -> None:
        """Raise if a place has other axes than in the audit, so that its first one may be no batch's."""
        rank = dict(self.ranks).get(place)
        mixable = [leaf for leaf in leaves(x) if can_mix(JAX, leaf, self.batch_size, 0)]
        if rank is not None and mixable and all(leaf.ndim != rank for leaf in mixable):
            refuse(
                f"the place {place!r} has a feature of shape {tuple(mixable[0].shape)}, and had {rank} axes when the "
                "model was audited, so that its first axis need not be the samples'",
                "call the model with the whole batch, not inside of a jax.vmap over its samples; or give the mixer an "
                "example like this batch",
            )

    def part(self, place: str) -> Plan | None:
        """What a step does at one place; None: nothing."""
        if self.places is None:
            return next((each for each in (self, *self.parts) if each.place == place), None)
        if place not in self.places:
            return None
        act: Any = self.act if self.masks is None else replace(self.act, mask=self.masks[place])  # type: ignore[type-var]
        here = self.at == self.places.index(place)
        return replace(self, act=act, acts=here, place=place, places=None, at=None, masks=None)

    def _mixed(self, x: Any, keep: Collection[str], still: Sequence[Any] = ()) -> Any:
        mixed, shares = mix_tree(JAX, x, self, self.partners, 0, self.channel_dim, keep, still)  # type: ignore[arg-type]
        if not shares:
            self._nothing(x)
        return mixed

    def _nothing(self, x: Any) -> NoReturn:
        way_out = (
            "draw the plan for this batch's size, mixer.plan(len(y)), and let the batch axis be the first; under "
            "shard_map draw it for parts of the whole batch, mixer.plan(len(y), groups=devices)"
        )
        refuse_unmixable(JAX, self.batch_size, self.place, x, way_out)

    def blend(self, shape: Sequence[int], channel_dim: int = -1) -> Act:
        """What is done to a feature of a shape: see `MixPlan.blend`."""
        act: Any = self.act
        own = drawn_for(act, shape)
        if own is not None:
            what = "statistics are" if isinstance(act, Restyle) else "mask is"
            refuse(
                f"the plan's {what} for a feature of shape {own} at {self.place!r}, which now has shape "
                f"{tuple(shape)}",
                "give the mixer an example like this batch; for batches of several sizes make a mixer for each",
            )
        if hasattr(act, "perm"):
            act = replace(act, perm=self.perm)
        return replace(act, **dict.fromkeys(self.zeros, 0.0))

    def share_map(self, shape: Sequence[int], spatial: Sequence[int], channel_dim: int = -1) -> Any:
        """The partner's share at each point of labels `(N, *spatial)`: see `MixPlan.share_map`."""
        return share_map(self.act, spatial, channel_dim)  # type: ignore[arg-type]

    def specs(self, axis: str) -> Plan:
        """Which part of a plan for groups is on which device, for shard_map's `in_specs` and for shardings.

        Partners of a plan without groups are anywhere in the batch, so that each device has them all: under jit samples
        mix across devices, and shard_map's parts are refused, being smaller than the plan's batch.

        Args:
            axis: Name of the mesh's axis over which the batch is split.
        """
        size = self.batch_size

        def spec(leaf: Any) -> PartitionSpec:
            return PartitionSpec(axis) if np.ndim(leaf) and len(leaf) == size else PartitionSpec()

        # one for the whole batch stays whole: its numbers mean nothing in a part, which then refuses it
        groups = PartitionSpec(axis) if np.ndim(self.perm) > 1 else PartitionSpec()
        return replace(jax.tree.map(spec, self), partners=Partners(groups, groups))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Placed:
    """A plan, or an audit's marks, as data of the layer that it is for.

    Attributes:
        action: What has `mixed(name, output)`.
        name: The layer's. Static, so that functions that layers of one kind share are compiled for each.
        runs: Where it is noted that the layer runs. Static, and the same in every step of a mixer.
    """

    action: Any
    name: str = field(metadata=STATIC)
    runs: Runs | None = field(default=None, metadata=STATIC)

    def mixed(self, output: Any) -> Any:
        """The layer's output, mixed or marked."""
        if self.runs is not None:
            self.runs.note(self.name)
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
    """The plans of several steps as one, for `jax.lax.scan` over them.

    Raises:
        ValueError: If they are not of one form: of one place each, or for all places, and of one batch size.
    """
    if len({jax.tree.structure(plan) for plan in plans}) > 1:
        places = [getattr(plan, "place", None) for plan in plans]
        raise ValueError(
            f"the plans are not of one form, their places are {places}: make the mixer with one_compilation=True, "
            "whose plans serve all places, and draw them for one batch size."
        )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *plans)
