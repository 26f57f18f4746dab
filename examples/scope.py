"""PatchUp through a scope
=======================

For a call of the model that cannot be changed.
"""

# sphinx_gallery_thumbnail_path = "pictures/view_masks.png"

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import PatchUp
from mixlayers.torch import Mixer, cross_entropy


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.late = nn.Sequential(
            nn.Conv2d(32, 64, 3, 2, padding=1), nn.BatchNorm2d(64), nn.ReLU()
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.late(self.early(x)).mean((2, 3)))


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Stands for code of somebody else that calls the model, and knows of no target."""
    return model(x)


torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(labels)

model = Net()
# On maps of 8 x 8 the published block of 7 x 7 and gamma would replace nearly everything.
mixer = Mixer(
    model, PatchUp("hard", block_size=3, portion=0.3), layers=["input", "early"]
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
shares = []

for _ in range(8):
    for batch in torch.randperm(1437).split(64):
        with mixer(y[batch]) as target:
            output = predict(model, x[batch])
        loss = cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if target.layer == "early":
            shares.append(target.s)

model.eval()
with torch.no_grad():
    correct = predict(model, x[1437:]).argmax(1) == y[1437:]
print(
    f"share of the partner at 'early': {sum(shares) / len(shares):.2f} on average "
    f"over {len(shares)} batches"
)
print(f"test accuracy {correct.float().mean():.3f}")
