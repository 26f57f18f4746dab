"""The label side of a mixed step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mixlayers._core.errors import MixingError
from mixlayers._core.framework.tree import tree_zip
from mixlayers._core.labels.labels import Labels
from mixlayers._core.labels.pointed import pointed
from mixlayers._core.plan.plan import MixPlan, Shares

if TYPE_CHECKING:
    from mixlayers._core.framework.framework import Framework


WAY_OUT = (
    "it is two targets and a share, and no tensor. Pass it to mixlayers' cross_entropy, binary_cross_entropy or "
    "accuracy; take any function of a plain target by target.blend(lambda y: f(output, y)); target.soft(num_classes) "
    "are probabilities, and target.y is the original target."
)
"""What else to do with a mixed target."""


class MixedTarget:
    """Two targets and the partner's share: `(1 - s) * y + s * y[perm]`, for any loss or metric.

    Works on any framework's arrays. In a clean step `s` is 0.0 and `blend(f)` is `f(y)`.

    In PyTorch the usual losses take it too: `F.cross_entropy(output, target)`, `nn.MSELoss()(output, target)`.

    Attributes:
        plan: The step's plan; None for a step that was not mixed.
        loss_scale: Factor that `cross_entropy` and `mixer.loss` apply, and a loss of your own should
            (1.0 but for PatchUp's published loss).
    """

    # PyTorch's side, where it is loaded: its functions of a target; and a float as what a compiler does not fix
    _torch_function: ClassVar[Callable[..., Any] | None] = None
    _loose: ClassVar[Callable[[Any, Any], Any]] = staticmethod(lambda s, exact: s)
    _fit: ClassVar[Callable[[Any, Any], Any]] = staticmethod(lambda s, value: s)
    # TensorFlow's, whose tensors have no reshape
    _shaped: ClassVar[Callable[[Any, tuple[int, ...]], Any]] = staticmethod(lambda s, shape: s.reshape(shape))
    __array_ufunc__ = None  # lest NumPy take it for an object to calculate with

    def __init__(
        self,
        y: Any,
        partner: Any = None,
        s: Any = 0.0,
        plan: MixPlan | None = None,
        one_hot: Callable[..., Any] | None = None,
    ) -> None:
        self._y, self._one_hot = y, one_hot
        self._features: tuple[Framework, Shares, int] | None = None
        self.resolve(partner, s, plan)

    def resolve(self, partner: Any, s: Any, plan: MixPlan | None) -> None:
        """Fill in what only the forward could tell (the share of a mask). For backends."""
        self._partner, self._s, self.plan = partner, s, plan
        self.used = False  # what a metric read before was the target of a clean forward
        self._exact = np.array(s) if isinstance(s, float) else None
        self.loss_scale = 1.0 if plan is None else plan.loss_scale

    def record_features(self, framework: Framework, shares: Shares, channel_dim: int) -> None:
        """Record the mixed features' shapes, so that dense labels are blended under the same mask. For backends."""
        self._features = framework, shares, channel_dim

    @property
    def mixed(self) -> bool:
        """Whether the step mixed anything, the labels included."""
        return self.plan is not None and self.plan.mixes

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
        """The place that the step mixed: "input", a layer's name, or None."""
        return None if self.plan is None else self.plan.place

    def _share(self) -> Any:
        if self._s is None:
            raise MixingError(
                "the share of this target is not known yet, because the model has not run: "
                "call the model first, inside `with mixer(labels) as target:`."
            )
        return self._s if self._exact is None else type(self)._loose(self._s, self._exact)

    def blend(self, f: Callable[[Any], Any], *, dense: bool | None = None) -> Any:
        """`(1 - s) * f(y) + s * f(partner)`: a loss, a metric, anything that is a function of the target.

        Equal to the function of the mixed target for every f that is affine in it: cross-entropy, smoothed
        or not, and binary cross-entropy. Not for class-weighted cross-entropy or squared errors; there it
        is the blend of the losses, as published for Mixup.

        Args:
            f: Takes a target like `y`. Where lam is drawn per sample it must return one value per sample,
                (N, ...), for example by `reduction="none"`; take the mean afterwards. It may return several values
                in a tuple, list, dict or dataclass, each of which is blended; names, and whole numbers that are
                alike, stay.
            dense: For labels that have a point for each part of what was mixed, such as (N, H, W): f returns a
                value for each point, (N, H, W), and each is blended by the share there; a value for each sample,
                (N,), by the sample's. Where the step mixed under a mask (CutMix, PatchUp), the labels must follow it
                so; elsewhere it changes nothing. False: the labels have no points, though their shape looks so.

        Raises:
            ValueError: If lam is per sample and f returns a scalar, or another number of values; if labels
                with points are blended under a mask without `dense`.
        """
        self.used = True
        s = self._share()
        if not self.mixed:
            return f(self._y)
        masked = self.plan is not None and self.plan.masked
        if masked and dense is None and (shape := pointed(self._y, self._features)):
            raise ValueError(
                f"the step mixed under a mask, so labels of shape {shape} must follow it point by point: "
                'target.blend(f, dense=True), with an f of one value a point (reduction="none"), and one a sample for '
                "labels without points; or dense=False if these have none."
            )
        first, second = f(self._y), f(self._partner)
        return tree_zip(lambda one, other: self._mean(one, other, s, masked and bool(dense)), first, second)

    def _mean(self, first: Any, second: Any, s: Any, dense: bool) -> Any:
        """The blend of one value of each label."""
        if first is None or (
            isinstance(first, str | bool | int) and first == second
        ):  # a name, a number of samples
            return first
        s = type(self)._fit(s, first)
        if dense and getattr(first, "ndim", 0) != 1:
            s = self._share_map(first)
            return (1.0 - s) * first + s * second
        if getattr(s, "ndim", 0):
            shape = tuple(getattr(first, "shape", ()))
            if shape[:1] != tuple(s.shape):
                raise ValueError(
                    f"lam is drawn per sample, so blend needs one value per sample, shape ({s.shape[0]}, ...), "
                    f'got shape {shape}: use reduction="none" and take the mean of the result, '
                    'or lam_per="batch".'
                )
            s = type(self)._shaped(s, (-1,) + (1,) * (len(shape) - 1))
        return (1.0 - s) * first + s * second

    def follows(self, axes: int) -> bool:
        """Whether labels with so many axes of points follow a mask, each point by its own share. For backends."""
        masked = self.plan is not None and self.mixed and self.plan.masked
        shares = self._features[1] if masked and self._features else ()
        return len(shares) == 1 and 0 < axes == len(shares[0][1]) - 2

    def blend_points(self, f: Callable[[Any], Any], axes: int) -> Any:
        """As `blend`; where a mask lay over as many axes as the labels have, by the share at each point. For backends.

        Args:
            f: Takes a target like `y`; returns `(N, *space, ...)`.
            axes: How many axes the space has.
        """
        if not self.follows(axes):
            return self.blend(f, dense=None if axes else False)
        self.used = True
        first, second = f(self._y), f(self._partner)
        s = self._share_map(first, axes)
        s = type(self)._shaped(s, (*s.shape, *(1,) * (first.ndim - s.ndim)))
        return (1.0 - s) * first + s * second

    def blend_elements(self, f: Callable[[Any], Any], framework: Framework) -> Any:
        """As `blend`, of f that returns a value for each number of a label, (N, ...). For backends.

        Where a mask lay over an image, labels that are images, (N, H, W) or with channels, follow it.
        """
        features = self._features
        axes = len(features[1][0][1]) - 2 if features and features[1] else 0
        ndim = getattr(self._y, "ndim", 0)
        if ndim > 2 and ndim - 2 == axes and features is not None and features[2] == 1:
            values = self.blend_points(lambda y: framework.move_axis(f(y), 1, -1), axes)
            return framework.move_axis(values, -1, 1)
        return self.blend_points(f, axes) if ndim > 2 and ndim - 2 <= axes else self.blend(f)

    def _share_map(self, values: Any, axes: int | None = None) -> Any:
        """The partner's share at each point of some values, (1 or N, ...); axes: of how many after the batch's."""
        if self._features is None or self.plan is None or len(self._features[1]) != 1:
            raise ValueError(
                "dense=True needs to know the one feature that was mixed: blend the target of a mixed step, whose "
                "place has one tensor."
            )
        framework, ((_, shape),), channel_dim = self._features
        space = values.shape[1:] if axes is None else values.shape[1 : axes + 1]
        return framework.share(self.plan.share_map(shape, space, channel_dim), values)

    def soft(self, num_classes: int, smoothing: float = 0.0, labels: Labels = "auto") -> Any:
        """The mixed target as probabilities, (N, num_classes): of class indices rows summing to one.

        Those that do not count (-100, in Chainer -1) give zeros, smoothed or not, as they cost nothing.

        Args:
            num_classes: K, for targets that are class indices; soft targets must have K columns.
            smoothing: Label smoothing epsilon in [0, 1): `(1 - epsilon) * target + epsilon / K`.
            labels: What whole numbers are: class "indices", or "rows" with 0 or 1 for each of K classes. "auto":
                rows where they are bool, or have K > 1 columns; else indices.

        Raises:
            ValueError: If a class, a column or a number is one that there is not.
        """
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be in [0, 1), got {smoothing}.")
        if self._one_hot is None:
            raise TypeError("this target has no one-hot form: use blend, or get the target from a backend.")
        one_hot = self._one_hot
        how: dict[str, Any] = {} if labels == "auto" else {"labels": labels}
        if smoothing:
            how["smoothing"] = smoothing
        rows = labels != "indices" and tuple(getattr(self._y, "shape", ()))[1:] == (num_classes,)
        return self.blend(lambda y: one_hot(y, num_classes, **how), dense=False if rows else None)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """PyTorch's entry when a function of its own is given a mixed target."""
        if cls._torch_function is None:
            raise TypeError(f"this MixedTarget is no PyTorch's: {WAY_OUT}")
        return cls._torch_function(func, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"a MixedTarget has no {name!r}: {WAY_OUT}")

    def __eq__(self, other: object) -> bool:
        if hasattr(other, "shape"):
            raise TypeError(f"a MixedTarget cannot be compared with {type(other).__name__}: {WAY_OUT}")
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        share = "unknown" if self._s is None else self._s if isinstance(self._s, float) else "per sample"
        return f"MixedTarget(layer={self.layer!r}, s={share}, y={type(self._y).__name__})"
