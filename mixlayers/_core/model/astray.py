"""Outputs beside the logits that a mixed place does not reach: a loss of theirs would have mixed labels alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mixlayers._core.audit.verdicts import beside_output
from mixlayers._core.errors import refuse
from mixlayers._core.framework.framework import Framework
from mixlayers._core.framework.tree import tree_map
from mixlayers._core.model.autograd import Autograd, Backward
from mixlayers._core.model.passes import Pass


class Astray:
    """On such an output: its gradient must not arrive.

    Args:
        name: The output's.
        mixed: The forward that returned it.
    """

    def __init__(self, name: str, mixed: Pass) -> None:
        self.name, self.mixed = name, mixed

    def gradient_arrives(self, autograd: Autograd) -> None:
        """A gradient of the output arrived.

        Raises:
            MixingError: If it trains.
        """
        plan = self.mixed.plan
        if plan is None or self.mixed.purpose(autograd) is Backward.OTHERS:
            return
        refuse(
            f"the output {self.name!r} gets a gradient, but not all of a sample reaches it through {plan.place!r}, "
            "where this step was mixed: its loss has mixed labels, and features that are not",
            "choose an earlier layer; or leave that output out of the loss",
        )


def guarded(
    framework: Framework, autograd: Autograd, output: Any, mixed: Pass, names: Collection[str]
) -> Any:
    """The output, with what is astray in it watched: as tensors of their own, so that no other use counts."""
    found = {id(x): name for name, x in beside_output(framework, output).items() if name in names}

    def watched(x: Any) -> Any:
        name = found.get(id(x))
        if name is None or not autograd.wants_gradient(x):
            return x
        own = framework.move_axis(x, 0, 0)
        autograd.watch(own, Astray(name, mixed))
        return own

    return tree_map(watched, output) if found else output
