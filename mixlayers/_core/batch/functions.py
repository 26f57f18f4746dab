"""The functions of a face that need no model: their arguments and what they mean, once for every framework."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Generic, TypeVar

from mixlayers._core.batch.detection import MixedBoxes, mix_boxes
from mixlayers._core.batch.mix import mix_batch
from mixlayers._core.framework.framework import Framework
from mixlayers._core.labels.metrics import mixed_accuracy, mixed_calibration_error
from mixlayers._core.labels.target import MixedTarget
from mixlayers._core.labels.temperature import fitted_temperature
from mixlayers._core.methods.method import Method

Tensor = TypeVar("Tensor")
Scalar = TypeVar("Scalar")


class BatchFunctions(Generic[Tensor, Scalar]):
    """`mix`, `mix_detection`, `accuracy`, `calibration_error` and `temperature` of one framework; a backend shows them.

    Args:
        framework: Whose tensors they take.
        ignored: The number of labels that do not count, by default.
        channel_dim: Where its features usually have their channels, 1 or -1.
    """

    def __init__(self, framework: Framework, ignored: int, channel_dim: int = 1) -> None:
        self._framework, self._ignored, self._channel_dim = framework, ignored, channel_dim

    def mix(
        self,
        x: Any,
        target: Any,
        method: Method,
        *,
        step: int | None = None,
        seed: int = 0,
        rank: int = 0,
        batch_dim: int = 0,
        channel_dim: int | None = None,
        keep: Collection[str] = (),
    ) -> tuple[Any, MixedTarget]:
        """Mix an input batch and its target; no model needed.

        Args:
            x: Floating-point tensor (N, ...), or a tuple, list, dict or dataclass holding some.
            target: Labels (N,), soft labels (N, K), or a container of tensors with N rows.
            method: For example CutMix(). A method for hidden layers does what it does at the input.
            step: The step's number, for exact replay and resume. None: this process's next one, from 0; a loader's
                worker processes draw differently from each other, and in each epoch.
            seed: The run's seed.
            rank: The process's number; equal ranks draw equal plans.
            batch_dim: Axis of x that holds the batch.
            channel_dim: 1 or -1, where a masked feature's channels are, the batch axis being first. None: the
                framework's own, 1, in JAX -1.
            keep: Names of entries of x that are no features and stay as they are, such as an image's scale.

        Returns:
            The mixed x, a new tensor of its kind, dtype and device; and the mixed target.

        Raises:
            MixingError: If a compiler is tracing: what it compiles would mix by this one plan for ever.
            ValueError: If x holds no floating-point tensor, or the target has another length.
        """
        return mix_batch(
            self._framework,
            x,
            target,
            method,
            step=step,
            seed=seed,
            rank=rank,
            batch_dim=batch_dim,
            channel_dim=self._channel_dim if channel_dim is None else channel_dim,
            keep=keep,
        )

    def mix_detection(
        self,
        images: Tensor,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        method: Method,
        *,
        min_visible: float = 0.1,
        step: int | None = None,
        seed: int = 0,
        rank: int = 0,
        channel_dim: int = 1,
    ) -> tuple[Tensor, list[MixedBoxes]]:
        """Mixup or CutMix of images with boxes: each image keeps its own boxes and gets its partner's.

        Mixup: as in YOLOX (arXiv:2107.08430), which shows both images at 0.5 and gives all boxes a weight of 1; here
        each box has its image's share as weight, for losses that take one (Zhang et al., arXiv:1902.04103).

        CutMix: a box becomes the smallest one around what is still to be seen of it, own boxes beside the pasted
        region and the partner's in it, if that is `min_visible` of its area or more. Each has a weight of 1. Computed
        on the host, which on a GPU waits for the boxes.

        Args:
            images: (N, C, H, W), or (N, H, W, C), of floats.
            boxes: For each image (M, 4); an image without boxes has (0, 4). For CutMix (x1, y1, x2, y2) in pixels.
            labels: For each image (M,), or a container of tensors with M rows, which go with their boxes as they are.
            method: A Mixup or CutMix, or OneOf several.
            min_visible: Share of a box's area below which CutMix drops it, in [0, 1]; 0 keeps all that show anything.
            step: The step's number, for exact replay and resume. None: this process's next one, from 0.
            seed: The run's seed.
            rank: The process's number; equal ranks draw equal plans.
            channel_dim: 1 or -1, where the images have their channels; only CutMix looks at it.

        Returns:
            The mixed images, and for each of them `(boxes, labels, weights)`.

        Raises:
            ValueError: If the method is another one, boxes and labels do not fit together, or boxes to be cut are no
                (x1, y1, x2, y2) in pixels.
        """
        return mix_boxes(
            self._framework,
            images,
            boxes,
            labels,
            method,
            min_visible=min_visible,
            step=step,
            seed=seed,
            rank=rank,
            channel_dim=channel_dim,
        )

    def accuracy(
        self,
        output: Tensor,
        target: MixedTarget | Tensor,
        topk: int = 1,
        ignore_index: int | None = None,
    ) -> Scalar:
        """Share of correct predictions; for a mixed target the share-weighted mean over both labels.

        Args:
            output: Scores, (N, K) or (N, K, ...); or one logit a sample, (N,) or (N, 1), which says 1 above 0.
            target: A mixed target: class indices (N, ...), or (N, 1); probabilities of the output's shape, which count
                as their largest class; or 0 and 1 for each logit, whole numbers or bool of the output's shape, each a
                prediction of its own. Scores that hold nan are wrong.
            topk: A label among so many of the highest scores counts, 1 <= topk <= K.
            ignore_index: Labels of this number do not count. None: the framework's own, -100, in Chainer -1.

        Returns:
            A scalar on the output's device.

        Raises:
            ValueError: If topk is out of its range; if the labels fit no such output, or hold a class that there is
                not.
        """
        ignored = self._ignored if ignore_index is None else ignore_index
        hits = mixed_accuracy(self._framework, output, target, topk, ignored)
        scalar: Scalar = self._framework.scalar(hits)
        return scalar

    def calibration_error(
        self,
        output: Tensor,
        target: MixedTarget | Tensor,
        bins: int = 15,
        ignore_index: int | None = None,
    ) -> float:
        """Expected calibration error (Guo et al., ICML 2017), computed on the host; for validation, not for each step.

        Under mixing a prediction is right by the share of the label that it names.

        Args:
            output: Logits, (N, K).
            target: A mixed target, class indices (N,), or soft labels (N, K), which count as their largest class.
            bins: Number of equally wide bins of confidence.
            ignore_index: Labels of this number do not count. None: the framework's own, -100, in Chainer -1.
        """
        ignored = self._ignored if ignore_index is None else ignore_index
        return mixed_calibration_error(self._framework, output, target, bins, ignored)

    def temperature(self, output: Tensor, target: Tensor, ignore_index: int | None = None) -> float:
        """Temperature T at which softmax(output / T) gives the labels the best likelihood, fitted on the host.

        Mixed training leaves a network less sure than it is right. Fit T on validation images, then divide the logits
        of all others by it: the predicted classes stay, likelihood and `calibration_error` get better. T is in
        [0.01, 100]; at an end there is no best one, and a warning says so.

        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

        Args:
            output: Logits of validation images, (N, K).
            target: Class indices (N,), or soft labels (N, K), which count as their largest class; nothing mixed.
            ignore_index: Labels of this number do not count. None: the framework's own, -100, in Chainer -1.

        Raises:
            TypeError: If the target is mixed.
            ValueError: If no label counts.
        """
        ignored = self._ignored if ignore_index is None else ignore_index
        return fitted_temperature(self._framework, output, target, ignored)
