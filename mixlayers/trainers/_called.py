"""A module's own forward as a module to mix."""

from __future__ import annotations

from torch import nn


class Called(nn.Module):
    """The result of `self(x)` inside a module's training_step.

    Hooks on the module itself would also see a trainer's calls of it: Lightning's distributed strategies run the
    whole training step through the module's `__call__`.

    Args:
        module: The module. It is not registered as a child; its children are.
    """

    _of: tuple[nn.Module]  # in a tuple, lest it be registered

    def __init__(self, module: nn.Module) -> None:
        vars(self)["_of"] = (module,)
        training = module.training
        super().__init__()
        self.training = training
        vars(self).update(forward=module.forward, _modules=module._modules)

    @property
    def training(self) -> bool:
        """The module's mode."""
        return self._of[0].training

    @training.setter
    def training(self, mode: bool) -> None:
        self._of[0].training = mode
