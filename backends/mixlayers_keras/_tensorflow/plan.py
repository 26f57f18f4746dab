"""A step's plan as data of one traced function, which serves every place and every method by a `cond` at each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from mixlayers import Method, MixPlan, Remix
from mixlayers._core.batch.carry import carry_out
from mixlayers._core.batch.mix import refuse_unmixable, warn_of_full_mask
from mixlayers._core.errors import refuse
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.methods.method import MixingMethod
from mixlayers._core.plan.acts import STATIC, drawn_for, mask_of, zeros
from mixlayers._core.plan.masks import Blocks
from mixlayers._core.plan.plan import INPUT, share_map
from mixlayers_keras._tensorflow.array import Array, raw
from mixlayers_keras._tensorflow.framework import TENSORFLOW, Partners


@dataclass(frozen=True, eq=False)
class Data:
    """An act of the core as data.

    Attributes:
        numbers: What differs from step to step: tensors by name, and acts in the act.
        kind: Its class. Static.
        fixed: What its method has alike in all steps. Static.
    """

    numbers: Mapping[str, Any]
    kind: type
    fixed: tuple[tuple[str, Any], ...]

    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What a function is traced for, and what it is given."""
        return (self.kind, self.fixed), (dict(self.numbers),)

    @classmethod
    def __tf_unflatten__(cls, fixed: tuple[Any, ...], data: tuple[Any, ...]) -> Data:
        return cls(*data, *fixed)

    @classmethod
    def of(cls, how: Any) -> Data:
        """That of an act."""
        static = STATIC[type(how)]
        given = {each.name: getattr(how, each.name) for each in fields(how)}
        given |= dict.fromkeys({"perm", "box"} & given.keys())  # the partners are the part's
        given |= dict.fromkeys(zeros(how), 0.0)
        fixed = {
            name for name, value in given.items() if name in static or value is None or name in zeros(how)
        }
        numbers = {name: _tensor(value) for name, value in given.items() if name not in fixed}
        return cls(numbers, type(how), tuple((name, given[name]) for name in sorted(fixed)))

    @property
    def act(self) -> Any:
        """The act, of the core's arrays."""
        made = {name: x.act if isinstance(x, Data) else Array(x) for name, x in self.numbers.items()}
        return self.kind(**made, **dict(self.fixed))


def _tensor(value: Any) -> Any:
    """A field of an act as a traced function takes it."""
    if type(value) in STATIC:
        return Data.of(value)
    value = np.asarray(value)
    narrow = {"float64": np.float32, "int64": np.int32}.get(value.dtype.name, value.dtype)
    return tf.constant(value.astype(narrow, copy=False))


@dataclass(frozen=True, eq=False)
class Part:
    """What one method does at one place, in this step or in another.

    Attributes:
        acts: Whether it does in this step, bool ().
        perm, inverse: Its partners, int32 (N,).
        data: What is done.
        mixes: Whether the labels are mixed by it. Static.
    """

    acts: Any
    perm: Any
    inverse: Any
    data: Data
    mixes: bool

    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """As of data."""
        return (self.mixes,), (self.acts, self.perm, self.inverse, self.data)

    @classmethod
    def __tf_unflatten__(cls, fixed: tuple[Any, ...], data: tuple[Any, ...]) -> Part:
        return cls(*data, *fixed)

    def carried(self, x: Any, place: str) -> Any:
        """A feature, with what is to be done to it done."""
        act = self.data.act
        own = None if None in x.shape else drawn_for(act, x.shape)
        if own is not None:
            refuse(
                f"the plan is drawn for a feature of shape {own} at {place!r}, which now has shape {tuple(x.shape)}",
                "bring all batches to one shape, the example's or the first batch's; or mix without a mask",
            )
        mixed = raw(carry_out(TENSORFLOW, Array(x), act, Partners(self.perm, self.inverse)))
        mixed.set_shape(x.shape)
        return mixed


@dataclass(frozen=True, eq=False)
class Plan:
    """What one step does.

    Attributes:
        perm, inverse: Whose labels are mixed, int32 (N,).
        s: Share of the partner in the label, () or (N,).
        loss_scale: Factor of the loss.
        parts: By place, what each method does there.
        mixes: Whether any step of the method mixes labels. Static.
        masked: Whether any mixes under a mask. Static.
        channel_dim: 1 or -1, where a masked feature's channels are. Static.
    """

    perm: Any
    inverse: Any
    s: Any
    loss_scale: Any
    parts: Mapping[str, tuple[Part, ...]]
    mixes: bool
    masked: bool
    channel_dim: int

    place = None  # one of parts, which differs from step to step

    def __tf_flatten__(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """As of a part."""
        data = (self.perm, self.inverse, self.s, self.loss_scale, dict(self.parts))
        return (self.mixes, self.masked, self.channel_dim), data

    @classmethod
    def __tf_unflatten__(cls, fixed: tuple[Any, ...], data: tuple[Any, ...]) -> Plan:
        return cls(*data, *fixed)

    @property
    def batch_size(self) -> Any:
        """N; None where a trace does not know it."""
        return self.perm.shape[0]

    @property
    def partners(self) -> Partners:
        """Whose labels are mixed."""
        return Partners(self.perm, self.inverse)

    def partners_at(self, place: str) -> Partners:
        """Whose features and labels are mixed at a place; each sample's own where a step does not."""
        perm = tf.range(tf.size(self.perm))
        for part in self.parts[place]:
            perm = tf.where(part.acts, part.perm, perm) if part.mixes else perm
        return Partners(perm, perm)

    @property
    def features_shape(self) -> tuple[int, ...] | None:
        """A shape of as many axes as the masks have, for labels that have points to follow; None: there is none."""
        masks = [mask_of(part.data.act) for parts in self.parts.values() for part in parts]
        axes = {mask.ndim for mask in masks if mask is not None}
        return (1,) * axes.pop() if len(axes) == 1 else None

    def mixed(self, place: str, x: Any, keep: Collection[str] = ()) -> Any:
        """The output of a layer, mixed if the step acts there.

        Raises:
            MixingError: If it holds nothing to be mixed.
        """
        if place not in self.parts:
            return x
        mixed = tree_map(lambda leaf: self._mixed(place, leaf) if self._can_mix(leaf) else leaf, x, keep=keep)
        if mixed is x:
            self._nothing(place, x)
        return mixed

    def _can_mix(self, x: Any) -> bool:
        """Whether x is a floating-point tensor with N rows, as far as a trace can tell."""
        if not TENSORFLOW.is_tensor(x) or not TENSORFLOW.is_float(x) or not len(x.shape):
            return False
        return x.shape[0] == self.batch_size or None in (x.shape[0], self.batch_size)

    def _mixed(self, place: str, x: Any) -> Any:
        mixed = tf.convert_to_tensor(x)
        for part in self.parts[place]:
            mixed = tf.cond(
                part.acts, lambda x=mixed, part=part: part.carried(x, place), lambda x=mixed: tf.identity(x)
            )
        return mixed

    def _nothing(self, place: str, x: Any) -> NoReturn:
        refuse_unmixable(TENSORFLOW, self.batch_size, place, x, "let the batch axis be the first")

    def share_map(self, shape: Sequence[int], spatial: Sequence[int], channel_dim: int = -1) -> Any:
        """The partner's share at each point of labels `(N, *spatial)`: see `MixPlan.share_map`."""
        found: Any = 0.0
        for part in (part for parts in self.parts.values() for part in parts):
            share = tf.convert_to_tensor(raw(share_map(part.data.act, spatial, channel_dim)))
            share = tf.reshape(share, (-1, *(1,) * len(spatial))) if len(share.shape) < 2 else share
            found = tf.where(part.acts, share, found)
        return found


def planned(
    core: MixPlan,
    method: Method,
    places: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    channel_dim: int,
) -> Plan:
    """A step's plan in the form that all steps of the method have.

    Args:
        core: What was drawn.
        method: The method that did.
        places: Where it may act.
        shapes: Of their features, batch axis first.
        channel_dim: As of `MixPlan.blend`.
    """
    parts: dict[str, list[Part]] = {}
    shares: list[Any] = [0.0]
    for leaf in dict.fromkeys(method.leaves):  # one may stand in two of OneOf's
        for place in places if leaf.hidden_layers else (INPUT,):
            shape = (core.batch_size, *shapes[place][1:])
            own = core.at(place) if core.method == leaf.name else None
            part, share = _part(own, shape, channel_dim) if own else _idle(leaf, place, shape, channel_dim)
            parts.setdefault(place, []).append(part)
            shares.append(share)
            if place == core.place and own:
                shares[0] = share
    partners = TENSORFLOW.partners(core.perm)
    per_sample = any(np.ndim(share) for share in shares) or any(
        isinstance(leaf, Remix) for leaf in method.leaves
    )
    kind = keras.config.floatx()
    return Plan(
        partners.perm,
        partners.inverse,
        np.broadcast_to(np.asarray(shares[0], kind), (core.batch_size,) if per_sample else ()),
        np.asarray(core.loss_scale, kind),
        {place: tuple(own) for place, own in parts.items()},
        method.mixes_labels,
        any(leaf.partial for leaf in method.leaves),
        channel_dim,
    )


def _part(core: MixPlan, shape: tuple[int, ...], channel_dim: int) -> tuple[Part, Any]:
    """What a step does at one place, and the partner's share in the label."""
    how: Any = core.blend(shape, channel_dim)
    if isinstance(core.recipe, Blocks):
        warn_of_full_mask(core.recipe, tuple(shape[1:-1] if channel_dim == -1 else shape[2:]))
    partners = TENSORFLOW.partners(core.perm)
    rows = tf.constant(partners.perm), tf.constant(partners.inverse)
    share = core.label_share([(how.s, shape)]) if core.mixes else 0.0
    return Part(tf.constant(True), *rows, Data.of(how), core.mixes), share


@lru_cache(maxsize=256)
def _idle(leaf: MixingMethod, place: str, shape: tuple[int, ...], channel_dim: int) -> tuple[Part, Any]:
    """The same where a method does nothing in a step: of the form that a traced function asks for, and does not use."""
    perm = np.arange(shape[0])
    lam, recipe = leaf.draw(np.random.default_rng(0), perm, place)
    part, share = _part(MixPlan(0, 0, 0, leaf.name, place, perm, lam, recipe), shape, channel_dim)
    return replace(part, acts=tf.constant(False)), share
