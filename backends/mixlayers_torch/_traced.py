"""Mixing inside a graph of torch.compile: what to mix is decided outside it, the blend is traced.

A graph holds one operation that asks the mixer for the step's permutation, shares and mask, and PyTorch's own
operations on them, which its compiler fuses with their neighbours. A layer that this graph never mixes costs nothing:
each place has a graph of its own or, where they are many, each group of places.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from mixlayers._core.errors import MixingError
from mixlayers._core.model.mixer import BaseMixer
from mixlayers._core.plan.plan import INPUT, Blend, MixPlan

STALE = (
    "; if torch.compile also runs a model of the same classes that is not wrapped, whose graphs it takes for this "
    "one's, set torch._dynamo.config.skip_nnmodule_hook_guards = False before compiling; under PyTorch 2.9 and Python "
    "3.13, which does not see there that another layer is to be mixed, set "
    "torch._dynamo.config.use_recursive_dict_tags_for_guards = False"
)

_mixers: WeakValueDictionary[str, TracedMixer] = WeakValueDictionary()


class TracedMixer(BaseMixer[nn.Module]):
    """A mixer that graphs ask.

    Attributes:
        _traced: What the running forward does, for graphs of torch.compile to look at.
    """

    _traced: Traced | None = None


@dataclass(frozen=True)
class Traced:
    """The key of a compiled graph.

    Attributes:
        mixer: By which name the graph asks for the mixer.
        group: The layers among which it mixes.
        masked: Whether under a mask.
        eager: Whether more than a blend is to be done (DropBlock, MixStyle): that is done outside of the graph.
    """

    mixer: str
    group: tuple[str, ...]
    masked: bool
    eager: bool = False

    @classmethod
    def of(cls, mixer: TracedMixer, plan: MixPlan | None) -> Traced | None:
        """The graph for a plan; None: the one in which nothing is mixed."""
        if plan is None or set(plan.places) <= {INPUT}:
            return None
        key = f"mixer-{id(mixer)}"
        _mixers[key] = mixer
        hidden = [place for place in mixer.places or () if place != INPUT]
        if plan.number:  # at several places, now these, now those
            return cls(key, tuple(hidden), plan.recipe is not None, not plan.blends)
        size = -(-len(hidden) // _most_groups())
        first = hidden.index(plan.places[0]) // size * size
        return cls(key, tuple(hidden[first : first + size]), plan.recipe is not None, not plan.blends)


def forget_graphs(model: nn.Module) -> None:
    """Drop what was compiled of a model's classes before it was wrapped: those graphs do not look at hooks."""
    if "torch._dynamo" in sys.modules:
        for code in {getattr(type(module).forward, "__code__", None) for module in model.modules()} - {None}:
            torch._dynamo.eval_frame.remove_from_cache(code)


def _most_groups() -> int:
    """The largest number of graphs that mix, so that the compiler's limit is not reached.

    Each comes twice, for the usual and for any batch size; and there are those that mix nothing.
    """
    from torch._dynamo import config  # takes a second: not before a model was compiled

    return max(1, (config.recompile_limit - 4) // 2)


# a CUDA graph would replay one step's answer
@torch.library.custom_op("mixlayers::decide", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def decide(feature: Tensor, mixer: str, place: str, masked: bool) -> list[Tensor]:
    """The running step's operation on a feature.

    Args:
        feature: Batch axis first; only its shape, dtype and device are looked at.
        mixer: Its name in `Traced`.
        place: The layer.
        masked: Whether the plan has a mask.

    Returns:
        perm and its inverse, int64 (N,); the share of the original sample, (N,), float32 at least; and bool, where
        to mix: (1, ...) in the feature's shape, or, without a mask, (1, ..., 1).
    """
    own = _mixers[mixer]
    own._framework.check_mixing()
    mixed, call, segments, plan = own._current_plan_at(place)
    if mixed is None or plan is None:  # another place of the group is mixed
        perm = torch.arange(len(feature), device=feature.device)
        return [
            perm,
            perm.clone(),
            feature.new_zeros(len(feature), dtype=_precise(feature)),
            _nowhere(feature, masked),
        ]
    if (plan.recipe is not None) is not masked:
        raise MixingError(
            f"the graph that was compiled for {place!r} is of another method: compile the model again."
        )
    how = plan.blend(feature.shape, own.channel_dim)
    if not isinstance(how, Blend):
        raise MixingError(f"{plan.method} is not for graphs: it is done outside of them.")
    if call is not None:
        call.mark_mixed(place, [(how.s, tuple(feature.shape))])
    checkpoints = [segment for segment in segments if not _compiled(segment.node)]
    if call is None or call.again is not None:
        mixed.replays += 1
    elif checkpoints:
        own._follow(call, checkpoints)
    precise = np.float64 if _precise(feature) is torch.float64 else np.float32
    keep = np.broadcast_to(np.asarray(how.lam, precise), (plan.batch_size,))
    where = np.ones((1,) * feature.ndim, dtype=bool)
    if how.mask is not None:
        where = np.broadcast_to(how.mask, (1, *feature.shape[1:]))
    shares = [how.s] if isinstance(how.s, np.ndarray) else []
    perm, inverted, *_, keep_there, where_there = mixed.partners_of(own._framework).beside(
        feature.device, shares, once=[keep, where]
    )
    # fresh ones: a graph may write on what it is given
    return [each.clone() for each in (perm, inverted, keep_there, where_there)]


def _compiled(node: Any) -> bool:
    """Whether an autograd function is a graph of torch.compile, which differentiates the mix by itself."""
    return "CompiledFunction" in type(node).__name__


class Retrace:
    """On a mixed output: a backward pass comes to it, and layers that run again may ask for its graph.

    If they run again for another forward after all, the operation above mixes as that one did, or the checkpoint
    notices that it was not the same.
    """

    def __init__(self, mixer: TracedMixer, plan: MixPlan | None) -> None:
        self.mixer, self.plan = mixer, plan

    @_disable_dynamo
    def __call__(self, gradient: Tensor) -> None:
        self.mixer._traced = Traced.of(self.mixer, self.plan)


@decide.register_fake
def _(feature: Tensor, mixer: str, place: str, masked: bool) -> list[Tensor]:
    perm = feature.new_empty(feature.shape[0], dtype=torch.int64)
    keep = feature.new_empty(feature.shape[0], dtype=_precise(feature))
    return [perm, torch.empty_like(perm), keep, _nowhere(feature, masked)]


def _precise(feature: Tensor) -> torch.dtype:
    """For shares: bfloat16 would round them to two digits."""
    return torch.float64 if feature.dtype is torch.float64 else torch.float32


def _nowhere(feature: Tensor, masked: bool) -> Tensor:
    shape = (1, *feature.shape[1:]) if masked else (1,) * feature.ndim
    return feature.new_zeros(shape, dtype=torch.bool)


def mix_traced(x: Tensor, place: str, how: Traced, batch_dim: int) -> Tensor:
    """Mix a feature inside a graph, if its place is the step's."""
    feature = x.movedim(batch_dim, 0) if batch_dim else x
    perm, inverted, keep, where = decide(feature.detach(), how.mixer, place, how.masked)
    always = not how.masked and len(how.group) == 1
    mixed: Tensor = _TracedBlend.apply(feature, perm, inverted, keep, None if always else where)
    return mixed.movedim(0, batch_dim) if batch_dim else mixed


class _TracedBlend(torch.autograd.Function):
    """As `_blend` has it, in operations that a compiler fuses."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, perm: Tensor, inverted: Tensor, keep: Tensor, where: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(inverted, keep, where)
        return _weigh(x, perm, keep, 1 - keep, where)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        inverted, keep, where = ctx.saved_tensors
        give = (1 - keep).index_select(0, inverted)
        return _weigh(gradients[0], inverted, keep, give, where), None, None, None, None


def _weigh(x: Tensor, perm: Tensor, keep: Tensor, give: Tensor, where: Tensor | None) -> Tensor:
    shape = (-1,) + (1,) * (x.ndim - 1)
    mixed = (x * keep.view(shape) + x.index_select(0, perm) * give.view(shape)).to(x.dtype)
    return mixed if where is None else torch.where(where, mixed, x)
