"""Text with padding
=================

A small transformer reads first names. Token ids cannot be mixed, so hidden layers are;
names have several lengths, so the padding mask must travel with the mixed features.
"""

from importlib.resources import files

import numpy as np
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from mixlayers import ManifoldMixup, view
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

EPOCHS, SEEDS = 5, 3

# %%
# Is a first name a woman's or a man's? The names are those of the US Census, from the
# package `names`. Names that are both are left out, and there are as many of each kind.


def first_names(kind: str) -> list[str]:
    lines = (files("names") / f"dist.{kind}.first").read_text().splitlines()
    return [line.split()[0] for line in lines]


female, male = (first_names(kind) for kind in ("female", "male"))
both = set(female) & set(male)
female, male = (
    [name for name in names if name not in both] for names in (female, male)
)
female = list(np.random.default_rng(0).permutation(female)[: len(male)])
everybody, gender = [*female, *male], torch.arange(2).repeat_interleave(len(male))

# %%
# A character is a token. Shorter names are padded with zeros, and a mask says which
# tokens are characters.


def tokens(names: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Characters as ids, (N, length), and which of them are characters."""
    rows = [
        [ord(letter) - 64 for letter in name.ljust(length, "@")] for name in names
    ]
    ids = torch.tensor(rows)
    return ids, (ids > 0).long()


ids, mask = tokens(everybody, max(map(len, everybody)))
order = torch.tensor(np.random.default_rng(1).permutation(len(ids)))
train, test = order.split([int(0.7 * len(ids)), len(ids) - int(0.7 * len(ids))])
for row in train[:3].tolist():
    print(f"{everybody[row]:10} {mask[row].tolist()}")

# %%
# When a short name is mixed with a long one, the blend has features where the short one
# had padding. ``mask="attention_mask"`` names the argument in which the model takes its
# mask: from the mixed layer on, a position is real if either of the two names has a
# character there. ``share="tokens"`` gives the label the partner's share of the real
# tokens, instead of its share of all positions.

config = DistilBertConfig(
    vocab_size=27,
    max_position_embeddings=ids.shape[1],
    dim=32,
    hidden_dim=64,
    n_layers=3,
    n_heads=4,
    num_labels=2,
)


def network(mixed: bool, seed: int) -> DistilBertForSequenceClassification:
    torch.manual_seed(seed)
    model = DistilBertForSequenceClassification(config)
    if mixed:
        wrap(
            model,
            ManifoldMixup(alpha=1.0),
            mask="attention_mask",
            share="tokens",
            seed=seed,
            example={"input_ids": ids[:3], "attention_mask": mask[:3]},
        )
    return model


# %%
# The loop is the usual one. The model's output stays what Hugging Face returns.


def fit(model: DistilBertForSequenceClassification, mixed: bool) -> float:
    """Test accuracy after training."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(64):
            names = {"input_ids": ids[batch], "attention_mask": mask[batch]}
            if mixed:
                output, target = model(**names, target=gender[batch])
            else:
                output, target = model(**names), gender[batch]
            loss = cross_entropy(output.logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(input_ids=ids[test], attention_mask=mask[test])
    return accuracy(output.logits, gender[test]).item()


# %%
# Does it help? Not here, with small networks and only five epochs.

print(f"{len(train)} names to train, {len(test)} to test; accuracy of {SEEDS} seeds")
worst = 1.0
for name, mixed in {"plain": False, "Manifold Mixup": True}.items():
    models = [network(mixed, seed) for seed in range(SEEDS)]
    scores = [fit(model, mixed) for model in models]
    worst = min(worst, np.mean(scores).item())
    print(f"{name:15} {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}")
if worst < 0.7:
    raise SystemExit("an accuracy fell below 0.7: 0.5 is guessing")

# %%
# Every step of the last network was mixed, at one of two hidden layers.

history = get_mixer(models[-1]).history
if history.mixed != history.steps:
    raise SystemExit("not every step was mixed")
view.history(history)
