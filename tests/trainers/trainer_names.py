"""Real text: US first names by letters, are they male or female?"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    Trainer,
    TrainingArguments,
)
from transformers import DistilBertForSequenceClassification as DistilBert

LETTERS = " abcdefghijklmnopqrstuvwxyz"  # the index is the token; 0 pads
LENGTH = 11


def first_names() -> tuple[list[list[int]], list[int]]:
    """Names as tokens, without padding, and 0 for female, 1 for male; as many of each, shuffled."""
    kinds = [
        {line.split()[0].lower() for line in (files("names") / f"dist.{kind}.first").read_text().splitlines()}
        for kind in ("female", "male")
    ]
    either = kinds[0] & kinds[1]
    rng = np.random.default_rng(0)
    sides = [sorted(kind - either) for kind in kinds]
    fewest = min(map(len, sides))
    names = [(name, label) for label in (0, 1) for name in rng.permutation(sides[label])[:fewest].tolist()]
    order = rng.permutation(len(names))
    tokens = [[LETTERS.index(letter) for letter in names[i][0]] for i in order]
    return tokens, [names[i][1] for i in order]


class Names(torch.utils.data.Dataset[dict[str, object]]):
    """What a tokenizer would have made of them."""

    def __init__(self, tokens: Sequence[list[int]], labels: Sequence[object], **more: object) -> None:
        self.tokens, self.labels, self.more = tokens, labels, more

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"input_ids": self.tokens[index], "labels": self.labels[index], "name": index, **self.more}


def padded(samples: list[dict[str, object]]) -> dict[str, Tensor]:
    """A collator: to the longest of the batch, with the attention mask."""
    tokens = [torch.tensor(sample["input_ids"]) for sample in samples]
    ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    return {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": torch.tensor([sample["labels"] for sample in samples]),
    }


def bert(seed: int = 0, **settings: object) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        **{
            "vocab_size": len(LETTERS),
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 16,
            **settings,
        }
    )
    return BertForSequenceClassification(config)


def distilbert(seed: int = 0, **settings: object) -> DistilBert:
    torch.manual_seed(seed)
    config = DistilBertConfig(
        **{
            "vocab_size": len(LETTERS),
            "dim": 32,
            "n_layers": 3,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": 16,
            **settings,
        }
    )
    return DistilBert(config)


TOKENS, LABELS = first_names()
SIX = [i for i, name in enumerate(TOKENS) if len(name) == 6][:24]  # nothing to pad
EQUAL = Names([TOKENS[i] for i in SIX], [LABELS[i] for i in SIX])
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make_trainer(
    folder: Path, model: nn.Module, data: Any = EQUAL, kind: Any = Trainer, **settings: Any
) -> Any:
    loss = settings.pop("compute_loss_func", None)
    callbacks = settings.pop("callbacks", None)
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 256,
            "max_steps": 3,
            "learning_rate": 2e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            **settings,
        }
    )
    return kind(
        model, arguments, train_dataset=data, eval_dataset=data, data_collator=padded,
        compute_loss_func=loss, callbacks=callbacks,
    )  # fmt: skip


def training_logs(trainer: Any) -> list[dict[str, Any]]:
    return [row for row in trainer.state.log_history if "loss" in row]


def labelled(kind: str) -> Names:
    length = [float(len(name) + token % 3) for name in EQUAL.tokens for token in name[:1]]
    several = [[float(5 in name), float(1 in name)] for name in EQUAL.tokens]
    labels = {"regression": length, "multi_label_classification": several}.get(kind, EQUAL.labels)
    return Names(EQUAL.tokens, labels)
