"""A transformer over names of several lengths
===========================================

The padding mask goes with the mixed features. Is a first name a woman's or a man's? The names are the US Census's, from
the `names` package, a character a token; those that are both are left out, and there are as many of each.
"""

from importlib.resources import files

import numpy as np
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from mixlayers import ManifoldMixup, Method
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

EPOCHS, SEEDS = 5, 3


def first_names(kind: str) -> list[str]:
    lines = (files("names") / f"dist.{kind}.first").read_text().splitlines()
    return [line.split()[0] for line in lines]


def tokens(names: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Characters as ids, 0 is padding, (N, length); and which of them are characters."""
    ids = torch.tensor([[ord(letter) - 64 for letter in name.ljust(length, "@")] for name in names])
    return ids, (ids > 0).long()


female, male = (first_names(kind) for kind in ("female", "male"))
both = set(female) & set(male)
female, male = ([name for name in names if name not in both] for names in (female, male))
female = list(np.random.default_rng(0).permutation(female)[: len(male)])
everybody, gender = [*female, *male], torch.arange(2).repeat_interleave(len(male))
ids, mask = tokens(everybody, max(map(len, everybody)))
order = torch.tensor(np.random.default_rng(1).permutation(len(ids)))
train, test = order.split([int(0.7 * len(ids)), len(ids) - int(0.7 * len(ids))])
config = DistilBertConfig(
    vocab_size=27,
    max_position_embeddings=ids.shape[1],
    dim=32,
    hidden_dim=64,
    n_layers=3,
    n_heads=4,
    num_labels=2,
)


def score(method: Method | None, seed: int) -> float:
    """Test accuracy after training."""
    torch.manual_seed(seed)
    model = DistilBertForSequenceClassification(config)
    if method is not None:
        # in a mixed step, layers after the mixed one attend wherever either name has a character
        wrap(model, method, mask="attention_mask", share="tokens", seed=seed,
             example={"input_ids": ids[:3], "attention_mask": mask[:3]})  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(64):
            names = {"input_ids": ids[batch], "attention_mask": mask[batch]}
            if method is None:
                loss = cross_entropy(model(**names).logits, gender[batch])
            else:
                output, target = model(**names, target=gender[batch])
                loss = cross_entropy(output.logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if method is not None and get_mixer(model).history.mixed != get_mixer(model).step:
        raise SystemExit("not every step was mixed")
    model.eval()
    with torch.no_grad():
        return accuracy(model(input_ids=ids[test], attention_mask=mask[test]).logits, gender[test]).item()


print(f"{len(train)} names to train, {len(test)} to test; accuracy, mean ± sd of {SEEDS} seeds")
found = {}
for name, method in {"plain": None, "Manifold Mixup": ManifoldMixup(alpha=1.0)}.items():
    scores = [score(method, seed) for seed in range(SEEDS)]
    found[name] = np.mean(scores), np.std(scores, ddof=1)
    print(f"{name:15} {found[name][0]:.3f} ± {found[name][1]:.3f}")
if min(mean for mean, _ in found.values()) < 0.7:
    raise SystemExit("an accuracy fell below 0.7: 0.5 is guessing")
