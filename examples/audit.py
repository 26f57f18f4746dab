"""Choosing layers with the audit
==============================

A layer can be mixed if everything that the network knows of a sample passes through
it. The audit says which layers those are.
"""

import torch
from torch import Tensor, nn

from mixlayers import ManifoldMixup, view
from mixlayers.torch import audit, get_mixer, wrap

# %%
# A residual block adds its input to what its convolutions make of it. If you mixed the
# convolution's output, the other path would still carry the sample unmixed, and the
# label would promise more of the partner than the network ever sees. The block as a
# whole is fine: what comes out of it is all there is.


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())  # x goes round both convolutions


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.layer1 = nn.Sequential(Residual(16), Residual(16))
        self.layer2 = nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1), Residual(32))
        self.layer3 = nn.Sequential(nn.Conv2d(32, 64, 3, 2, padding=1), Residual(64))
        self.spare = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.mean((2, 3)))


# %%
# The audit sends a few samples through the network. It looks in the graph that
# autograd recorded for a way round each layer (the column "graph"); and it swaps
# samples at the layer and looks whether the outputs are swapped too ("swap").

model, images = Net(), torch.randn(4, 1, 8, 8)
report = audit(model, images)
print(report)

# %%
# Each verdict comes with its reason.

print(report["layer1.0.conv1"].reason)
print(report["spare"].reason)

# %%
# As a picture: the layers in order, and how many values each puts out.

view.audit(report)

# %%
# If you name no layers, the mixer takes the input and the ends of the first two
# stages, where the papers mix.

print(report.chosen)

# %%
# Or name layers yourself: by name, pattern or type, or a list of those. If one of them
# does not mix everything, you get an error before any training.

wrap(model, ManifoldMixup(), layers=["input", "stem", "layer[12]"], example=images)
print(get_mixer(model).places)

try:
    wrap(Net(), ManifoldMixup(), layers="layer1.0.conv1", example=images)
except ValueError as error:
    print(error)
