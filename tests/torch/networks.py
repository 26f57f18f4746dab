"""Small networks for the tests of hooks; real models are in models.py."""

import torch
from torch import nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.norm(self.conv(x)))


class Net(nn.Module):
    """Three stages, each a residual block."""

    def __init__(self, width=6, dropout=0.0):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.layer1, self.layer2, self.layer3 = Block(width), Block(width), Block(width)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(width, 4)

    def trunk(self, x):
        return self.layer3(self.layer2(self.layer1(self.stem(x))))

    def forward(self, x):
        return self.head(self.dropout(self.trunk(x).mean((2, 3))))


def net(kind=Net, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**options)


def batch(size=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.randint(4, (size,), generator=generator)
