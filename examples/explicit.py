"""Manifold Mixup, asked for at each call
======================================

`output, target = model(x, target=y)`.
"""

# sphinx_gallery_thumbnail_path = "pictures/hidden.png"

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap


def stage(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)


# %%
# The model is an ordinary one. `wrap` gives back the same object, which from now on takes a `target`; with
# `layers="auto"`, the default, it looks at the first training batch to find the layers that mix everything.

torch.manual_seed(0)
x, y = digits()
model = nn.Sequential(
    OrderedDict(
        layer1=stage(1, 32),
        layer2=stage(32, 64, stride=2),
        layer3=stage(64, 64),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(64, 10),
    )
)
wrap(model, ManifoldMixup(alpha=2.0))

# %%
# In training mode each call mixes: the output is that of the mixed batch, and `target` knows which labels it has, and
# by which shares. `cross_entropy` takes it as it would take labels.

optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(8):
    model.train()
    for batch in torch.randperm(1437).split(64):
        output, target = model(x[batch], target=y[batch])
        loss = cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %%
# In eval mode the same call mixes nothing.

model.eval()
with torch.no_grad():
    output, target = model(x[1437:], target=y[1437:])
mixer = get_mixer(model)
print(f"mixed {mixer.step} batches, at one of {mixer.places} each")
print(f"test accuracy {accuracy(output, target):.3f}")
