"""Forwards without chance: every random number is the expected one, the same for all samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import paddle
from paddle import Tensor, _C_ops


class Neutral:
    """Dropout is the identity, a uniform number the middle one, a normal one the mean; permutations keep the order.

    Paddle's functions look their operations up in one module, where these stand in for the time, in this thread.

    Args:
        uniform: In [0, 1): what uniform numbers are.

    Attributes:
        chooses: Whether a single uniform number was drawn, which may decide whether layers run.
    """

    def __init__(self, uniform: float) -> None:
        self.uniform, self.chooses = uniform, False

    @contextmanager
    def without_chance(self) -> Iterator[None]:
        """Around one forward; Paddle's generators are put back afterwards."""
        state, thread = paddle.get_rng_state(), get_ident()
        made: dict[str, Callable[..., Any]] = {
            "dropout": lambda draw, x, *_, **__: x.clone(),
            "dropout_": lambda draw, x, *_, **__: x,
            "fused_dropout_add": lambda draw, x, y, *_, **__: x + y,
            "uniform": self._uniform,
            "uniform_inplace_": self._uniform_inplace,
            "gaussian": self._gaussian,
            "gaussian_inplace_": self._gaussian_inplace,
            "bernoulli": lambda draw, p, *_, **__: (p >= 0.5).astype(p.dtype),
            "randperm": lambda draw, *args, **kwargs: draw(*args, **kwargs).sort(),
            "randint": self._alike,
            "poisson": lambda draw, x, *_, **__: x.clone(),
        }
        replaced = {name: getattr(_C_ops, name) for name in made if hasattr(_C_ops, name)}
        try:
            for name, draw in replaced.items():
                setattr(_C_ops, name, _in_thread(thread, draw, made[name]))
            yield
        finally:
            for name, draw in replaced.items():
                setattr(_C_ops, name, draw)
            paddle.set_rng_state(state)

    def _uniform(
        self, draw: Any, shape: Any, dtype: Any, low: Any, high: Any, *rest: Any, **named: Any
    ) -> Tensor:
        drawn = draw(shape, dtype, low, high, *rest, **named)
        self.chooses = self.chooses or drawn.size == 1
        return paddle.full_like(drawn, low + self.uniform * (high - low))

    def _uniform_inplace(
        self, draw: Any, x: Tensor, low: float, high: float, *rest: Any, **named: Any
    ) -> Tensor:
        drawn = draw(x, low, high, *rest, **named)
        return drawn.fill_(low + self.uniform * (high - low))

    def _gaussian(self, draw: Any, shape: Any, mean: float, *rest: Any, **named: Any) -> Tensor:
        return paddle.full_like(draw(shape, mean, *rest, **named), mean)

    def _gaussian_inplace(self, draw: Any, x: Tensor, mean: float, *rest: Any, **named: Any) -> Tensor:
        return draw(x, mean, *rest, **named).fill_(mean)

    def _alike(self, draw: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Of any other law: one number for all."""
        drawn = draw(*args, **kwargs)
        return paddle.full_like(drawn, int(drawn.flatten()[0])) if drawn.size else drawn


def _in_thread(thread: int, draw: Any, made: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: (
        made(draw, *args, **kwargs) if get_ident() == thread else draw(*args, **kwargs)
    )
