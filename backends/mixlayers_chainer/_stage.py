"""Chainer's stage for the audit: a model in training mode, without chance, left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import chainer
import numpy as np
import numpy.typing as npt
from chainer import Link, Parameter, Variable
from chainer.functions.noise.dropout import Dropout

from mixlayers._core.audit.attributes import kept_attributes, put_back
from mixlayers._core.audit.host_chance import host_chance
from mixlayers._core.audit.stage import AUDITING, After, Hooks, Stage, Weigh, auditing
from mixlayers._core.audit.verdicts import output_tensors
from mixlayers_chainer._blend import Array, device_of
from mixlayers_chainer._framework import CHAINER
from mixlayers_chainer._hooks import Hook, hook, mixable, named_layers, unhook

_TINY: Final = 1e-3


class ChainerStage(Stage):
    """One model's."""

    framework = CHAINER

    def __init__(self, model: Link) -> None:
        self.model = model
        self.links: dict[str, Link] = {"": model}
        for name, link in named_layers(model):
            if not any(link is other for other in self.links.values()):
                self.links[name] = link

    def entry(self) -> Any:
        return getattr(self.model, "forward", type(self.model).__call__)

    def settle(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Let links without a size yet draw their parameters, as in any first forward: those draws count."""
        if all(p.is_initialized for p in self.model.params()):
            return
        quiet = chainer.using_config("train", False), chainer.no_backprop_mode()
        with auditing(), self._memories_kept(), quiet[0], quiet[1]:
            self.model(*args, **kwargs)

    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, uniform: float
    ) -> Any:
        with self._hooked(hooks), self.quiet(size, uniform), chainer.no_backprop_mode():
            return self.model(*args, **kwargs)

    def gradients(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: Hooks, size: int, weigh: Weigh
    ) -> list[npt.NDArray[Any]]:
        parameters = [p for p in self.model.params() if p.is_initialized]
        before = [p.grad_var for p in parameters]
        try:
            self.model.cleargrads()
            with self._hooked(hooks), self.quiet(size), chainer.force_backprop_mode():
                outputs = [
                    x for x in output_tensors(CHAINER, self.model(*args, **kwargs)) if CHAINER.is_float(x)
                ]
                for x in outputs:
                    x.grad = device_of(x.array).send(weigh(x.shape).astype(x.dtype))
                chainer.backward(outputs)
            return [np.zeros(p.shape) if p.grad is None else self.array(p.grad) for p in parameters]
        finally:
            for p, gradient in zip(parameters, before, strict=True):
                p.grad_var = gradient

    @contextmanager
    def _hooked(self, hooks: Hooks) -> Iterator[None]:
        with ExitStack() as stack:  # also where a later name is no link's
            for name, after in hooks.after.items():
                link, added = self.links[name], _After(after)
                hook(link, added)
                stack.callback(unhook, link, added)
            yield

    @contextmanager
    def quiet(self, size: int, uniform: float = 0.5) -> Iterator[None]:
        """Around one forward of so many samples, in training mode."""
        with (
            auditing(),
            host_chance(size, uniform) as chance,
            _without_dropout(),
            self._memories_kept(),
            _lively(self.model),
            chainer.using_config("train", True),
        ):
            yield
        self.chooses = self.chooses or chance.chooses

    @contextmanager
    def _memories_kept(self) -> Iterator[None]:
        """Copies stand in for what links remember (running statistics, a recurrent state)."""
        kept = [(vars(link), kept_attributes(link)) for link in self.model.links()]
        settled = {id(link) for link in self.model.links() if all(p.is_initialized for p in link.params())}
        try:
            for now, (own, _) in kept:
                for name, value in own.items():
                    if isinstance(value, chainer.get_array_types()):
                        with chainer.using_device(device_of(value)):
                            now[name] = value.copy()
            yield
        finally:
            for link, (now, (own, contents)) in zip(self.model.links(), kept, strict=True):
                if id(link) in settled:
                    put_back(now, own, contents)
                else:  # it got its size now, and statistics with it
                    now.update({name: value for name, value in own.items() if name not in link._persistent})

    def parts(self, name: str, output: Any, batch_dim: int) -> tuple[list[tuple[Any, int]], After]:
        link = self.links[name]
        own = mixable(link, output)
        return [(own, batch_dim)], lambda parts: parts[0] if own is output else output

    def array(self, x: Variable | Array) -> npt.NDArray[Any]:
        return np.asarray(CHAINER.to_numpy(x))

    def take(self, x: Variable | Array, index: npt.NDArray[np.int64], axis: int) -> Variable | Array:
        array = chainer.as_array(x)
        with chainer.using_device(device_of(array)):
            at = device_of(array).send(index)
            taken = array[(slice(None),) * axis + (at,)]
        return Variable(taken) if isinstance(x, Variable) else taken

    def several(self, x: Variable | Array, count: int, axis: int) -> Variable | Array:
        array = chainer.as_array(x)
        rows = np.moveaxis(self.array(array), axis, 0)
        flat = rows.reshape(len(rows), -1)
        more = [np.roll(flat, by, 1).reshape(rows.shape) for by in range(-(-count // len(rows)))]
        made = device_of(array).send(np.ascontiguousarray(np.moveaxis(np.concatenate(more)[:count], 0, axis)))
        return Variable(made) if isinstance(x, Variable) else made


class _After(Hook):
    """Changes a link's output."""

    def __init__(self, after: After) -> None:
        self._after = after

    def after(self, link: Link, output: Any) -> Any:
        return self._after(output) if AUDITING.get() else output  # another thread's call is its own


@contextmanager
def _without_dropout() -> Iterator[None]:
    """Dropout keeps everything."""
    original = Dropout.__init__

    def keeps_all(self: Dropout, dropout_ratio: float, *args: Any, **kwargs: Any) -> None:
        original(self, 0.0, *args, **kwargs)

    Dropout.__init__ = keeps_all
    try:
        yield
    finally:
        Dropout.__init__ = original


def _is_tiny(p: npt.NDArray[Any]) -> bool:
    some = abs(p.ravel()[:: p.size // 16 + 1])
    return not (some > _TINY).any() and not (abs(p) > _TINY).any()


@contextmanager
def _lively(model: Link) -> Iterator[None]:
    """Parameters that are nearly zero, which hide a path, are noise for the time."""
    replaced: list[tuple[Parameter, Any]] = []
    generator = np.random.default_rng(0)
    try:
        for p in model.params():
            if p.is_initialized and p.size and _is_tiny(CHAINER.to_numpy(p)):
                noise = (generator.standard_normal(p.shape) * 0.1).astype(p.dtype)
                replaced.append((p, p.array))
                p.array = device_of(p.array).send(noise)
        yield
    finally:
        for p, array in replaced:
            p.array = array
