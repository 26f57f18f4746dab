"""Check anybody's mixing of a batch: does the label get the share that the features got?

report = check(augmentation)
assert report.ok, report
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixlayers._core.labels.target import MixedTarget

Array = npt.NDArray[Any]
Augmentation = Callable[[Any, Any], Any]

TOLERANCE = 2e-3
"""Of shares: some augmentations round lam to half precision."""


@dataclass(frozen=True)
class Property:
    """One rule, and what was found.

    Attributes:
        name: Of the rule.
        rule: What it asks.
        found: What broke it; None: nothing.
    """

    name: str
    rule: str
    found: str | None = None


@dataclass(frozen=True)
class Report:
    """The findings of `check`; `str(report)` is a table."""

    properties: tuple[Property, ...]

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rules that do not hold."""
        return tuple(each.name for each in self.properties if each.found is not None)

    def __str__(self) -> str:
        width = max(len(each.name) for each in self.properties)
        return "\n".join(
            f"{each.name:{width}}  {'ok: ' + each.rule if each.found is None else 'FAILED: ' + each.found}"
            for each in self.properties
        )


_RULES = {
    "runs": "it takes (x, y) and returns x and a target",
    "shape": "x keeps its shape and dtype",
    "rows": "each row of the target is non-negative and sums to 1",
    "share": "each label has the share of its sample in the mixed x",
    "identity": "a sample whose label did not change did not change either",
    "untouched": "the batch that it was given is not overwritten",
    "fresh": "it does not draw the same mix each time",
    "batches": "batches of 1, 2, 3 and 5 samples work",
    "seeds": "the same seed gives the same mix",
}


def check(
    augmentation: Augmentation,
    *,
    num_classes: int = 10,
    labels: str = "indices",
    array: Callable[[Array], Any] = np.asarray,
    shape: Sequence[int] = (3, 32, 32),
    dtype: npt.DTypeLike = np.float32,
    smoothing: float = 0.0,
    tries: int = 20,
    reseed: Callable[[int], object] | None = None,
) -> Report:
    """Check a mixing of batches by what it does to samples of one colour each.

    A mixed batch's mean colour tells how much of each sample is in it, whatever the method: Mixup, CutMix, or any other
    that blends or pastes samples of the batch.

    Args:
        augmentation: Called as `augmentation(x, y)`. Returns x and soft labels (N, K), or x and a MixedTarget, or
            `x, y_a, y_b, lam` with lam the share of y_a.
        num_classes: K, of the soft labels that it returns; 4 at least.
        labels: "indices" (N,), int64, or "one-hot" (N, K), float32: what it takes.
        array: Makes its tensors of NumPy arrays, for example `torch.tensor`.
        shape: Of one sample, channels first.
        dtype: Of x.
        smoothing: Label smoothing that it applies, epsilon in [0, 1).
        tries: How often to call it.
        reseed: Sets the seeds that it draws from; without it reproducibility is not checked.

    Raises:
        ValueError: If labels is neither of both, or num_classes is too small.
    """
    if labels not in ("indices", "one-hot"):
        raise ValueError(f"labels must be 'indices' or 'one-hot', got {labels!r}.")
    if num_classes < 4:
        raise ValueError(
            f"num_classes must be 4 at least, so that samples can be told apart, got {num_classes}."
        )
    probe = _Probe(augmentation, num_classes, labels, array, tuple(shape), np.dtype(dtype), smoothing)
    found: dict[str, str | None] = dict.fromkeys(
        _RULES if reseed else [name for name in _RULES if name != "seeds"]
    )
    size = min(8, num_classes)
    if size % 2:
        size -= 1  # some peers ask for even batches; odd ones have a rule of their own
    seen: list[Array] = []
    for _ in range(tries):
        try:
            trial = probe.run(size)
        except Exception as error:
            found["runs"] = f"a batch of {size} raised {_said(error)}"
            break
        for name, what in trial.broken():
            found[name] = found.get(name) or what
        seen.append(trial.mixed)
    if len(seen) > 1 and all(each.shape == seen[0].shape and np.array_equal(each, seen[0]) for each in seen):
        found["fresh"] = f"{len(seen)} calls gave the same result"
    for few in (1, 2, 3, 5):
        if few <= num_classes and found["runs"] is None and found["batches"] is None:
            try:
                broken = {name: what for name, what in probe.run(few).broken() if found[name] is None}
                found["batches"] = f"a batch of {few}: {next(iter(broken.values()))}" if broken else None
            except Exception as error:
                found["batches"] = f"a batch of {few} raised {_said(error)}"
    if reseed is not None and found["runs"] is None:
        found["seeds"] = _reproducible(probe, reseed, size)
    return Report(tuple(Property(name, _RULES[name], what) for name, what in found.items()))


@dataclass(frozen=True)
class _Probe:
    """A probe: calls an augmentation with samples that can be told apart."""

    augmentation: Augmentation
    num_classes: int
    labels: str
    array: Callable[[Array], Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    smoothing: float

    def run(self, size: int) -> _Trial:
        colours = self._colours(size)
        x = np.broadcast_to(colours.reshape(size, -1, *(1 for _ in self.shape[1:])), (size, *self.shape))
        x = np.ascontiguousarray(x, dtype=self.dtype)
        y = np.arange(size)
        given = np.eye(self.num_classes, dtype=np.float32)[y] if self.labels == "one-hot" else y
        own_x, own_y = self.array(x.copy()), self.array(given.copy())
        output = self.augmentation(own_x, own_y)
        untouched = np.array_equal(_host(own_x), x) and np.array_equal(_host(own_y), given)
        mixed, target = output[0], output[1:] if len(output) != 2 else output[1]
        soft = self._soft(target)
        soft = (soft - self.smoothing / self.num_classes) / (1 - self.smoothing)
        return _Trial(x, _host(mixed), soft, untouched)

    def _colours(self, size: int) -> Array:
        """One for each sample, no mix of two of which is a mix of two others: points on a moment curve."""
        t = np.linspace(-1.0, 1.0, size) if size > 1 else np.array([0.5])
        channels = self.shape[0]
        return np.stack([np.cos(np.arccos(t) * power) for power in range(1, channels + 1)], 1)

    def _soft(self, target: Any) -> Array:
        if isinstance(target, MixedTarget):
            return _host(target.soft(self.num_classes)).astype(np.float64)
        if isinstance(target, tuple | list) and len(target) == 3:
            first, second, lam = (_host(part) for part in target)
            lam = np.asarray(lam, dtype=np.float64).reshape(-1, 1)
            return lam * self._rows(first) + (1 - lam) * self._rows(second)
        return _host(target).astype(np.float64)

    def _rows(self, labels: Array) -> Array:
        return np.eye(self.num_classes)[labels.astype(np.int64)] if labels.ndim == 1 else labels


@dataclass(frozen=True)
class _Trial:
    """One call: what went in, what came out."""

    x: Array
    mixed: Array
    soft: Array
    untouched: bool

    def broken(self) -> Iterator[tuple[str, str]]:
        """The rules that this call broke."""
        x, mixed, soft = self.x, self.mixed, self.soft
        if not self.untouched:
            yield "untouched", "x or y was changed in place"
        if mixed.shape != x.shape or mixed.dtype != x.dtype:
            yield "shape", f"{x.dtype} {x.shape} became {mixed.dtype} {mixed.shape}"
        if soft.ndim != 2 or len(soft) != len(x):
            yield "rows", f"the target of {len(x)} samples has shape {soft.shape}"
            return
        # asked so that nan breaks the rules
        if not (soft.min() >= -TOLERANCE and np.abs(soft.sum(1) - 1).max() <= TOLERANCE):
            yield (
                "rows",
                f"rows sum to {soft.sum(1).min():.3f} to {soft.sum(1).max():.3f}, least entry {soft.min():.3f}",
            )
        if mixed.shape != x.shape:
            return
        space = tuple(range(2, x.ndim))
        colours = x.astype(np.float64).mean(space)
        claimed = soft[:, : len(x)] @ colours
        off = np.abs(mixed.astype(np.float64).mean(space) - claimed).max()
        if not off <= TOLERANCE:
            yield "share", f"the features differ by {off:.3f} from what the labels say (the colours span 2)"
        alone = np.diag(soft[:, : len(x)]) > 1 - 1e-6
        if not np.abs(mixed[alone] - x[alone]).max(initial=0.0) <= 1e-5:
            yield "identity", "a sample with its own label alone was changed"


def _reproducible(probe: _Probe, reseed: Callable[[int], object], size: int) -> str | None:
    runs = []
    for _ in range(2):
        reseed(0)
        runs.append([probe.run(size) for _ in range(3)])
    same = all(
        np.array_equal(one.mixed, other.mixed) and np.array_equal(one.soft, other.soft)
        for one, other in zip(*runs, strict=True)
    )
    return None if same else "two runs from seed 0 differ"


def _host(value: Any) -> Array:
    """Any framework's tensor as a NumPy array."""
    for step in ("detach", "cpu", "numpy"):
        value = getattr(value, step)() if hasattr(value, step) else value
    return np.asarray(getattr(value, "array", value))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
