"""Draw what mixing does: a batch, the masks, the audit, the history.

python examples/seeing.py [folder]    # docs/pictures has what `python examples/seeing.py docs/pictures` drew
"""

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


torch.manual_seed(0)
model = nn.Sequential()
model.stem = nn.Conv2d(1, 16, 3, padding=1)
model.layer1, model.layer2, model.layer3 = Block(16), Block(16), Block(16)
model.pool, model.flat, model.head = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)

method = OneOf({ManifoldMixup(): 3, PatchUp("hard", block_size=3): 2, CutMix(): 1}, prob=0.9)
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
plan = CutMix().plan(step=2, batch_size=32, seed=1)
shapes = {"input": (32, 3, 32, 32), "layer1": (32, 64, 32, 32), "layer2": (32, 128, 16, 16)}  # a ResNet's
figures = {
    "view_batch.png": view.batch(x[:32], plan, labels=y[:32]),
    "view_masks.png": view.masks(PatchUp("hard"), shapes),
    "view_audit.png": view.audit(report),
    "view_history.png": view.history(mixer.history),
}
folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
for name, figure in figures.items():
    figure.savefig(folder / name, dpi=110)
    print(folder / name)
