"""The interface of a framework: the few operations that only it can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mixlayers._core.framework.tree import leaves
from mixlayers._core.plan.exchanges import Permutation
from mixlayers._core.plan.lam import Lam
from mixlayers._core.plan.plan import Blend
from mixlayers._core.plan.replacements import Replace


class Framework(ABC):
    """One framework's tensors and modules. Stateless, so that what refers to it can be copied and pickled.

    Attributes:
        module: The class that the framework's layers and losses derive from.
        ignored: The number of class indices that do not count, by default; None: there is none.
    """

    module: ClassVar[type]
    ignored: ClassVar[int | None] = None

    @abstractmethod
    def is_tensor(self, x: object) -> bool:
        """Whether x is a tensor of the framework."""

    def tensors(self, trees: Iterable[Any]) -> list[Any]:
        """The tensors in containers, in order."""
        found: list[Any] = []
        for tree in trees:
            if self.is_tensor(tree):
                found.append(tree)
            elif tree is not None:
                found += filter(self.is_tensor, leaves(tree))
        return found

    def check_shaped(self, x: Any) -> None:  # noqa: B027  # not every framework has ragged ones
        """Raise if a tensor's samples have no one shape."""

    @abstractmethod
    def is_float(self, x: Any) -> bool:
        """Whether a tensor is floating-point or complex."""

    @abstractmethod
    def move_axis(self, x: Any, source: int, destination: int) -> Any:
        """A view of x with one axis moved."""

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one, element by element, of numbers. Only padding masks need it."""
        raise NotImplementedError

    @abstractmethod
    def concatenate(self, parts: Sequence[Any]) -> Any:
        """Tensors one after the other, along their first axis."""

    @abstractmethod
    def full(self, size: int, value: float, like: Any) -> Any:
        """A float32 vector (size,) filled with `value`, on the device of `like`."""

    @abstractmethod
    def to_numpy(self, x: Any) -> npt.NDArray[Any]:
        """A tensor's values on the host."""

    @abstractmethod
    def hot(self, y: Any, num_classes: int) -> Any:
        """Class indices as float32 (..., K)."""

    @abstractmethod
    def is_bool(self, x: Any) -> bool:
        """Whether a tensor's elements are true or false."""

    @abstractmethod
    def to_float(self, x: Any) -> Any:
        """A tensor as float32."""

    def top(self, scores: Any, k: int) -> Any:
        """The classes of the k highest scores, (N, k, ...), of scores (N, K, ...). Only metrics need it."""
        raise NotImplementedError

    def label(self, y: Any) -> Any:
        """Labels as an array that compares, without gradients."""
        return y

    def zeroed(self, y: Any, kept: Any) -> Any:
        """Whole numbers, 0 where they are not kept."""
        return y * kept

    def checks(self, y: Any) -> bool:
        """Whether a tensor's values may be read to check them: where they are at hand, and nothing is traced."""
        return True

    @abstractmethod
    def partners(self, perm: Permutation) -> Any:
        """A step's partners, moved to each device once; `.of(y)` is `y[perm]`."""

    @abstractmethod
    def blend(self, x: Any, how: Blend, partners: Any) -> Any:
        """Carry out a blend on one feature, batch axis first, out of place."""

    @abstractmethod
    def replace(self, x: Any, how: Replace) -> Any:
        """Replace parts of one feature, batch axis first, out of place; the rest is scaled."""

    # what methods beyond blends and masks are made of, in mixlayers._core.batch.carry; gradients go through all of it

    def precise(self, x: Any) -> Any:
        """float32 of half precision (and of NumPy's bytes); else x itself."""
        raise NotImplementedError

    def like(self, x: Any, other: Any) -> Any:
        """x in the dtype of the other one; as bytes rounded, and cut to 0..255."""
        raise NotImplementedError

    def moments(self, x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
        """Mean and unbiased variance over some axes, which stay with the length 1."""
        raise NotImplementedError

    def detached(self, x: Any) -> Any:
        """x as a constant in the backward pass."""
        raise NotImplementedError

    def exp(self, x: Any) -> Any:
        """The exponential of each element."""
        raise NotImplementedError

    def log_sum_exp(self, x: Any, axis: int) -> Any:
        """The logarithm of the sum of exponentials over an axis, which stays with the length 1."""
        raise NotImplementedError

    def noise(self, x: Any, law: Literal["uniform", "normal"], seed: int) -> Any:
        """Noise of x's shape and dtype on its device: uniform in (-1, 1), or standard normal.

        Equal seeds, from 0 to 2**31 - 1, give equal noise; no other generator is read or moved.
        """
        raise NotImplementedError

    def points(self, x: Any, index: npt.NDArray[np.int64]) -> Any:
        """`y[n, c, p] = x[n, c, index[n, p]]`, of x (N, C, P) and whole numbers (N, Q)."""
        raise NotImplementedError

    def where(self, mask: npt.NDArray[np.bool_], x: Any, y: Any) -> Any:
        """x where the mask, broadcastable, is True, else y."""
        raise NotImplementedError

    def without_autocast(self, x: Any) -> AbstractContextManager[Any]:
        """Around products of x that are to be made in its own dtype, whatever precision the user's step has."""
        return nullcontext()

    def either(self, which: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        """`first()` if which is true, else `second()`; a compiled function may know it only when it runs."""
        return first() if which else second()

    def repeated(self, step: Callable[[Any], Any], start: Any, times: int) -> Any:
        """What a step makes of a start, again and again; times: at least 1."""
        for _ in range(times):
            start = step(start)
        return start

    @abstractmethod
    def share(self, s: Lam, like: Any, partners: Any = None) -> Any:
        """A share as a MixedTarget takes it: a float, or float32 (N,) on the device of `like`.

        Partners may have moved it there already.
        """

    def scalar(self, value: Any) -> Any:
        """A metric's value as the framework's own metrics return it."""
        return value

    @abstractmethod
    def rank(self) -> int:
        """This process's number among the run's."""

    def worker(self) -> tuple[int, ...] | None:
        """A number of this loader's worker and epoch that no other has; None in the main process."""
        return None

    def check_forward(self, model: Any) -> None:  # noqa: B027  # not every framework has such calls
        """Raise if this call of the model cannot keep to a plan."""

    def check_mixing(self) -> None:  # noqa: B027  # the same
        """Raise if mixing now would not be done again in the next step."""
