"""A training loop that stays as it was
====================================

Only the model's mixer and the criterion are new.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers import ManifoldMixup
from mixlayers.torch import Mixer


def train(
    model: nn.Module,
    loader: DataLoader,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Stands for a loop, or a trainer, that knows nothing of mixing."""
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()


torch.manual_seed(0)
features, labels = load_digits(return_X_y=True)
x, y = torch.tensor(features / 16, dtype=torch.float32), torch.tensor(labels)
loader = DataLoader(TensorDataset(x[:1437], y[:1437]), batch_size=64, shuffle=True)
model = nn.Sequential(
    nn.Sequential(nn.Linear(64, 128), nn.ReLU()),
    nn.Sequential(nn.Linear(128, 128), nn.ReLU()),
    nn.Linear(128, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

mixer = Mixer(model, ManifoldMixup(alpha=2.0), layers=["input", "0"])
criterion = mixer.loss(
    nn.CrossEntropyLoss()
)  # from here on each training forward mixes
print(f"still a CrossEntropyLoss: {isinstance(criterion, nn.CrossEntropyLoss)}")

for _ in range(15):
    train(model, loader, criterion, optimizer)

model.eval()
with torch.no_grad():
    output = model(x[1437:])
    loss = criterion(
        output, y[1437:]
    )  # nothing was mixed in eval mode, so this is the plain loss
correct = output.argmax(1) == y[1437:]
print(f"test loss {loss:.3f}, accuracy {correct.float().mean():.3f}")
