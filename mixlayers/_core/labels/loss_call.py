"""One call of a criterion: which of its arguments are labels, which are outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework

Which = int | str | Sequence[int | str] | None
"""Which arguments are labels: the last n of the positional ones; or names and positions, counted from 0; None: of two
arguments the second."""


def check_which(labels: Which) -> None:
    """Raise unless it says which arguments are labels."""
    several = isinstance(labels, Sequence) and not isinstance(labels, str)
    each = list(labels) if isinstance(labels, Sequence) and not isinstance(labels, str) else [labels]
    known = all(isinstance(one, int | str) and not isinstance(one, bool) for one in each)
    if labels is not None and (
        not each or not known or (not several and isinstance(labels, int) and labels < 1)
    ):
        raise ValueError(
            f"labels must be how many of the last arguments are labels, 1 or more, or their names or positions "
            f'such as ["y1", "y2"] or [2, 3], got {labels!r}.'
        )


class Call:
    """A criterion's call.

    Attributes:
        labels: What it was given as labels: one, or a tuple of several.
        outputs: What it was given else: one, or a list of several.

    Raises:
        ValueError: If it cannot be told which arguments are labels, or they are not there.
    """

    def __init__(
        self,
        criterion: Callable[..., Any],
        which: Which,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        framework: Framework,
    ) -> None:
        self._criterion, self._args, self._kwargs = criterion, args, kwargs
        self._keys: list[int | str] = []
        if which is None:
            self._keys = [self._second(framework)]
        elif isinstance(which, int):
            if which >= len(args):
                raise ValueError(
                    f"labels={which} of the last arguments are labels, after an output at least, got {len(args)} "
                    "positional arguments: pass the labels by position, or name them, labels=[...]."
                )
            self._keys = list(range(len(args) - which, len(args)))
        else:
            self._keys = [self._found(one) for one in ([which] if isinstance(which, str) else which)]
        given = tuple(args[key] if isinstance(key, int) else kwargs[key] for key in self._keys)
        rest: list[Any] = [value for at, value in enumerate(args) if at not in self._keys]
        rest += [value for name, value in kwargs.items() if name not in self._keys]
        beside: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        others = [(key, value) for key, value in beside if key not in self._keys]
        self._untold = dict(others[1:]) if which is None else {}
        self._several = len(given) > 1 or not (which is None or isinstance(which, int | str))
        self.labels = given if self._several else given[0]
        self.outputs: Any = rest[0] if which is None else rest

    def check_told(self, size: int, framework: Framework, wants_gradient: Callable[[Any], bool]) -> None:
        """Raise if something beside the output and the label may be a label too.

        Args:
            size: Samples in the batch, which was mixed.
            framework: The tensors'.
            wants_gradient: Whether a tensor does, as outputs do.
        """

        def is_output(value: Any) -> bool:
            return any(map(wants_gradient, framework.tensors([value])))

        rows = {key: _rows(value) for key, value in self._untold.items()}
        outputs = {key for key, value in self._untold.items() if is_output(value)}
        may_be = [key for key in rows if rows[key] == size and key not in outputs]
        if may_be:
            named = ", ".join(repr(key) if isinstance(key, str) else f"argument {key}" for key in may_be)
            own = [] if is_output(self.labels) else self._keys
            alone = f"; if there is no other one, labels={own}" if own else ""
            raise ValueError(
                f"this criterion was called with more beside the label that has a row for each of the {size} samples "
                f"({named}), and it cannot be told what of it is to be mixed as the label is: say which arguments are "
                f"labels, by their names or positions from 0, as in mixer.loss(criterion, labels="
                f"{[*own, may_be[-1]] if own else may_be}){alone}."
            )

    def loss(self, labels: Any) -> Any:
        """The criterion of other labels."""
        args, kwargs = list(self._args), dict(self._kwargs)
        for key, value in zip(self._keys, labels if self._several else (labels,), strict=True):
            if isinstance(key, int):
                args[key] = value
            else:
                kwargs[key] = value
        return self._criterion(*args, **kwargs)

    def _second(self, framework: Framework) -> int | str:
        """The label's position in `criterion(output, target)`."""
        args, kwargs = self._args, self._kwargs
        if len(args) > 2 and framework.tensors(args[2:]):
            raise ValueError(
                f"this criterion was called with {len(args)} arguments, and it cannot be told which are labels: say "
                "mixer.loss(criterion, labels=1) if the last one is, labels=2 if the last two are, or name them, "
                'labels=["y1", "y2"].'
            )
        if len(args) >= 2:
            return 1
        names = self._names()
        name = next((one for one in (*names[1:2], "target", "label", "labels") if one in kwargs), None)
        if name is None or len(args) + len(kwargs) < 2:
            raise ValueError(
                f"mixer.loss calls criterion(output, target), got {len(args)} positional arguments and "
                f"{sorted(kwargs)}: pass both by position, or say which are labels, labels=[...]."
            )
        return name

    def _found(self, one: int | str) -> int | str:
        """An argument's place, by its name or position."""
        if isinstance(one, str) and one not in self._kwargs:
            names = self._names()
            one = names.index(one) if one in names else -1
        if isinstance(one, int) and not 0 <= one < len(self._args):
            raise ValueError(
                f"labels names an argument that this call of the criterion does not have: it has "
                f"{len(self._args)} positional ones and {sorted(self._kwargs)}; names are those of its signature, "
                "positions count from 0."
            )
        return one

    def _names(self) -> list[str]:
        """The names of the criterion's arguments, as far as they are known."""
        try:
            return list(inspect.signature(self._criterion).parameters)
        except (TypeError, ValueError):  # a builtin
            return []


def _rows(value: Any) -> int | None:
    """The length of an array, list or tuple; None of anything else."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    return len(value) if isinstance(value, list | tuple) else None
