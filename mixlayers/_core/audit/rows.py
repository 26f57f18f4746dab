"""Which tensors of a place hold no samples, though their axis is as long as the batch in some steps."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import paths, tree_map
from mixlayers._core.plan.plan import INPUT

_Key = tuple[Hashable, ...]


class Rows:
    """What batches of several sizes say of the tensors that places hold: their samples' axis is as long as each batch.

    A position bias (T, T) beside the features, or an argument that is one for all samples, is by chance as long as a
    batch of T samples; a batch of another size tells it apart for good. An axis of length 1 tells nothing: it may
    stand for all samples in one batch and hold them in another.
    """

    def __init__(self, framework: Framework) -> None:
        self.framework = framework
        self._apart: set[_Key] = set()
        self._mixed: set[_Key] = set()

    def apart(self, place: str, part: int, tree: Any, size: int, axis: int) -> list[Any]:
        """The tensors of a place that are known to hold no samples, and have as many rows all the same.

        Args:
            place: "input", or the layer's name.
            part: Which part of what the layer returned.
            tree: That part.
            size: Samples in the batch.
            axis: The part's batch axis.
        """
        return self._told(list(self._known(place, part, tree, axis)), size, axis)

    def mixed(
        self,
        place: str,
        part: int,
        tree: Any,
        size: int,
        axis: int,
        keep: Collection[str],
        masks: Iterable[Any],
    ) -> list[Any]:
        """As `apart`, where the others are about to be mixed.

        Args:
            place, part, tree, size, axis: As of `apart`.
            keep: Names of what stays as it is.
            masks: Tensors that are no features.

        Raises:
            MixingError: If one was mixed in a step before that is now seen to hold no samples.
        """
        if place != INPUT and self.framework.is_tensor(tree):
            return []  # the layer's features, as the audit saw them
        known = list(self._known(place, part, tree, axis))
        apart = self._told(known, size, axis)
        features: set[int] = set()
        tree_map(lambda x: features.add(id(x)), tree, keep=keep)
        features -= {id(mask) for mask in masks}
        for key, x in known:
            if key in self._apart and key in self._mixed and id(x) in features:
                self._refuse(place, key[2], tuple(x.shape), size)
            if size > 1 and x.shape[axis] == size and key not in self._apart and id(x) in features:
                self._mixed.add(key)
        return apart

    def _told(self, known: Sequence[tuple[_Key, Any]], size: int, axis: int) -> list[Any]:
        self._apart.update(key for key, x in known if x.shape[axis] not in (1, size))
        return [x for key, x in known if x.shape[axis] == size and key in self._apart]

    def _known(self, place: str, part: int, tree: Any, axis: int) -> Iterator[tuple[_Key, Any]]:
        """The tensors that could be mixed, each with what tells it in other batches."""
        found = list(paths(tree))
        for path, x in found:
            if self.framework.is_tensor(x) and self.framework.is_float(x) and x.ndim > axis:
                yield (place, part, path, len(found), x.ndim), x

    def _refuse(self, place: str, path: Any, shape: tuple[int, ...], size: int) -> None:
        name = ".".join(map(str, path))
        if place == INPUT:
            known = next((each for each in reversed(path) if isinstance(each, str)), None)
            what, say = f"the argument {name!r}", "say" if known else "pass it by name, and say"
            way_out = f"{say} that it is no feature, keep=[{known or '...'!r}]"
        else:
            what = f"what {place!r} returned" + (f" as number {name}" if name else "")
            way_out = (
                "name a layer that returns features alone, or give the mixer an example= in which nothing but samples "
                "is as long as the batch"
            )
        refuse(
            f"{what} was mixed in a step before, where it was as long as the batch, and now has shape {shape} beside "
            f"{size} samples, so that it holds none",
            way_out,
        )
