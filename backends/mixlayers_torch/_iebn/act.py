"""IEBN and RBN in the place of timm's BatchNormAct2d, a BatchNorm that an activation follows; timm is not imported."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixlayers_torch._iebn.layer import IEBN2d, PerInstance
from mixlayers_torch._iebn.rbn import RBN2d


def is_batchnorm_act(kind: type[Any]) -> bool:
    """Whether a class is timm's, whose forward is known: a subclass may do more."""
    return kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


class Act2d(PerInstance):
    """A norm, then the `drop` and `act` of the layer whose place it takes."""

    drop: Any
    act: Any

    def forward(self, input: Tensor) -> Tensor:
        normalised: Tensor = self.act(self.drop(super().forward(input)))
        return normalised

    @classmethod
    def from_batchnorm(cls, norm: Any) -> Any:
        """As `IEBN2d.from_batchnorm`; remembers the class, for the way back."""
        new = super().from_batchnorm(norm)
        new.host = type(norm)
        return new


class IEBNAct2d(Act2d, IEBN2d):
    """IEBN for inputs (N, C, H, W), then `drop` and `act`: `convert_iebn`'s."""


class RBNAct2d(Act2d, RBN2d):
    """RBN for inputs (N, C, H, W), then `drop` and `act`: `convert_rbn`'s."""
