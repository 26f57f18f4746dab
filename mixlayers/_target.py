"""The label side of a mixed step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixlayers._errors import MixingError
from mixlayers._plan import MixPlan


class MixedTarget:
    """Two targets and the partner's share: `(1 - s) * y + s * y[perm]`, for any loss or metric.

    Works on any framework's arrays. In a clean step `s` is 0.0 and `blend(f)` is `f(y)`.

    Attributes:
        plan: The step's plan; None for a step that was not mixed.
        loss_scale: Factor that `cross_entropy` and `mixer.loss` apply, and a loss of your own should
            (1.0 but for PatchUp's published loss).
    """

    def __init__(
        self,
        y: Any,
        partner: Any = None,
        s: Any = 0.0,
        plan: MixPlan | None = None,
        one_hot: Callable[[Any, int], Any] | None = None,
    ) -> None:
        self._y, self._one_hot = y, one_hot
        self.used = False
        self.settle(partner, s, plan)

    def settle(self, partner: Any, s: Any, plan: MixPlan | None) -> None:
        """Fill in what only the forward could tell (the share of a mask). For backends."""
        self._partner, self._s, self.plan = partner, s, plan
        self.loss_scale = 1.0 if plan is None else plan.loss_scale

    @property
    def mixed(self) -> bool:
        """Whether the step mixed anything."""
        return self.plan is not None and self.plan.place is not None

    @property
    def y(self) -> Any:
        """The original target, as given."""
        return self._y

    @property
    def partner(self) -> Any:
        """The partners' targets, `y[perm]`; `y` itself in a clean step."""
        self.used = True
        return self._partner if self.mixed else self._y

    @property
    def s(self) -> Any:
        """Share of the partner: a float, or one value per sample, (N,)."""
        return self._share()

    @property
    def lam(self) -> Any:
        """Share of the original sample, `1 - s`."""
        return 1.0 - self._share()

    @property
    def layer(self) -> str | None:
        """Where the step mixed: "input", a layer's name, or None."""
        return None if self.plan is None else self.plan.place

    def _share(self) -> Any:
        if self._s is None:
            raise MixingError(
                "the share of this target is not known yet, because the model has not run: "
                "call the model first, inside `with mixer(labels) as target:`."
            )
        return self._s

    def blend(self, f: Callable[[Any], Any]) -> Any:
        """`(1 - s) * f(y) + s * f(partner)`: a loss, a metric, anything that is a function of the target.

        Equal to the function of the mixed target for every f that is affine in it: cross-entropy, smoothed
        or not, and binary cross-entropy. Not for class-weighted cross-entropy or squared errors; there it
        is the blend of the losses, as published for Mixup.

        Args:
            f: Takes a target like `y`. Where lam is drawn per sample it must return one value per sample,
                (N, ...), for example by `reduction="none"`; take the mean afterwards.

        Raises:
            ValueError: If lam is per sample and f returns a scalar, or another number of values.
        """
        self.used = True
        s = self._share()
        if not self.mixed:
            return f(self._y)
        first, second = f(self._y), f(self._partner)
        if getattr(s, "ndim", 0):
            shape = tuple(getattr(first, "shape", ()))
            if shape[:1] != tuple(s.shape):
                raise ValueError(
                    f"lam is drawn per sample, so blend needs one value per sample, shape ({s.shape[0]}, ...), "
                    f'got shape {shape}: use reduction="none" and take the mean of the result, '
                    'or lam_per="batch".'
                )
            s = s.reshape((-1,) + (1,) * (len(shape) - 1))
        return (1.0 - s) * first + s * second

    def soft(self, num_classes: int, smoothing: float = 0.0) -> Any:
        """The mixed target as probabilities, (N, num_classes), rows summing to one.

        Args:
            num_classes: K, for targets that are class indices; soft targets must have K columns.
            smoothing: Label smoothing epsilon in [0, 1): `(1 - epsilon) * target + epsilon / K`.
        """
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}.")
        if self._one_hot is None:
            raise TypeError("this target has no one-hot form: use blend, or get the target from a backend.")
        one_hot = self._one_hot
        mixed = self.blend(lambda y: one_hot(y, num_classes))
        return mixed * (1.0 - smoothing) + smoothing / num_classes

    def __repr__(self) -> str:
        share = "unknown" if self._s is None else self._s if isinstance(self._s, float) else "per sample"
        return f"MixedTarget(layer={self.layer!r}, s={share}, y={type(self._y).__name__})"
