"""What Hugging Face's Trainer must not do in silence, and losses of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from digits_scene import hooks
from torch import Tensor
from trainer_names import STILL, bert, labelled, make_trainer, padded, training_logs
from transformers import GPT2Config, GPT2LMHeadModel, Trainer

from mixlayers import ManifoldMixup, MixingError, Mixup
from mixlayers.trainers.transformers import Mixing


def test_a_loss_of_ones_own_is_blended(tmp_path: Path) -> None:
    calls: list[int] = []

    def halved(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        calls.append(len(labels))
        return 0.5 * F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    rows = []
    for loss in (None, halved):
        trainer = make_trainer(tmp_path, bert(**STILL), compute_loss_func=loss, learning_rate=0.0)
        Mixing(trainer, ManifoldMixup(alpha=2.0))
        trainer.train()
        rows.append(training_logs(trainer))
    assert calls == [8] * 6, "each loss is of both labels"
    for own, halves in zip(*rows, strict=True):
        assert halves["loss"] == pytest.approx(own["loss"] / 2, rel=1e-5)
        assert halves["mixing/lam"] == own["mixing/lam"]


class Own(Trainer):
    """A Trainer that computes the loss by itself."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **others: Any) -> Any:
        return model(**inputs).loss


class Elsewhere(Trainer):
    """A Trainer that goes past the model's hooks."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **others: Any) -> Any:
        return model.forward(**inputs).loss


def forgotten(trainer: Any) -> None:
    trainer.compute_loss_func = None


def smoothed(trainer: Any) -> None:
    trainer.compute_loss_func = None
    trainer.label_smoother = lambda outputs, labels, **others: outputs.logits.sum()


@pytest.mark.parametrize(
    ("kind", "break_it", "error"),
    [
        (Trainer, forgotten, "no loss used the mixed target"),
        (Trainer, smoothed, "no loss used the mixed target"),
        (Own, None, "no loss used the mixed target"),
        (Elsewhere, None, "nothing was mixed"),
    ],
)
def test_unmixed_labels_are_an_error(kind: Any, break_it: Any, error: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bert(), kind=kind)
    Mixing(trainer, ManifoldMixup(alpha=2.0))
    if break_it is not None:
        break_it(trainer)
    with pytest.raises(MixingError, match=error):
        trainer.train()


def test_what_cannot_be_mixed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes a Trainer"):
        Mixing(ManifoldMixup())  # type: ignore[arg-type]

    trainer = make_trainer(tmp_path, bert())
    Mixing(trainer)
    with pytest.raises(ValueError, match="mixes already"):
        Mixing(trainer)

    trainer = make_trainer(tmp_path, bert(num_labels=1), labelled("regression"), label_smoothing_factor=0.1)
    Mixing(trainer)
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1"):
        trainer.train()

    trainer = make_trainer(tmp_path, bert())
    Mixing(trainer, Mixup(1.0, pairs="different_class"))
    with pytest.raises(ValueError, match="needs the labels when the model is called"):
        trainer.train()

    small = {"n_embd": 16, "n_head": 2, "n_layer": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    trainer = make_trainer(tmp_path, GPT2LMHeadModel(GPT2Config(vocab_size=27, **small)))
    Mixing(trainer, layers=["transformer.h.0"])
    with pytest.raises(ValueError, match="the loss of GPT2LMHeadModel is not known here"):
        trainer.train()

    trainer = make_trainer(tmp_path, bert())
    trainer.data_collator = lambda samples: {"input_ids": padded(samples)["input_ids"]}
    Mixing(trainer, mask=())
    with pytest.raises(ValueError, match="the batch has no 'labels'"):
        trainer.train()


def test_a_broken_off_run_can_be_started_again(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bert())
    mixing = Mixing(trainer, ManifoldMixup(alpha=2.0))
    collate = trainer.data_collator

    def broken(samples: Any) -> Any:
        raise RuntimeError("the disk is full")

    trainer.data_collator = broken
    with pytest.raises(RuntimeError, match="disk"):
        trainer.train()
    trainer.data_collator = collate
    trainer.train()
    assert mixing.mixer.history.mixed == 3 and hooks(trainer.model) == 0
