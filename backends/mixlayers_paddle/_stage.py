"""Paddle's stage for the audit: a model in training mode, without chance, left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import paddle
from paddle import Tensor, nn

from mixlayers._core.audit.attributes import kept_attributes, put_back
from mixlayers._core.audit.host_chance import host_chance
from mixlayers._core.audit.stage import After, Hooks, Stage, Weigh, auditing
from mixlayers._core.audit.verdicts import output_tensors
from mixlayers_paddle._framework import PADDLE
from mixlayers_paddle._hooks import joined, parts_of
from mixlayers_paddle._neutral import Neutral
from mixlayers_paddle._static import dynamic

_TINY: Final = 1e-3


class PaddleStage(Stage):
    """One model's."""

    framework = PADDLE

    def __init__(self, model: nn.Layer) -> None:
        self.model = model
        self.layers = dict(model.named_sublayers(include_self=True))
        self._trained = [
            p for p in model.parameters() if not p.stop_gradient and p.size and p._is_initialized()
        ]
        self._noise = {id(p): _noise(p) for p in self._trained if _is_tiny(p)}
        self._trains = model.training

    def entry(self) -> Any:
        return getattr(self.model.forward, "dygraph_function", self.model.forward)

    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, uniform: float
    ) -> Any:
        with hooks.on(self.layers, "register_forward_post_hook"), self.quiet(size, uniform), paddle.no_grad():
            return self.model(*args, **kwargs)

    def gradients(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, weigh: Weigh
    ) -> list[npt.NDArray[Any]]:
        with hooks.on(self.layers, "register_forward_post_hook"), self.quiet(size) as copies:
            with paddle.enable_grad():
                output = self.model(*args, **kwargs)
                wanting = [x for x in output_tensors(PADDLE, output) if not x.stop_gradient]
                weights = [
                    paddle.to_tensor(weigh(tuple(x.shape)), place=x.place, dtype=x.dtype) for x in wanting
                ]
            if wanting:
                paddle.autograd.backward(wanting, weights)
        found = [copies[id(p)].grad for p in self._trained]
        return [
            np.zeros(p.shape) if grad is None else self.array(grad)
            for p, grad in zip(self._trained, found, strict=True)
        ]

    @contextmanager
    def quiet(self, size: int, uniform: float = 0.5) -> Iterator[Mapping[int, Tensor]]:
        """Around one forward of so many samples; gives what the model works on, by its own tensors' ids."""
        neutral = Neutral(uniform)
        with (
            auditing(),
            dynamic(),
            host_chance(size, uniform) as chance,
            self._untouched() as copies,
            paddle.amp.auto_cast(enable=False),
            neutral.without_chance(),
        ):
            yield copies
        self.chooses = self.chooses or neutral.chooses or chance.chooses

    @contextmanager
    def _untouched(self) -> Iterator[Mapping[int, Tensor]]:
        """Around a forward in training mode, on copies of its buffers and parameters, which it may write to.

        A write cannot be seen: `set_value` counts no version. Parameters that are nearly zero, which hide a path, are
        noise for the time.
        """
        modes = [(layer, layer.training) for layer in self.layers.values()]
        attributes = [(layer.__dict__, kept_attributes(layer)) for layer in self.layers.values()]
        held = [
            (own, dict(own)) for each in self.layers.values() for own in (each._buffers, each._parameters)
        ]
        copies: dict[int, Tensor] = {}
        try:
            for own, before in held:
                for name, x in before.items():
                    if isinstance(x, Tensor) and x._is_initialized():
                        own[name] = copies.setdefault(id(x), _copy(self._noise.get(id(x), x)))
            for _, (_, containers) in attributes:
                for container, _ in containers:
                    if type(container) is list:  # recurrent layers keep their weights in one beside
                        container[:] = [copies.get(id(x), x) for x in container]
            if not self._trains:  # else each layer keeps its own: a frozen norm is in eval mode
                for layer, _ in modes:
                    layer.training = True
            yield copies
        finally:
            for own, before in held:
                own.clear()
                own.update(before)
            for now, kept in attributes:
                put_back(now, *kept)
            for layer, mode in modes:
                layer.training = mode

    def parts(self, name: str, output: Any, batch_dim: int) -> tuple[list[tuple[Any, int]], After]:
        layer = self.layers[name]
        return parts_of(layer, output, batch_dim), partial(joined, layer)

    def array(self, x: Tensor) -> npt.NDArray[Any]:
        x = x.detach()
        found: npt.NDArray[Any] = (x.astype("float64") if x.is_floating_point() else x).numpy()
        return found

    def take(self, x: Tensor, index: npt.NDArray[np.int64], axis: int) -> Tensor:
        return paddle.gather(x.detach(), paddle.to_tensor(index, place=x.place), axis)

    def several(self, x: Tensor, count: int, axis: int) -> Tensor:
        rows = paddle.moveaxis(x.detach(), axis, 0)
        size = rows.shape[0]
        more = [rows.reshape([size, -1]).roll(by, 1).reshape(rows.shape) for by in range(-(-count // size))]
        return paddle.moveaxis(paddle.concat(more)[:count], 0, axis)


def _copy(x: Tensor) -> Tensor:
    try:
        made = x.detach().clone()
    except RuntimeError:  # an empty one, as recurrent layers keep for cuDNN
        return x
    made.stop_gradient = x.stop_gradient
    return made


def _is_tiny(p: Tensor) -> bool:
    some = p.detach().flatten()[:: p.size // 16 + 1].abs()
    return not bool((some > _TINY).any()) and not bool((p.detach().abs() > _TINY).any())


def _noise(p: Tensor) -> Tensor:
    values = np.random.default_rng(0).standard_normal(p.shape) * 0.1
    made = paddle.to_tensor(values.astype(np.float32), place=p.place).astype(p.dtype)
    made.stop_gradient = False
    return made
