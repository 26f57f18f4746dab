"""Where Paddle runs a model for the audit: in training mode, without chance, and leaving no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import paddle
from paddle import Tensor, nn

from mixlayers._core.audit.attributes import kept_attributes, put_back
from mixlayers._core.audit.host_chance import host_chance
from mixlayers._core.audit.stage import After, Before, Hooks, Stage, auditing
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
        held = [p for p in model.parameters() if not p.stop_gradient and p.size and p._is_initialized()]
        self._noise = {id(p): _noise(p) for p in held if _is_tiny(p)}
        self._trains = model.training

    def entry(self) -> Any:
        return getattr(self.model.forward, "dygraph_function", self.model.forward)

    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, uniform: float
    ) -> Any:
        handles = [
            self.layers[name].register_forward_post_hook(lambda _, __, output, f=after: f(output))
            for name, after in hooks.after.items()
        ]
        handles += [
            self.layers[name].register_forward_pre_hook(partial(_before, before), with_kwargs=True)
            for name, before in hooks.before.items()
        ]
        handles += [
            self.layers[name].register_forward_post_hook(partial(_done, done))
            for name, done in hooks.done.items()
        ]
        try:
            with self.quiet(size, uniform), paddle.no_grad():
                return self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def quiet(self, size: int, uniform: float = 0.5) -> Iterator[None]:
        """Around one forward of so many samples."""
        neutral = Neutral(uniform)
        with (
            auditing(),
            dynamic(),
            host_chance(size, uniform) as chance,
            self._untouched(),
            paddle.amp.auto_cast(enable=False),
            neutral.without_chance(),
        ):
            yield
        self.chooses = self.chooses or neutral.chooses or chance.chooses

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Around a forward in training mode, on copies of what it may write: buffers and parameters not trained.

        Paddle keeps the running statistics of a norm among those. Parameters that are nearly zero, which hide a
        path, are noise for the time.
        """
        modes = [(layer, layer.training) for layer in self.layers.values()]
        attributes = [(layer.__dict__, kept_attributes(layer)) for layer in self.layers.values()]
        held = [
            (own, dict(own)) for each in self.layers.values() for own in (each._buffers, each._parameters)
        ]
        copies = dict(self._noise)
        try:
            for own, before in held:
                for name, x in before.items():
                    if isinstance(x, Tensor) and id(x) not in copies and x.stop_gradient:
                        copies[id(x)] = _copy(x)
                    if isinstance(x, Tensor) and id(x) in copies:
                        own[name] = copies[id(x)]
            if not self._trains:  # else each layer keeps its own: a frozen norm is in eval mode
                for layer, _ in modes:
                    layer.training = True
            yield
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
        return x.detach().clone()
    except RuntimeError:  # an empty one, as recurrent layers keep for cuDNN
        return x


def _is_tiny(p: Tensor) -> bool:
    some = p.detach().flatten()[:: p.size // 16 + 1].abs()
    return not bool((some > _TINY).any()) and not bool((p.detach().abs() > _TINY).any())


def _noise(p: Tensor) -> Tensor:
    values = np.random.default_rng(0).standard_normal(p.shape) * 0.1
    made = paddle.to_tensor(values.astype(np.float32), place=p.place).astype(p.dtype)
    made.stop_gradient = False
    return made


def _before(before: Before, _: nn.Layer, args: Any, kwargs: Any = None) -> Any:
    return before(args, {} if kwargs is None else kwargs)


def _done(done: Callable[[], None], *_: Any) -> None:
    done()
