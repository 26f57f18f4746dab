"""One call of a model on a few samples, run again with samples swapped at places: what `prove` calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.audit.proof import EVERYTHING, Argument, NotOnce, batch_axes
from mixlayers._core.audit.rows import Rows
from mixlayers._core.audit.stage import LABELS, Few, Hooks, Stage, arrays_of, is_batched
from mixlayers._core.batch.arguments import by_name
from mixlayers._core.batch.mix import can_mix
from mixlayers._core.batch.token_masks import present_masks
from mixlayers._core.framework.tree import leaves, tree_map
from mixlayers._core.plan.plan import INPUT


class Experiment:
    """Runs of one call in which samples are swapped.

    Args:
        stage: Where the model runs.
        few: The call.
        masked: The modules that take padding masks ("" is the model): the masks' names and positions. What runs after
            a swapped place sees the partner's mask, as in a mixed step the union.

    Attributes:
        rows: What is known of the tensors that places hold.
        alone: Whether no other process runs the model too: all would have to run it as often.
    """

    def __init__(self, stage: Stage, few: Few, masked: Mapping[str, Mapping[str, int]]) -> None:
        self.stage, self.few, self.masked = stage, few, masked
        self.framework, self.size = stage.framework, few.size
        self._masks = list(present_masks(masked.get("", {}), few.args, few.kwargs).values())
        self._arguments = few.arguments(stage.parameters())
        self._features = {
            id(x)
            for x in leaves(self._arguments)
            if can_mix(self.framework, x, few.size, few.batch_dim) and not self.is_mask(x)
        }
        self.rows, self.alone = Rows(self.framework), True
        # places that hold more than one tensor as long as there are samples, and those looked at with more samples
        self._several: set[str] = set()
        self._asked: set[str] = set()
        self._moved = 0
        self._inside: list[tuple[str, int]] = []  # modules that were given rolled masks, and by how much
        # masks that modules were given or returned, and by how much rolled
        self._known: list[tuple[Any, int]] = []
        self._ran: dict[str, int] = {}

    def __call__(self, shifts: Mapping[Hashable, int], uniform: float = 0.5) -> list[npt.NDArray[Any]]:
        """One forward: see `prove`.

        Raises:
            NotOnce: If a place did not run exactly once, or holds nothing to swap.
        """
        if EVERYTHING in shifts:
            return self._outputs(*self._rolled(shifts[EVERYTHING], lambda _: True), Hooks(), uniform)
        for key, by in shifts.items():
            if isinstance(key, Argument):
                return self._argument(key, by)
        args, kwargs = self.few.args, self.few.kwargs
        self._begin()
        places = {str(place): by for place, by in shifts.items()}
        if INPUT in places:
            by = places.pop(INPUT)
            args, kwargs = self._rolled(by, lambda x: self._is_feature(x) or self.is_mask(x))
            self._moved += by
            self._inside = [("", by)] if self._masks else []
        after = {place: partial(self._swap, place, by) for place, by in places.items()}
        named = [name for name in self.masked if name]
        hooks = Hooks(
            after,
            {name: partial(self._before_masked, name) for name in named},
            {name: partial(self._after_masked, name) for name in named},
        )
        found = self._outputs(args, kwargs, hooks, uniform)
        doubtful = self._several - self._asked
        if doubtful and self.alone:
            self._ask(doubtful)
            return self(shifts, uniform)
        for place in places:
            if self._ran.get(place, 0) != 1:
                raise NotOnce(f"ran {self._ran.get(place, 0)} times in one forward")
        return found

    def _ask(self, places: set[str]) -> None:
        """See which tensors of places hold samples: those that become longer with more of them."""
        self._asked |= places
        few = self.few.more(self.stage)

        def note(place: str, output: Any) -> Any:
            for at, (part, axis) in enumerate(self.stage.parts(place, output, few.batch_dim)[0]):
                self.rows.apart(place, at, part, few.size, axis)
            return output

        hooks = Hooks({place: partial(note, place) for place in places})
        with suppress(Exception):  # the model's own: it may be written for one number of samples
            self.stage.forward(few.args, few.kwargs, hooks, few.size, 0.5)

    def _begin(self) -> None:
        self._moved, self._inside, self._known, self._ran = 0, [], [], {}

    def backward_off(self, place: str) -> float:
        """The error of the parameters' gradients where a place is swapped, and the outputs' weights with it.

        A part of a model that runs without gradients, in a function with a backward of its own, may look right and
        be differentiated as if nothing had been swapped.
        """
        found = []
        for by in (0, 1):
            self._begin()
            hooks = Hooks({place: partial(self._swap, place, by)})
            weigh = partial(self._weights, by)
            found.append(self.stage.gradients(self.few.args, self.few.kwargs, hooks, self.size, weigh))
        largest = max((float(np.abs(x).max()) for x in found[0] if x.size), default=0.0)
        apart = [float(np.abs(x - y).max()) for x, y in zip(*found, strict=True) if x.size]
        return max(apart, default=0.0) / largest if largest else 0.0

    def _weights(self, by: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """The outputs' weights: the same for every run, but for the samples' order."""
        made = np.random.default_rng(0).standard_normal(shape)
        axes = batch_axes(made, self.size, self.few.batch_dim)
        return np.roll(made, by * (shape[axes[0]] // self.size), axes[0]) if axes else made

    def calls(self, places: Sequence[str], uniform: float) -> dict[str, int]:
        """The number of runs of each place where every uniform number is as given: chance may leave layers out."""
        counts = dict.fromkeys(places, 0)

        def count(place: str, output: Any) -> Any:
            counts[place] += 1
            return output

        hooks = Hooks({place: partial(count, place) for place in places if place != INPUT})
        self._outputs(self.few.args, self.few.kwargs, hooks, uniform)
        return counts

    def arguments(self) -> list[str]:
        """The names of the arguments that hold samples."""
        return [
            name for name, value in self._arguments.items() if any(self._is_batched(x) for x in leaves(value))
        ]

    def goes_unmixed(self) -> bool:
        """Whether any tensor of the call is not mixed at the input, though it holds samples."""
        return bool(self._features) and any(
            self._is_batched(x) and not self._is_feature(x) and not self.is_mask(x)
            for value in self._arguments.values()
            for x in leaves(value)
        )

    def joins_more(self, keep: Collection[str]) -> bool:
        """Whether the call holds more than one tensor, by which the model may join samples: edges, an adjacency.

        Args:
            keep: Names of those that are known to be no features.
        """
        found: list[Any] = []
        given = by_name(self.stage.parameters(), self.few.args, self.few.kwargs)
        tree_map(found.append, given, keep={*keep, *LABELS})
        tensors = self.framework.tensors(found)
        return bool(self._features) and sum(bool(x.ndim) and not self.is_mask(x) for x in tensors) > 1

    def _outputs(self, args: Any, kwargs: Any, hooks: Hooks, uniform: float) -> list[npt.NDArray[Any]]:
        return arrays_of(self.stage, self.stage.forward(args, kwargs, hooks, self.size, uniform))

    def _argument(self, key: Argument, by: int) -> list[npt.NDArray[Any]]:
        """One argument rolled, the place as it is in a clean forward."""
        held: dict[str, Any] = {}
        hooks = Hooks()
        if key.held != INPUT:
            keep = Hooks({key.held: lambda output: held.setdefault("output", output)})
            self._outputs(self.few.args, self.few.kwargs, keep, 0.5)
            hooks = Hooks({key.held: lambda output: held.get("output", output)})
        own = {id(x) for x in leaves(self._arguments[key.name])}
        if key.held == INPUT:
            own -= {id(x) for x in leaves(self._arguments) if self._is_feature(x) or self.is_mask(x)}
        args, kwargs = self._rolled(by, lambda x: id(x) in own)
        return self._outputs(args, kwargs, hooks, 0.5)

    def _swap(self, place: str, by: int, output: Any) -> Any:
        parts, join = self.stage.parts(place, output, self.few.batch_dim)
        swapped = []
        apart = [
            x
            for at, (part, axis) in enumerate(parts)
            for x in self.rows.apart(place, at, part, self.size, axis)
        ]

        def swap(axis: int, x: Any) -> Any:
            still = [*apart, *(mask for mask, _ in self._known)]
            if not can_mix(self.framework, x, self.size, axis) or any(x is other for other in still):
                return x
            swapped.append(x)
            return self._roll(x, by, axis)

        joined = join([tree_map(partial(swap, axis), part) for part, axis in parts])
        if not swapped:
            raise NotOnce("returns no floating-point tensor with the samples on its batch axis")
        if len(swapped) > 1:
            self._several.add(place)
        self._ran[place] = self._ran.get(place, 0) + 1
        self._moved += by
        return joined

    def _before_masked(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        masks = present_masks(self.masked[name], args, kwargs)
        handed = self._inside[-1][1] if self._inside else 0  # by the module around
        if not masks or not (self._moved - handed) % self.size:
            self._known += [(x, handed) for x in self.framework.tensors(masks.values())]
            return None
        self._inside.append((name, self._moved))
        args, kwargs = list(args), dict(kwargs)

        def roll(x: Any) -> Any:
            if not (self.framework.is_tensor(x) and x.ndim and x.shape[0] == self.size):
                return x
            by = self._moved - next((by for known, by in self._known if known is x), handed)
            rolled = self._roll(x, by, 0) if by % self.size else x
            self._known.append((rolled, self._moved))
            return rolled

        for mask, value in masks.items():
            at = self.masked[name][mask]
            if at < len(args):
                args[at] = tree_map(roll, value)
            else:
                kwargs[mask] = tree_map(roll, value)
        return tuple(args), kwargs

    def _after_masked(self, name: str, output: Any) -> None:
        if self._inside and self._inside[-1][0] == name:
            _, by = self._inside.pop()
            made = [x for x in self.framework.tensors([output]) if not self.framework.is_float(x)]
            self._known += [(x, by) for x in made]

    def _is_batched(self, x: Any) -> bool:
        return is_batched(self.framework, x, self.size, self.few.batch_dim)

    def _is_feature(self, x: Any) -> bool:
        return id(x) in self._features

    def is_mask(self, x: Any) -> bool:
        """Whether a tensor of the call is a padding mask."""
        return any(x is mask for value in self._masks for mask in leaves(value))

    def _rolled(self, by: int, which: Callable[[Any], bool]) -> tuple[Any, Any]:
        """The call with those tensors rolled."""

        def roll(x: Any) -> Any:
            return self._roll(x, by, self.few.batch_dim) if self._is_batched(x) and which(x) else x

        rolled: tuple[Any, Any] = tree_map(roll, (self.few.args, self.few.kwargs))
        return rolled

    def _roll(self, x: Any, by: int, axis: int) -> Any:
        return self.stage.take(x, np.roll(np.arange(self.size), by), axis)
