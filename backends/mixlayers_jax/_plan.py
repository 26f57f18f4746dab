"""A step's plan as data of a jitted function."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from mixlayers._core.batch.mix import can_mix, mix_tree
from mixlayers._core.errors import refuse
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend, MixPlan, overlaps
from mixlayers._core.plan.replacements import Replace
from mixlayers_jax._blend import Partners, spread
from mixlayers_jax._framework import JAX

STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Plan:
    """What one step does, as a pytree: an argument of jitted functions, like the batch.

    Its arrays change from step to step; what is static changes with the place, for which jit compiles once.

    Attributes:
        partners: Who mixes with whom.
        lam: Share of the original sample under the mask, () or (N,).
        s: Share of the partner in the label, () or (N,).
        mask: bool, broadcastable to the feature with its batch axis first; None: everywhere. Or one for each of places.
        noise: What is put in instead of samples, by DropBlock and Erasing.
        scale: Their factor of the rest.
        at: Which of `places` mixes, int32 (); -1 for none.
        place: "input", a layer's name, or None for a clean step. Static.
        places: Where one compiled function serves several places: these. Static; None: `place` says it.
        loss_scale: Factor of the loss. Static.
        hard: Whether lam is 0, so that the partner is pasted. Static.
        channel_dim: 1 or -1, where a masked feature's channels are. Static.
    """

    partners: Partners
    lam: Any
    s: Any
    mask: Any = None
    noise: Any = None
    scale: Any = None
    at: Any = None
    place: str | None = field(default=None, metadata=STATIC)
    places: tuple[str, ...] | None = field(default=None, metadata=STATIC)
    loss_scale: float = field(default=1.0, metadata=STATIC)
    hard: bool = field(default=False, metadata=STATIC)
    channel_dim: int = field(default=-1, metadata=STATIC)

    @classmethod
    def of(cls, plan: MixPlan, shape: Sequence[int] | None, channel_dim: int) -> Plan:
        """A plan brought to the shape of its place's feature.

        Args:
            plan: What the core drew.
            shape: The feature's, batch axis first; None for a clean step, or where there is no mask.
            channel_dim: As of `MixPlan.blend`.
        """
        partners = Partners.drawn(plan.perm)
        if plan.place is None:
            return cls(partners, _array(1.0), _array(0.0), channel_dim=channel_dim)
        how = plan.blend(shape or (plan.batch_size,), channel_dim)
        if isinstance(how, Replace):
            made = cls(partners, _array(1.0), _array(0.0), how.mask, how.partner, _array(how.scale))
        else:
            hard = how.mask is not None and isinstance(how.lam, float) and how.lam == 0.0
            made = cls(partners, _array(how.lam), _array(how.s), how.mask, hard=hard)
        return replace(made, place=plan.place, loss_scale=plan.loss_scale, channel_dim=channel_dim)

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
    def mixes(self) -> bool:
        """Whether samples may be mixed, and so their labels."""
        return self.noise is None and (self.place is not None or self.places is not None)

    @property
    def recipe(self) -> Any:
        """The mask, where MixPlan has its recipe."""
        return self.mask

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
        mask = self.mask[place] if isinstance(self.mask, Mapping) else None
        own = replace(self, place=place, places=None, at=None, mask=mask)
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
        shapes = ", ".join(str(tuple(each.shape)) for each in leaves(x) if JAX.is_tensor(each))
        refuse(
            f"the plan is for a batch of {self.batch_size}, and its place {self.place!r} has no floating-point array "
            f"of so many rows, but {shapes or 'no array'}",
            "draw the plan for this batch's size, mixer.plan(len(y)), and let the batch axis be the first",
        )

    def blend(self, shape: Sequence[int], channel_dim: int = -1) -> Blend | Replace:
        """The plan for a feature of a shape: see `MixPlan.blend`."""
        if self.mask is not None:
            fits = self.mask.ndim == len(shape) and all(
                own in (1, size) for own, size in zip(self.mask.shape, shape, strict=True)
            )
            if not fits:
                refuse(
                    f"the plan's mask is for a feature of shape {tuple(self.mask.shape)} at {self.place!r}, which now "
                    f"has shape {tuple(shape)}",
                    "give the mixer an example like this batch; for batches of several sizes make a mixer for each",
                )
        if self.noise is not None:
            return Replace(self.mask, self.noise, self.scale)
        return Blend(self.partners.perm, 0.0 if self.hard else self.lam, self.mask, None, self.s)

    def share_map(self, shape: Sequence[int], spatial: Sequence[int], channel_dim: int = -1) -> Array:
        """The partner's share at each point of labels (N, *spatial): see `MixPlan.share_map`."""
        covered = jnp.asarray(self.mask).mean(axis=channel_dim, dtype=jnp.float32)
        if covered.ndim - 1 != len(spatial):
            raise ValueError(
                f"a mask over {covered.ndim - 1} spatial axes cannot be brought to labels of shape "
                f"(N, {', '.join(map(str, spatial))})."
            )
        for axis, (size, own) in enumerate(zip(spatial, covered.shape[1:], strict=True), start=1):
            if size != own:
                averaged = jnp.tensordot(covered, overlaps(size, own), (axis, 1))
                covered = jnp.moveaxis(averaged, -1, axis)
        return spread(1.0 - jnp.asarray(self.lam), covered) * covered

    def specs(self, axis: str) -> Plan:
        """What of a plan for groups lies on which device: `in_specs` of shard_map, or shardings' specs.

        Args:
            axis: Name of the mesh's axis over which the batch is split.
        """
        size = self.batch_size

        def spec(leaf: Any) -> PartitionSpec:
            return PartitionSpec(axis) if np.ndim(leaf) and len(leaf) == size else PartitionSpec()

        whole = jax.tree.map(spec, self)
        groups = PartitionSpec(axis)
        return replace(whole, partners=Partners(groups, groups))


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
        """What the layer returns."""
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
    return plan.mixed(plan.place if place is None and plan.place else place or "hidden", x)


def _array(value: Lam) -> np.ndarray[Any, Any]:
    """A number or array as float32; as float64 where JAX calculates so and it is known so well."""
    return np.asarray(value, np.float32 if np.ndim(value) else jax.dtypes.canonicalize_dtype(np.float64))


def stacked(plans: Sequence[Plan]) -> Plan:
    """The plans of several steps as one, for `jax.lax.scan` over them; they must be of one place, or for all places."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *plans)
