"""Which layers of a network mix everything?
=========================================

Those that nothing goes round.
"""

# sphinx_gallery_thumbnail_path = "pictures/view_audit.png"

import torch
from torch import Tensor, nn

from mixlayers.torch import audit

# %%
# A residual block adds its input to what its convolutions make of it. A convolution inside it sees only a part of what
# the layers behind the block get to see; the block as a whole sees everything.


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
        return self.head(self.layer3(self.layer2(self.layer1(self.stem(x)))).mean((2, 3)))


# %%
# The audit sends a few samples through the network, once, and looks in the graph that autograd recorded for a way from
# the output to the input that goes round a layer.

report = audit(Net(), torch.randn(2, 1, 8, 8))
print(report)

# %%
# Where mixing takes place if nobody names layers.

print(f"auto chooses: {', '.join(report.chosen)}")
