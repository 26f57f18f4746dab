"""A tiny BERT: token ids cannot be mixed, so hidden layers are.

Which part of NumPy does a passage of 32 words document? The texts are NumPy's own docstrings.
"""

import re
from collections import Counter
from inspect import getdoc

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from mixlayers import ManifoldMixup
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

LENGTH, VOCABULARY = 32, 1000
modules = (np.fft, np.linalg, np.random, np.strings)
texts = [
    re.findall("[a-z]+", " ".join(getdoc(getattr(module, name)) or "" for name in module.__all__).lower())
    for module in modules
]
common = Counter(word for words in texts for word in words).most_common(VOCABULARY - 1)
number = {word: index for index, (word, _) in enumerate(common, start=1)}  # 0 is any other word


def passages(begin: float, end: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The passages in one part of each text: ids (N, 32), and which text they are from (N,)."""
    ids, labels = [], []
    for label, words in enumerate(texts):
        part = [number.get(word, 0) for word in words[int(begin * len(words)) : int(end * len(words))]]
        rows = [part[start : start + LENGTH] for start in range(0, len(part) - LENGTH, LENGTH)]
        ids += rows
        labels += [label] * len(rows)
    return torch.tensor(ids), torch.tensor(labels)


torch.manual_seed(0)
x, y = passages(0.0, 0.8)
test_x, test_y = passages(0.8, 1.0)
config = BertConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=LENGTH,
    num_labels=len(modules),
)
model = BertForSequenceClassification(config)
wrap(model, ManifoldMixup(alpha=2.0), example={"input_ids": x[:2]})
mixer = get_mixer(model)
print(f"token ids leave only hidden layers: {', '.join(mixer.places)}")

optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
model.train()
for _ in range(4):
    for batch in torch.randperm(len(x)).split(64):
        output, target = model(input_ids=x[batch], target=y[batch])
        loss = cross_entropy(output.logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    test = accuracy(model(input_ids=test_x).logits, test_y)
print(
    f"test accuracy {test:.3f} on {len(test_y)} passages, {torch.bincount(test_y).max() / len(test_y):.3f} by guessing"
)
