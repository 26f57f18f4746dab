"""A Hugging Face run
==================

One more line before ``trainer.train()``. A small DistilBERT reads first names.
"""

import logging
import tempfile
from importlib.resources import files

import numpy as np
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from mixlayers import ManifoldMixup, view
from mixlayers.trainers.transformers import Mixing

SEEDS = (0, 1)
LETTERS = " abcdefghijklmnopqrstuvwxyz"
logging.getLogger("transformers").setLevel(logging.ERROR)

# %%
# Male or female? The names are those of the US Census, from the package `names`. Each
# letter is a token.

lists = [
    {
        line.split()[0].lower()
        for line in (files("names") / f"dist.{kind}.first").read_text().splitlines()
    }
    for kind in ("female", "male")
]
rng = np.random.default_rng(0)
fewest = len(lists[1] - lists[0])
rows = [
    {"input_ids": [LETTERS.index(letter) for letter in name], "labels": label}
    for label in (0, 1)
    for name in rng.permutation(sorted(lists[label] - lists[1 - label]))[
        :fewest
    ].tolist()
]
rows = [rows[i] for i in rng.permutation(len(rows))]
train, test = rows[:1243], rows[1243:]


def collate(samples: list[dict[str, object]]) -> dict[str, torch.Tensor]:
    """Pad to the longest name."""
    names = [torch.tensor(sample["input_ids"]) for sample in samples]
    ids = torch.nn.utils.rnn.pad_sequence(names, batch_first=True)
    labels = torch.tensor([sample["labels"] for sample in samples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


# %%
# An ordinary Trainer.


def trainer(seed: int, folder: str) -> Trainer:
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=len(LETTERS),
        dim=32,
        n_layers=3,
        n_heads=2,
        hidden_dim=64,
        max_position_embeddings=16,
    )
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=256,
        num_train_epochs=10,
        learning_rate=2e-3,
        seed=seed,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
    )
    made = Trainer(
        DistilBertForSequenceClassification(config),
        arguments,
        train_dataset=train,
        eval_dataset=test,
        data_collator=collate,
    )
    made.remove_callback(PrinterCallback)  # it prints how long it took
    return made


# %%
# ``Mixing(trainer)`` is the one line. It finds the hidden layers, and the argument that
# holds the padding mask; ``predict`` and ``evaluate`` are never mixed.

histories = []


def accuracy_and_loss(seed: int, mixed: bool) -> tuple[float, float]:
    """Train for ten epochs."""
    with tempfile.TemporaryDirectory() as folder:
        own = trainer(seed, folder)
        if mixed:
            mixing = Mixing(own, ManifoldMixup(alpha=2.0))
        own.train()
        predictions = own.predict(test)
    if mixed:
        histories.append(mixing.mixer.history)
    right = predictions.predictions.argmax(1) == predictions.label_ids
    return float(right.mean()), predictions.metrics["test_loss"]


for mixed in (False, True):
    results = np.array([accuracy_and_loss(seed, mixed) for seed in SEEDS])
    (accuracy, loss), (spread, _) = results.mean(0), results.std(0, ddof=1)
    name = "mixed" if mixed else "plain"
    print(f"{name}: test accuracy {accuracy:.3f} +- {spread:.3f}, loss {loss:.3f}")

# %%
# The accuracies are alike, and the mixed networks' loss is a little lower.

print(histories[0])
view.history(histories[0])
