"""Functional losses, mixed where they are called."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mixlayers._tree import leaves
from mixlayers.torch import Mixer

LABEL_LOSSES: Final = (
    F.cross_entropy,
    F.nll_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)


class LabelLosses(TorchFunctionMode):
    """Between the net's forward and the end of a training step, its losses are blended with the forward's plan.

    Known are the losses whose second argument is a label: `F.cross_entropy`, `F.nll_loss`,
    `F.binary_cross_entropy` and `F.binary_cross_entropy_with_logits`, also where a module calls them. A loss of
    something that was not computed from the net's output is left alone, and so is every other function: where
    no loss used the labels of a mixed forward, the mixer raises in backward.

    Args:
        net: The module that is mixed.
        mixer: Its mixer.
    """

    def __init__(self, net: nn.Module, mixer: Mixer) -> None:
        super().__init__()
        self._mixed: dict[Callable[..., Any], Any] = {loss: mixer.loss(loss) for loss in LABEL_LOSSES}
        self._open: ExitStack | None = None
        self._ends: set[Any] = set()
        self.handle = net.register_forward_hook(self._after)

    def run(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a training step."""
        try:
            with ExitStack() as self._open:
                return step(*args, **kwargs)
        finally:
            self._open = None
            self._ends = set()

    def _after(self, net: nn.Module, args: Any, output: Any) -> None:
        if self._open is None:
            return
        if not self._ends:
            self._open.enter_context(self)
        self._ends = {x.grad_fn for x in leaves(output) if isinstance(x, Tensor) and x.requires_grad}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._mixed:
            return func(*args, **kwargs)
        named = dict(zip(("input", "target"), args, strict=False)) | kwargs
        output, target = named.pop("input"), named.pop("target")
        loss = func if target.requires_grad or not self._of_net(output) else self._mixed[func]
        return loss(output, target, *args[2:], **{name: kwargs[name] for name in named})

    def _of_net(self, output: Tensor) -> bool:
        """Whether a tensor was computed from the last forward's output: near it in the autograd graph, mostly."""
        nodes = deque([output.grad_fn] if output.requires_grad else [])
        seen = set(nodes)
        while nodes:
            node = nodes.popleft()
            if node in self._ends:
                return True
            following = {after for after, _ in getattr(node, "next_functions", ())} - seen - {None}
            seen |= following
            nodes.extend(following)
        return False
