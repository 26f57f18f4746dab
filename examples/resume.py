"""Stop a run, save, load, go on
=============================

The parameters are those of the run that never stopped, bit for bit.
"""

import io

import torch
from sklearn.datasets import load_digits
from torch import nn

from mixlayers import ManifoldMixup, OneOf, PatchUp
from mixlayers.torch import Mixer, cross_entropy

features, labels = load_digits(return_X_y=True)
x = torch.tensor(features / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(labels)


class Run:
    """A model with all that training changes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
            ),
            nn.Sequential(
                nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
            ),
            nn.Flatten(),
            nn.Linear(32 * 64, 10),
        )
        method = OneOf({ManifoldMixup(): 1, PatchUp("soft", block_size=3): 1})
        self.mixer = Mixer(self.model, method, layers=["input", "0", "1"], seed=7)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            batch = torch.arange(64 * step, 64 * (step + 1)) % len(x)
            output, target = self.model(x[batch], target=y[batch])
            loss = cross_entropy(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


# %%
# A run that never stops, for comparison.

whole = Run()
whole.train(0, 40)

# %%
# Half a run, saved. Of mixing there is nothing to save but a step: what is mixed with what is a function of the seed
# and of that step.

first_half = Run()
first_half.train(0, 20)
file = io.BytesIO()
torch.save(
    {
        "model": first_half.model.state_dict(),  # the same keys as without mixing
        "optimizer": first_half.optimizer.state_dict(),
        "mixer": first_half.mixer.state_dict(),  # {"step": 20}: all that mixing needs
    },
    file,
)

# %%
# A new run loads it, and goes on to the end.

file.seek(0)
saved = torch.load(file)
second_half = Run()
second_half.model.load_state_dict(saved["model"])
second_half.optimizer.load_state_dict(saved["optimizer"])
second_half.mixer.load_state_dict(saved["mixer"])
second_half.train(20, 40)

pairs = zip(whole.model.parameters(), second_half.model.parameters(), strict=True)
print(f"the mixer's state: {saved['mixer']}")
print(
    "same parameters, bit for bit: "
    f"{all(torch.equal(one, other) for one, other in pairs)}"
)
