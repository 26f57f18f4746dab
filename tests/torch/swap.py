"""The swap test: what a true mixing point is, without looking at any graph.

Give every sample its partner's feature at one layer. If the output is then the partner's output, exactly,
everything of a sample passed through that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tests.torch.models import BATCH, logits

PARTNERS = torch.tensor([1, 2, 3, 0])


@contextmanager
def changed(
    model: nn.Module, place: str, change: Callable[[Tensor], Tensor], batch_dim: int
) -> Iterator[None]:
    """Change each float tensor with a batch axis, at a layer's output or the model's input, by a plain hook."""

    def each(x: Any) -> Any:
        batched = isinstance(x, Tensor) and x.ndim > batch_dim and x.shape[batch_dim] == BATCH
        return change(x) if batched and x.is_floating_point() else x

    if place == "input":
        handle = model.register_forward_pre_hook(
            lambda _, args, kwargs: (tree_map(each, args), tree_map(each, kwargs)), with_kwargs=True
        )
    else:
        handle = model.get_submodule(place).register_forward_hook(lambda *call: tree_map(each, call[-1]))
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def passes_swap_test(model: nn.Module, inputs: dict[str, Any], place: str, batch_dim: int = 0) -> bool:
    """Whether swapping partners at the place swaps the whole output. The model must be in eval mode."""
    plain = logits(model(**inputs))
    with changed(model, place, lambda x: x.index_select(batch_dim, PARTNERS), batch_dim):
        swapped = logits(model(**inputs))
    expected = plain[PARTNERS]
    apart = (expected - plain).abs().max()
    # So the limit is 50 times float32's epsilon of the outputs, above the rounding of another batch order
    assert apart > 2e-2 * plain.abs().max(), "the samples are too alike for the test to mean anything"
    return bool((swapped - expected).abs().max() <= 3e-4 * apart)
