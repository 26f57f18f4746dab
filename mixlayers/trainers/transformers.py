"""Mixing in Hugging Face's Trainer: `Mixing(trainer, ManifoldMixup())`, one line before `trainer.train()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial, update_wrapper
from inspect import signature
from typing import Any, Final

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mixlayers import Method, MixingError
from mixlayers._core.audit.places import Layers
from mixlayers.torch import Mixer, unwrap

KEY: Final = "mixlayers"
"""Where a checkpoint's trainer_state.json keeps the step, in stateful_callbacks."""

MASK: Final = "attention_mask"
"""The argument by which Hugging Face's models take the padding."""

IGNORED: Final = -100
"""The label that Hugging Face's losses leave out."""

KNOWN: Final = (
    "ForSequenceClassification",
    "ForImageClassification",
    "ForAudioClassification",
    "ForVideoClassification",
    "ForTokenClassification",
    "ForMaskedLM",
)
"""Tasks whose loss is known here; a model that is not Hugging Face's is taken for one of them."""


class Mixing(TrainerCallback):
    """Mixes in `trainer.train()`, and only there; afterwards, also after an error, the model is as it was.

    The Trainer then computes the loss here, since a model that computes its own never sees the mixed labels. It is
    the model's own loss (cross-entropy, binary cross-entropy or squared error, by `config.problem_type` as the
    model would choose), or the Trainer's `compute_loss_func` if it has one, blended with the plan of the forward.
    Label smoothing and gradient accumulation are as the TrainingArguments say; evaluation is plain.

    Logged with the training loss are `mixing/lam`, the mean share of the original sample in the labels, and
    `mixing/steps/<layer>`, how many forwards were mixed there since the last log (`clean`: not at all). The step
    number is part of each checkpoint, so that `resume_from_checkpoint` goes on with the plans of the
    uninterrupted run.

    Args:
        trainer: The Trainer, before `train()`.
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix, as for `Mixer`.
        options: More arguments of `Mixer`. By default `seed` is the TrainingArguments' own, and `mask` is
            "attention_mask" for a model of text; `mask=()` where a text's batches have none.

    Attributes:
        mixer: The mixer of the running, or else the last, `train()`; None before the first.

    Raises:
        TypeError: If the trainer is not a Trainer.
        ValueError: If the trainer mixes already.
    """

    def __init__(
        self, trainer: Trainer, method: Method | None = None, layers: Layers = "auto", **options: Any
    ) -> None:
        if not isinstance(trainer, Trainer):
            raise TypeError(
                f"Mixing takes a Trainer, got {type(trainer).__name__}: trainer = Trainer(...), then "
                "Mixing(trainer, method), and it adds itself to the callbacks."
            )
        if any(isinstance(callback, Mixing) for callback in trainer.callback_handler.callbacks):
            raise ValueError("this Trainer mixes already: make one Mixing for each Trainer.")
        self.trainer = trainer
        self.mixer: Mixer | None = None
        self._options = {"method": method, "layers": layers, "seed": trainer.args.seed, **options}
        self._given = trainer.compute_loss_func
        self._plain: Callable[..., Tensor] = self._elementwise if self._given is None else self._given
        self._mixed: Callable[..., Tensor] | None = None  # while train() runs
        self._net: nn.Module | None = None
        self._new_interval()
        trainer.compute_loss_func = self.loss
        train = trainer.train
        vars(trainer)["train"] = update_wrapper(partial(self._train, train), train)
        trainer.callback_handler.callbacks.insert(0, self)  # so that the others' logs hold ours

    def loss(self, outputs: Any, labels: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """The Trainer's `compute_loss_func`.

        Args:
            outputs: The model's.
            labels: The batch's.
            num_items_in_batch: Labels in all batches of the optimizer's step; None: as many as in this one,
                in each of them.

        Raises:
            ValueError: If there are no labels, or the task is not known.
            MixingError: If the forward went past the mixer.
        """
        if labels is None:
            raise ValueError(self._no_labels())
        mixed = self._mixed if self._net is not None and self._net.training else None
        each = self._plain if mixed is None else mixed
        if self._given is not None:
            loss = each(outputs, labels, num_items_in_batch=num_items_in_batch)
        else:
            if num_items_in_batch is None:
                batches = 1 if mixed is None else self.trainer.current_gradient_accumulation_steps
                num_items_in_batch = labels.ne(IGNORED).sum() * batches
            loss = each(outputs, labels).sum() / num_items_in_batch
        if mixed is not None:
            self._count()
        return loss

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Attach to the model that is to be trained, and go on from the checkpoint, if there is one."""
        self._detach()
        _check_rows(others["model"])
        self._net = others["model"]
        text = getattr(self._net, "main_input_name", None) == "input_ids"
        takes_mask = text and MASK in signature(self._net.forward).parameters
        self.mixer = Mixer(self._net, **{"mask": MASK if takes_mask else None, **self._options})
        self._mixed = self.mixer.loss(self._plain)
        saved: Any = state.stateful_callbacks
        self.mixer.load_state_dict(saved.get(KEY, {}).get("attributes", {"step": 0}))
        self._new_interval()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Note the step for a checkpoint."""
        if self.mixer is not None:
            if not self.mixer.history.steps:
                raise MixingError(
                    "an optimizer step went by and nothing was mixed, for the Trainer did not call its model "
                    "(trainer.model) in training mode: mix in the module that its compute_loss calls."
                )
            saved: Any = state.stateful_callbacks
            saved[KEY] = {"args": {}, "attributes": self.mixer.state_dict()}

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Add what was mixed since the last time."""
        logs = others["logs"]
        if self._mixed is not None and "loss" in logs and self._steps:
            added = {f"mixing/steps/{layer}": count for layer, count in self._steps.items()}
            told = {"mixing/lam": self._lam / self._steps.total(), **added}
            logs.update(told)
            state.log_history[-1].update(told)
            self._new_interval()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        """Leave the model as it was."""
        self._detach()

    def _train(self, train: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The Trainer's own train(), which tells callbacks of no exception."""
        try:
            return train(*args, **kwargs)
        finally:
            self._detach()

    def _detach(self) -> None:
        if self._net is not None:
            unwrap(self._net)
        self._net = self._mixed = None

    def _new_interval(self) -> None:
        self._steps: Counter[str] = Counter()
        self._lam = 0.0

    def _count(self) -> None:
        last = None if self.mixer is None else self.mixer.history.last
        if last is not None:
            self._steps[last.layer or "clean"] += 1
            self._lam += 1.0 - last.s

    def _no_labels(self) -> str:
        model: Any = self.trainer.model
        if "start_positions" in signature(model.forward).parameters:
            return (
                "a question-answering model takes its labels as start_positions and end_positions, and its loss would "
                "not see them mixed: have the collator stack them into 'labels', (N, 2), say label_names=['labels'], "
                "and give the Trainer a compute_loss_func of (outputs, labels) before Mixing(trainer)."
            )
        return "the batch has no 'labels', so there is nothing to mix: name the data set's label column 'labels'."

    def _elementwise(self, outputs: Any, labels: Tensor) -> Tensor:
        """The model's own loss, label by label."""
        logits = _logits(outputs)
        if logits is None or getattr(self.trainer.model, "loss_type", KNOWN[0]) not in KNOWN:
            raise ValueError(
                f"the loss of {type(self.trainer.model).__name__} is not known here: give it to the Trainer as "
                "compute_loss_func=, before Mixing(trainer), and it is blended."
            )
        kind, logits = self._problem(logits, labels), logits.float()
        smoother = self.trainer.label_smoother
        if kind == "single_label_classification":
            return F.cross_entropy(
                logits.movedim(-1, 1),
                labels.view(logits.shape[:-1]),
                reduction="none",
                ignore_index=IGNORED,
                label_smoothing=0.0 if smoother is None else smoother.epsilon,
            )
        if smoother is not None:
            raise ValueError(
                f"label_smoothing_factor={smoother.epsilon} is for one label of several, not for {kind}: leave it 0."
            )
        loss = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
        return loss(logits, labels.to(logits.dtype).view_as(logits), reduction="none")

    def _problem(self, logits: Tensor, labels: Tensor) -> str:
        """`config.problem_type`, or what the model would put there."""
        told = getattr(getattr(self.trainer.model, "config", None), "problem_type", None)
        if told is not None and logits.ndim == 2:
            return str(told)
        if logits.shape[-1] == 1:
            return "regression"
        return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def _check_rows(model: nn.Module) -> None:
    """Raise if the model's layers have other rows than its batch has samples."""
    if "ForMultipleChoice" in type(model).__name__:
        raise ValueError(
            f"{type(model).__name__} runs its layers on one row for each choice, not for each sample, so that rows of "
            "different questions would be mixed and the labels could not follow: train it without Mixing."
        )


def _logits(outputs: Any) -> Tensor | None:
    if isinstance(outputs, dict):
        return outputs.get("logits")
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    return first if isinstance(first, Tensor) else None
