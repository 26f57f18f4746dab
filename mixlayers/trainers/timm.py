"""Mixing in timm's train loop: a `Mixup` with timm's arguments, and hidden layers. timm itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Method, MixedTarget, MixingError
from mixlayers._core.audit.places import Layers
from mixlayers._core.errors import refuse
from mixlayers._core.methods.method import check_fraction
from mixlayers._core.model.scope import Scope
from mixlayers._core.plan.streams import stream
from mixlayers.torch import Mixer
from mixlayers.trainers._timm_law import Drawn, Law, Mode

INPUT: Final = 64
"""Purpose of the stream that decides on a step, apart from those of the mixer's plans."""


class Mixup:
    """A drop-in for `timm.data.Mixup`: `x, y = mixup_fn(x, y)`, and `mixup_fn.mixup_enabled = False`.

    The images, boxes and soft targets follow timm's laws, the partners are the batch in reverse as there. Any batch
    size will do, the caller's batch is not written to, and the decisions are a function of (seed, rank, step).

    With `model=`, a share of the steps mixes at hidden layers instead: the images come back as they are, and the
    model mixes in its next training forward. The soft target is filled in by that forward, when the share of a
    hidden mask is known, and is NaN until then.

    Args:
        mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, correct_lam: As in timm; see `Law`.
        label_smoothing: Epsilon in [0, 1).
        num_classes: How many classes there are, K.
        multi_label: Targets are (N, K), each label smoothed towards 0.5.
        model: The model to mix in; hooks are attached to it.
        hidden: What to do at the hidden layers, by default ManifoldMixup(alpha=2).
        hidden_prob: Share of the steps that mix at hidden layers, in (0, 1]; 1 if timm's alphas are 0.
        layers: Where a hidden method may mix, as for `Mixer`.
        seed: The run's seed.
        rank: The process's number; None: torch.distributed's.
        options: More arguments of `Mixer`.

    Attributes:
        mixup_enabled: False: the images come back as they are, with smoothed labels.
        mixer: The model's mixer; None without a model.

    Raises:
        ValueError: If an argument is out of range, or nothing is left to mix.
    """

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: Mode = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
        multi_label: bool = False,
        *,
        model: nn.Module | None = None,
        hidden: Method | None = None,
        hidden_prob: float = 0.5,
        layers: Layers = "auto",
        seed: int = 0,
        rank: int | None = None,
        **options: Any,
    ) -> None:
        self.law = Law(mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, correct_lam)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
        check_fraction("hidden_prob", hidden_prob, "leave model= out to never mix at hidden layers.")
        if model is None and (hidden is not None or not self.law.mixes):
            raise ValueError(
                "hidden= needs the model: Mixup(..., model=model, hidden=...)."
                if hidden is not None
                else "one of mixup_alpha > 0, cutmix_alpha > 0, cutmix_minmax or model= must be given."
            )
        method = ManifoldMixup() if hidden is None else hidden
        if any(leaf.loss_scale != 1.0 for leaf in method.leaves):
            raise ValueError(
                "a soft target cannot scale the loss: leave loss_scale= out, and scale the learning rate."
            )
        self.label_smoothing, self.num_classes, self.multi_label = label_smoothing, num_classes, multi_label
        self.mixup_enabled = True
        self.hidden_prob = hidden_prob if self.law.mixes else 1.0
        self.seed, self.rank = seed, rank
        self._step = 0
        self._waiting: Scope | None = None  # for the model's next training forward
        self.mixer: Mixer | None = None
        if model is not None:
            self.mixer = Mixer(model, method, layers, seed=seed, rank=rank, **options)

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            x: Images, floating point, (N, C, H, W); without CutMix any (N, ...).
            target: Class indices (N,), or probabilities (N, K).

        Returns:
            The images, a new tensor where they were mixed; and the soft targets, float32 (N, K).

        Raises:
            MixingError: If the last batch was to be mixed by the model, which did not run.
            ValueError: If the images or the labels do not fit.
        """
        soft = self._soft(target)
        if len(soft) != len(x):
            raise ValueError(f"{len(x)} images need as many labels, got {len(soft)}.")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.taken:
            waiting.close()
            how = (
                "ran in eval mode or without gradients alone: call model.train() before the next batch"
                if waiting.taken is not None
                else "did not run: call that very object between two calls of Mixup, with the batch as it came; after "
                "an interrupted step, just go on"
            )
            raise MixingError(
                f"the last batch was to be mixed at a hidden layer, but the model that was given as model= {how}."
            )
        if not self.mixup_enabled:
            return x, soft
        rng = stream(self.seed, self._rank(), self._step, INPUT)
        self._step += 1
        if self.mixer is not None and rng.random() < self.hidden_prob:
            return x, self._hidden(self.mixer, soft)
        if not x.is_floating_point() or (self.law.cuts and x.ndim < 4):
            raise ValueError(
                f"images must be floating point, (N, C, H, W) for CutMix, got {x.dtype} of shape {tuple(x.shape)}."
            )
        drawn = self.law.draw(rng, len(x), *(x.shape[-2:] if x.ndim > 3 else (1, 1)))
        share = torch.from_numpy(drawn.share).to(soft.device).unsqueeze(1)
        return _apply(x, drawn), soft * share + soft.flip(0) * (1.0 - share)

    def state_dict(self) -> dict[str, int]:
        """The state for a checkpoint: `{"step": n}`."""
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a checkpoint: the next batch is mixed as an uninterrupted run would have."""
        self._step = state["step"]

    def _rank(self) -> int:
        if self.rank is not None:
            return self.rank
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        return torch.distributed.get_rank() if ready else 0

    def _hidden(self, mixer: Mixer, soft: Tensor) -> Tensor:
        """The soft target that the model's next forward fills in."""
        mixer.load_state_dict({"step": self._step - 1})
        later = torch.full_like(soft, torch.nan)
        self._waiting = _Waiting(mixer, soft, later)
        self._waiting.__enter__()
        return later

    def _soft(self, target: Tensor) -> Tensor:
        """The labels with their smoothing, unmixed."""
        epsilon, classes = self.label_smoothing, self.num_classes
        dense = target.ndim == 2 and target.shape[1] == classes
        if not dense and (self.multi_label or target.is_floating_point() or target.numel() != len(target)):
            raise ValueError(
                f"labels must be class indices (N,), or (N, {classes}) as num_classes says, got {target.dtype} of "
                f"shape {tuple(target.shape)}."
            )
        if self.multi_label:
            return target.float() * (1.0 - epsilon) + 0.5 * epsilon
        if dense:
            return target.float() * (1.0 - epsilon) + epsilon / classes
        off = epsilon / classes
        soft = torch.full((len(target), classes), off, device=target.device)
        return soft.scatter_(1, target.long().view(-1, 1), 1.0 - epsilon + off)


class _Waiting(Scope):
    """A scope that the loop does not see, open until the model's next training forward."""

    def __init__(self, mixer: Mixer, soft: Tensor, later: Tensor) -> None:
        super().__init__(mixer._session, _Later(soft, later, self))
        self._later = ref(later)

    def enter_forward(self, *, mixes: bool) -> None:
        if mixes and self._later() is None:
            self.close()
            self.taken = True  # once told is enough
            refuse(
                "the model was to be mixed for a batch of Mixup's that nobody has any more, so that no loss could use "
                "its target",
                "call mixup_fn for this batch; or unwrap(model), to train it by hand",
            )
        super().enter_forward(mixes=mixes)


class _Later(MixedTarget):
    """A target that is written where it was promised, once a training forward has settled it."""

    def __init__(self, y: Tensor, later: Tensor, scope: Scope) -> None:
        self._promised: tuple[ref[Tensor], Scope] | None = None
        super().__init__(y, None, None, None)
        self._promised = ref(later), scope

    def resolve(self, partner: Any, s: Any, plan: Any) -> None:
        super().resolve(partner, s, plan)
        if self._promised is not None and plan is not None:
            later, scope = self._promised
            there = later()
            if there is not None:
                there.copy_(self.blend(lambda y: y))
            scope.close()


def _apply(x: Tensor, drawn: Drawn) -> Tensor:
    """`lam * x + (1 - lam) * partner`, and the partner in the box; x where nothing is mixed."""
    if len(drawn.lam) == 1:
        top, bottom, left, right = drawn.box[:, 0].tolist()
        lam = float(drawn.lam[0])
        if lam != 1.0:
            return x * lam + x.flip(0) * (1.0 - lam)
        mixed = x.clone()
        mixed[..., top:bottom, left:right] = x.flip(0)[..., top:bottom, left:right]
        return mixed
    shape = (-1,) + (1,) * (x.ndim - 1)
    partner = x.flip(0)
    weight = torch.from_numpy(drawn.lam).to(x.device, x.dtype).view(shape)
    mixed = torch.where(weight == 1.0, x, x * weight + partner * (1.0 - weight))
    if not np.any(drawn.box):
        return mixed
    top, bottom, left, right = torch.from_numpy(drawn.box).to(x.device).view(4, *shape)
    row = torch.arange(x.shape[-2], device=x.device).view(-1, 1)
    column = torch.arange(x.shape[-1], device=x.device)
    return torch.where((row >= top) & (row < bottom) & (column >= left) & (column < right), partner, mixed)
