"""Draw what mixing does
=====================

A batch, the masks, the audit, the history. docs/pictures has what `python examples/seeing.py docs/pictures` drew;
without a folder the pictures go to a temporary one.
"""

# sphinx_gallery_thumbnail_number = 4

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import CutMix, ManifoldMixup, OneOf, PatchUp, view
from mixlayers.torch import audit, cross_entropy, get_mixer, wrap

features, labels = load_digits(return_X_y=True)
x = torch.tensor(features / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(labels)


class Block(nn.Module):
    """Two convolutions and what goes round them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


# %%
# A small residual network, trained with one of three methods in each step, or, in one step of ten, with none.

torch.manual_seed(0)
model = nn.Sequential()
model.stem = nn.Conv2d(1, 16, 3, padding=1)
model.layer1, model.layer2, model.layer3 = Block(16), Block(16), Block(16)
model.pool, model.flat, model.head = (
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Linear(64, 10),
)

method = OneOf(
    {ManifoldMixup(): 3, PatchUp("hard", block_size=3): 2, CutMix(): 1}, prob=0.9
)
wrap(model, method, ["input", "layer1", "layer2"], seed=1)
mixer = get_mixer(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(300):
    batch = torch.arange(32 * step, 32 * (step + 1)) % len(x)
    output, target = model(x[batch], target=y[batch])
    loss = cross_entropy(output, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(mixer.history)

report = audit(model, x[:4])
figures = {}

# %%
# A batch, its partners and what CutMix makes of them. A step's plan says who is mixed with whom, and by which share; it
# needs no model.

plan = CutMix().plan(step=2, batch_size=32, seed=1)
figures["view_batch.png"] = view.batch(x[:32], plan, labels=y[:32])

# %%
# PatchUp's masks, at the layers of a ResNet.

shapes = {
    "input": (32, 3, 32, 32),
    "layer1": (32, 64, 32, 32),
    "layer2": (32, 128, 16, 16),
}
figures["view_masks.png"] = view.masks(PatchUp("hard"), shapes)

# %%
# The audit: which layers mix everything, and how many values each puts out.

figures["view_audit.png"] = view.audit(report)

# %%
# What was mixed in the 300 steps: where, when, and how much.

figures["view_history.png"] = view.history(mixer.history)

# %%
# Each is a Matplotlib figure: save it as any other.

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
for name, figure in figures.items():
    figure.savefig(folder / name, dpi=110)
    print(folder / name)
