"""The forms of a model's calls: what no proof of its places has seen yet is proved before it is mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixlayers._core.batch.arguments import by_name
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import leaves
from mixlayers._core.model.padding import Padding

_PADDED = "padded"


class Forms:
    """Which arguments a model was called with so far, of which kinds, and whether samples were padded differently.

    An argument that comes for the first time may go round a mixed layer, and so may a padding mask that never
    said anything before.

    Args:
        framework: The model's.
        padding: Its masks.
        names: Of its positional arguments.
    """

    def __init__(self, framework: Framework, padding: Padding, names: Sequence[str]) -> None:
        self.framework, self.padding, self.names = framework, padding, names
        self._seen: set[frozenset[Any]] = set()
        self._padded = not padding.meanings

    def are_new(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether no call before was of this form.

        Masks are read on the host until a batch is padded, which waits for the device.
        """
        named = by_name(self.names, args, kwargs).items()
        form = frozenset[Any]((name, kind) for name, value in named for kind in self._kinds(value))
        self._padded = self._padded or self._differ(args, kwargs)
        if self._padded:
            form |= {_PADDED}
        new = form not in self._seen
        self._seen.add(form)
        return new

    def _kinds(self, value: Any) -> Iterator[Any]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from ((key, kind) for kind in self._kinds(item))
            return
        for leaf in leaves(value):
            if self.framework.is_tensor(leaf):
                yield str(leaf.dtype), leaf.ndim
            elif leaf is not None:
                # by its name, for the class may be one that cannot be pickled
                yield leaf if isinstance(leaf, bool) else type(leaf).__qualname__

    def _differ(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the named masks, of this call or in its containers, differ from sample to sample."""
        for mask in self.padding.masks_of(args, kwargs):
            try:
                rows = self.framework.to_numpy(mask)
            except (RuntimeError, TypeError, ValueError):  # it has no values, as on PyTorch's meta device
                continue
            if rows.ndim and (rows != rows[:1]).any():
                return True
        return False
