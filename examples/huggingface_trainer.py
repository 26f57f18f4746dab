"""Hugging Face's Trainer, with one more line
==========================================

A small DistilBERT reads first names: male or female? The names are the US Census's, from the package `names`; letters
are the tokens, and shorter names are padded.
"""

import logging
import tempfile
from importlib.resources import files

import numpy as np
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, Trainer, TrainingArguments

from mixlayers import ManifoldMixup
from mixlayers.trainers.transformers import Mixing

SEEDS = (0, 1)
LETTERS = " abcdefghijklmnopqrstuvwxyz"
logging.getLogger("transformers").setLevel(logging.ERROR)

lists = [
    {line.split()[0].lower() for line in (files("names") / f"dist.{kind}.first").read_text().splitlines()}
    for kind in ("female", "male")
]
rng = np.random.default_rng(0)
fewest = len(lists[1] - lists[0])
rows = [
    {"input_ids": [LETTERS.index(letter) for letter in name], "labels": label}
    for label in (0, 1)
    for name in rng.permutation(sorted(lists[label] - lists[1 - label]))[:fewest].tolist()
]
rows = [rows[i] for i in rng.permutation(len(rows))]
train, test = rows[:1243], rows[1243:]


def collate(samples: list[dict[str, object]]) -> dict[str, torch.Tensor]:
    """Pad to the longest name."""
    names = [torch.tensor(sample["input_ids"]) for sample in samples]
    ids = torch.nn.utils.rnn.pad_sequence(names, batch_first=True)
    labels = torch.tensor([sample["labels"] for sample in samples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def accuracy_and_loss(seed: int, mixed: bool) -> tuple[float, float]:
    """Train for ten epochs."""
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=len(LETTERS), dim=32, n_layers=3, n_heads=2, hidden_dim=64, max_position_embeddings=16
    )
    model = DistilBertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=64, per_device_eval_batch_size=256, num_train_epochs=10,
            learning_rate=2e-3, seed=seed, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
            logging_strategy="no",
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=test, data_collator=collate)
        if mixed:
            mixing = Mixing(trainer, ManifoldMixup(alpha=2.0))
        trainer.train()
        predictions = trainer.predict(test)
        if mixed and seed == SEEDS[0]:
            print(mixing.mixer.history)
    right = predictions.predictions.argmax(1) == predictions.label_ids
    return float(right.mean()), predictions.metrics["test_loss"]


for mixed in (False, True):
    results = np.array([accuracy_and_loss(seed, mixed) for seed in SEEDS])
    (accuracy, loss), (spread, _) = results.mean(0), results.std(0, ddof=1)
    print(f"{'mixed' if mixed else 'plain'}: test accuracy {accuracy:.3f} +- {spread:.3f}, loss {loss:.3f}")
