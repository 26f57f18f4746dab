"""What Hugging Face's Trainer must not do in silence, and losses of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    default_data_collator,
)

from mixlayers import ManifoldMixup, MixingError, Mixup
from mixlayers.trainers.transformers import Mixing
from tests.trainers.digits_scene import hooks
from tests.trainers.trainer_names import STILL, bert, labelled, make_trainer, padded, training_logs


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


def test_multiple_choice_is_refused_before_anything_runs(tmp_path: Path) -> None:
    model = BertForMultipleChoice(bert().config)
    trainer = make_trainer(tmp_path, model)
    Mixing(trainer)
    with pytest.raises(ValueError, match="BertForMultipleChoice runs its layers on one row for each choice"):
        trainer.train()
    assert hooks(model) == 0


def questions() -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 27, (24, 8), generator=rng)
    return [
        {"input_ids": row, "attention_mask": torch.ones_like(row), "start_positions": int(row[0]) % 8,
         "end_positions": int(row[1]) % 8}
        for row in ids
    ]  # fmt: skip


def stacked(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    batch = default_data_collator(samples)
    return {**batch, "labels": torch.stack([batch.pop("start_positions"), batch.pop("end_positions")], 1)}


def span_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    starts = F.cross_entropy(outputs.start_logits, labels[:, 0])
    return (starts + F.cross_entropy(outputs.end_logits, labels[:, 1])) / 2


def test_question_answering(tmp_path: Path) -> None:
    """Refused as it comes, with a way that works: then the loss is the blend of the model's own two."""
    trainer = make_trainer(tmp_path, BertForQuestionAnswering(bert().config), questions())
    trainer.data_collator = default_data_collator
    Mixing(trainer)
    with pytest.raises(
        ValueError, match=r"start_positions and end_positions.*'labels', \(N, 2\).*compute_loss_func"
    ):
        trainer.train()
    assert hooks(trainer.model) == 0

    torch.manual_seed(0)
    model = BertForQuestionAnswering(bert(**STILL).config)
    trainer = make_trainer(
        tmp_path, model, questions(), compute_loss_func=span_loss, learning_rate=0.0, label_names=["labels"],
        max_steps=3,
    )  # fmt: skip
    batches: list[Any] = []
    trainer.data_collator = lambda samples: batches.append(stacked(samples)) or batches[-1]
    mixing = Mixing(trainer, ManifoldMixup(alpha=2.0), layers=["bert.encoder.layer.0"])
    trainer.train()
    model.train()
    for step, (batch, row) in enumerate(zip(batches, training_logs(trainer), strict=False)):
        plan = ManifoldMixup(alpha=2.0).plan(
            step=step, batch_size=8, places=mixing.mixer.places, seed=trainer.args.seed
        )
        perm = torch.as_tensor(plan.perm)
        handle = model.bert.encoder.layer[0].register_forward_hook(
            lambda _, args, h, perm=perm, lam=plan.lam: lam * h + (1 - lam) * h[perm]
        )
        losses = [
            model(
                batch["input_ids"], batch["attention_mask"], start_positions=y[:, 0], end_positions=y[:, 1]
            ).loss
            for y in (batch["labels"], batch["labels"][perm])
        ]
        handle.remove()
        blended = plan.lam * losses[0] + (1 - plan.lam) * losses[1]
        assert row["loss"] == pytest.approx(blended.item(), rel=1e-4)
    assert len(training_logs(trainer)) == 3 and "eval_loss" in trainer.evaluate()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_breaks_off_leaves_the_model_plain_and_the_trainer_usable(error: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bert())
    mixing = Mixing(trainer, ManifoldMixup(alpha=2.0))

    class Breaks(TrainerCallback):
        left = 2

        def on_step_begin(self, *event: Any, **others: Any) -> None:
            self.left -= 1
            if not self.left:
                raise error("the disk is full")

    trainer.add_callback(Breaks())
    with pytest.raises(error, match="disk"):
        trainer.train()
    assert hooks(trainer.model) == 0
    make_trainer(tmp_path, trainer.model).train()  # a plain one
    trainer.train()
    assert mixing.mixer.history.mixed == 3 and hooks(trainer.model) == 0
