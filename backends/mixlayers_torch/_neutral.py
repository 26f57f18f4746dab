"""Forwards without chance: every random number is the expected one, the same for all samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Generator, Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from mixlayers._core.framework.tree import leaves

_RANDOM: Final = torch.Tag.nondeterministic_seeded


class Neutral(TorchDispatchMode):
    """Dropout is the identity, a uniform number the middle one, a normal one the mean; permutations keep the order.

    Random operations are caught below autograd, wherever they are called, so that modules stay in training mode.

    Args:
        uniform: In [0, 1): what uniform numbers are.
        before_writing: Called with each tensor that an operation is about to write to.

    Attributes:
        chooses: Whether a single uniform number was drawn, which may decide whether layers run.
        groups: Of processes that took part in the forward together, each once, in their order.
    """

    supports_higher_order_operators = True

    def __init__(self, uniform: float, before_writing: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.uniform, self.before_writing = uniform, before_writing
        self.chooses, self.groups = False, list[Any]()
        self._generators: dict[Generator, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return func(*args, **kwargs)
        if func.namespace in ("c10d", "_c10d_functional"):
            self._note_group(_named(func, args, kwargs))
        if func._schema.is_mutable:
            self._announce(func, args, kwargs)
        if _RANDOM not in func.tags:
            return func(*args, **kwargs)
        given = _named(func, args, kwargs)
        generator = given.get("generator")
        if isinstance(generator, Generator) and generator not in self._generators:
            self._generators[generator] = generator.get_state()
        return self._expected(func, given)

    @contextmanager
    def without_chance(self) -> Iterator[Neutral]:
        """The mode itself; generators of the model's own are put back afterwards."""
        try:
            with self:
                yield self
        finally:
            for generator, state in self._generators.items():
                generator.set_state(state)

    def _note_group(self, given: Mapping[str, Any]) -> None:
        group, name = given.get("process_group"), given.get("group_name")
        if group is not None:
            group = torch.distributed.ProcessGroup.unbox(group)
        elif name is not None:
            group = torch._C._distributed_c10d._resolve_process_group(name)
        if group is not None and group not in self.groups:
            self.groups.append(group)

    def _announce(self, func: OpOverload, args: Any, kwargs: Any) -> None:
        for at, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[at] if at < len(args) else kwargs.get(argument.name)
                for x in leaves(written):
                    if isinstance(x, Tensor):
                        self.before_writing(x)

    def _expected(self, func: OpOverload, given: dict[str, Any]) -> Any:
        name = func._schema.name.partition("::")[2]
        if name == "native_dropout":
            return given["input"].clone(), torch.ones_like(given["input"], dtype=torch.bool)
        if name == "multinomial":
            return _most_probable(given["self"], given["num_samples"])
        for fused in ("dropout_p", "dropout"):
            if isinstance(given.get(fused), float):
                given[fused] = 0.0
                return func(**_by_keyword(func, given))
        if name.startswith("rrelu"):
            given["training"] = False
            return func(**_by_keyword(func, given))
        drawn = func(**_by_keyword(func, given))  # for its shape; all generators are put back
        if not isinstance(drawn, Tensor) or not drawn.numel():
            return drawn
        self.chooses = self.chooses or (name in ("rand", "uniform_") and drawn.numel() == 1)
        value = self._value(name, given, drawn)
        return drawn.copy_(value) if isinstance(value, Tensor) else drawn.fill_(value)

    def _value(self, name: str, given: Mapping[str, Any], drawn: Tensor) -> Any:
        """The fixed value in place of the numbers that were drawn."""
        if name == "randperm":
            return torch.arange(drawn.numel(), device=drawn.device)
        if name in ("bernoulli", "bernoulli_"):
            p = given["self"] if given.get("p") is None else given["p"]
            if drawn.is_floating_point():
                return p
            return p >= 0.5
        if name in ("rand", "rand_like"):
            return self.uniform
        if name == "uniform_":
            low, high = given.get("from", 0.0), given.get("to", 1.0)
            return low + self.uniform * (high - low)
        if name in ("randn", "randn_like"):
            return 0.0
        if name in ("normal", "normal_"):
            return given.get("mean", 0.0)
        if name == "exponential_":
            return 1.0 / given.get("lambd", 1.0)
        return drawn.flatten()[0].clone()  # of any other law: one number for all


def _named(func: OpOverload, args: Any, kwargs: Any) -> dict[str, Any]:
    arguments = func._schema.arguments
    named = {a.name: a.default_value for a in arguments if a.has_default_value()}
    named.update(zip((a.name for a in arguments), args, strict=False))
    return {**named, **kwargs}


def _by_keyword(func: OpOverload, given: Mapping[str, Any]) -> dict[str, Any]:
    return {a.name: given[a.name] for a in func._schema.arguments if a.name in given}


def _most_probable(p: Tensor, count: int) -> Tensor:
    """Of each row, without repetition as far as there are so many."""
    if count <= p.shape[-1]:
        return p.topk(count, -1).indices
    return p.argmax(-1, keepdim=True).expand(*p.shape[:-1], count).contiguous()
