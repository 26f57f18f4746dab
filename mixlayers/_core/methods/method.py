"""Mixing methods: frozen descriptions, each drawing one plan a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from mixlayers._core.checks import check_integer, keep_plain
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.groups import Across, Halves
from mixlayers._core.plan.lam import Lam, LamPer
from mixlayers._core.plan.pairs import Apart, Near, Pairs, Policy, draw_pairs
from mixlayers._core.plan.plan import MixPlan, Recipe
from mixlayers._core.plan.relabel import Lopsided
from mixlayers._core.plan.streams import PLAN, stream


def check_fraction(name: str, value: float, hint: str) -> None:
    """Raise ValueError unless the value is in (0, 1].

    Args:
        name: What the error calls it.
        value: The argument's.
        hint: The way out, for the error.
    """
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be in (0, 1], got {value}: {hint}")


class Method:
    """A mixing method, or several: draws the plan of a step."""

    def choose(self, rng: np.random.Generator, step: int) -> MixingMethod | None:
        """The method that acts in this step; None for a clean step."""
        raise NotImplementedError

    @property
    def leaves(self) -> tuple[MixingMethod, ...]:
        """The mixing methods that may act."""
        raise NotImplementedError

    @property
    def hidden(self) -> bool:
        """Whether any step may mix at a hidden layer."""
        return any(leaf.hidden_layers for leaf in self.leaves)

    @property
    def mixes_labels(self) -> bool:
        """Whether any step mixes labels; else none are needed (DropBlock, Erasing, MixStyle)."""
        return any(leaf.labels_mix for leaf in self.leaves)

    @property
    def needs_labels(self) -> bool:
        """Whether the partners depend on the labels."""
        return self.needs_classes or bool(self.near & {"label", "domain"})

    @property
    def needs_classes(self) -> bool:
        """Whether the partners, or their shares, depend on the labels' classes."""
        return any(leaf.by_class for leaf in self.leaves)

    @property
    def near(self) -> frozenset[str]:
        """What else than classes tells partners in any step: "length", "label", "domain"."""
        pairs = [leaf.pairs for leaf in self.leaves]
        domains = {"domain" for each in pairs if isinstance(each, Across)}
        return frozenset({each.by for each in pairs if isinstance(each, Near)} | domains)

    @cached_property
    def name(self) -> str:
        """The method as the code that makes it, for plans and records; to draw a plan costs less than to write this."""
        return repr(self)

    def plan(
        self,
        *,
        step: int,
        batch_size: int,
        places: Sequence[str] = ("input",),
        seed: int = 0,
        rank: int = 0,
        labels: npt.NDArray[np.integer] | None = None,
        near: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> MixPlan:
        """Draw the plan of one step.

        Args:
            step: The step's number, from 0.
            batch_size: N, >= 1.
            places: Candidate places; one is drawn uniformly. Input methods ignore it.
            seed, rank: The run's seed and the process's rank.
            labels: Class indices (N,), for the class policies of `pairs`, and for Remix.
            near: For `pairs=Near(...)`: "length", whole numbers (N,), or "label", (N,) or (N, D); for
                `pairs=Across(...)` "domain", (N,).
        """
        seed, rank, step = (
            check_integer(name, value, 0, 2**64 - 1, "pass a non-negative integer of at most 64 bits.")
            for name, value in (("seed", seed), ("rank", rank), ("step", step))
        )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        batch_size = check_integer("batch_size", batch_size, 1, 2**31 - 1)
        rng = stream(seed, rank, step)
        method = self.choose(rng, step)

        def planned(acting: MixingMethod, rng: np.random.Generator, place: str, number: int = 0) -> MixPlan:
            perm = acting.partners(rng, batch_size, labels, near)
            lam, recipe = acting.draw(rng, perm, place)
            return MixPlan(
                seed,
                rank,
                step,
                method=acting.name,
                place=place,
                perm=perm,
                lam=lam,
                recipe=recipe,
                correct_lam=acting.correct_lam,
                loss_scale=acting.loss_scale,
                relabel=acting.relabel(perm, labels),
                number=number,
            )

        if method is not None and not method.every_place:
            place = places[int(rng.integers(len(places)))] if method.hidden_layers else "input"
            return planned(method, rng, place)
        everywhere = []
        for number, place in enumerate(places, 1) if method is not None else ():
            own = stream(seed, rank, step, PLAN, number)
            if method is not None and own.random() < method.prob:
                everywhere.append(planned(method, own, place, number))
        if everywhere:
            return replace(everywhere[0], also=tuple(everywhere[1:]))
        perm = np.arange(batch_size, dtype=np.int64)
        return MixPlan(seed, rank, step, method=self.name, place=None, perm=perm)


@dataclass(frozen=True, kw_only=True, repr=False)
class MixingMethod(Method):
    """The arguments that all mixing methods share.

    Attributes:
        prob: Probability that a step mixes at all, in (0, 1].
        lam_per: One lam for the "batch", for every "pair" of mutual partners, or for every "sample".
        pairs: Who mixes with whom: "random", "derangement", "different_class", "same_class", `Near(...)`,
            `Apart(distance)`, `Halves()` or `Across(...)`.
    """

    hidden_layers: ClassVar[bool] = False
    has_partners: ClassVar[bool] = True  # whether samples have partners
    labels_mix: ClassVar[bool] = True  # whether their labels are mixed
    share_is_lam: ClassVar[bool] = True  # whether, without a mask, the label gets the partner by 1 - lam
    partial: ClassVar[bool] = False  # whether it mixes under a mask, a part of the features
    keeps_own: ClassVar[bool] = True  # whether a sample that is its own partner stays as it is
    correct_lam = True  # CutMix makes it a field
    loss_scale = 1.0  # PatchUp makes it a field
    every_place = False  # methods that leave the labels make it a field

    prob: float = 1.0
    lam_per: LamPer = "batch"
    pairs: Policy = "random"

    def __post_init__(self) -> None:
        keep_plain(self)
        check_fraction("prob", self.prob, "leave the method out to never mix.")
        for name, value, allowed in (
            ("lam_per", self.lam_per, get_args(LamPer)),
            ("pairs", self.pairs, get_args(Pairs)),
        ):
            if value not in allowed and not (
                name == "pairs" and isinstance(value, Near | Apart | Halves | Across)
            ):
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
        mutual = self.pairs in ("random", "derangement") or self.pairs == Halves(shuffle=False)
        if self.lam_per == "pair" and not mutual:
            raise ValueError(
                f"lam_per='pair' makes partners mutual, which pairs={self.pairs!r} cannot promise: "
                "use lam_per='sample', or pairs='random'."
            )

    def __repr__(self) -> str:
        shared = {f.name: f.default for f in fields(MixingMethod)}
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        shared |= {
            f.name: f.default for f in fields(self) if f.kw_only
        }  # told where they are not the default
        own = [f"{name}={value!r}" for name, value in told.items() if name not in shared]
        changed = [f"{name}={told[name]!r}" for name, default in shared.items() if told[name] != default]
        return f"{type(self).__name__}({', '.join(own + changed)})"

    def draw(self, rng: np.random.Generator, perm: Permutation, place: str) -> tuple[Lam, Recipe | None]:
        """Draw lam and the mask's recipe for the place."""
        raise NotImplementedError

    @property
    def by_class(self) -> bool:
        """Whether it needs the labels' classes."""
        return isinstance(self.pairs, Across) or self.pairs in ("different_class", "same_class")

    def partners(
        self,
        rng: np.random.Generator,
        size: int,
        labels: npt.NDArray[np.integer] | None,
        near: Mapping[str, npt.NDArray[Any]] | None,
    ) -> Permutation:
        """Draw each sample's partner."""
        if not self.has_partners:
            return np.arange(size, dtype=np.int64)
        return draw_pairs(rng, size, self.pairs, labels, near, mutual=self.lam_per == "pair")

    def relabel(self, perm: Permutation, labels: npt.NDArray[np.integer] | None) -> Lopsided | None:
        """The rule by which labels have another share than the features, if there is one."""
        return None

    def choose(self, rng: np.random.Generator, step: int) -> MixingMethod | None:
        return (
            self if self.every_place or rng.random() < self.prob else None
        )  # there each place has its own chance

    @property
    def leaves(self) -> tuple[MixingMethod, ...]:
        return (self,)


def check_one_for_all(method: MixingMethod, what: str) -> None:
    if method.lam_per != "batch":
        raise ValueError(
            f"{type(method).__name__} draws one {what} for the whole batch, as published, got "
            f"lam_per={method.lam_per!r}: leave lam_per out."
        )


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless Beta(alpha, alpha) can be drawn."""
    if not 1e-300 <= alpha <= 1e300:  # beyond them the arithmetic of Beta's law gives nan
        raise ValueError(
            f"alpha must be > 0 and finite, got {alpha} (1e-300 to 1e300 can be drawn): small values mix little, "
            "1 is uniform; to switch mixing off, leave the method out or unwrap the model."
        )
