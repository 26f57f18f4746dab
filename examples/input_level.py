"""CutMix of the input batch, without touching the model
=====================================================

`mixed, target = mix(x, y, CutMix())`.
"""

# sphinx_gallery_thumbnail_path = "pictures/view_batch.png"

import torch
from sklearn.datasets import load_digits
from torch import nn

from mixlayers import CutMix
from mixlayers.torch import accuracy, cross_entropy, mix

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(labels)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, stride=2, padding=1),
    nn.BatchNorm2d(64),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64 * 16, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
method = CutMix(
    alpha=1.0, prob=0.5
)  # half of the batches stay as they are, as its authors do on CIFAR

step = 0
for _ in range(8):
    scores = []
    for batch in torch.randperm(1437).split(64):
        mixed, target = mix(x[batch], y[batch], method, step=step)
        output = model(mixed)
        loss = cross_entropy(output, target, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores.append(
            accuracy(output, target).item()
        )  # both labels count, by their shares
        step += 1

model.eval()
with torch.no_grad():
    test = accuracy(model(x[1437:]), y[1437:])
print(
    f"accuracy on the mixed batches of the last epoch {sum(scores) / len(scores):.3f}"
)
print(f"test accuracy {test:.3f}")
