"""Mixup while the DataLoader puts batches together
================================================

In this process, and in two workers.
"""

# sphinx_gallery_thumbnail_path = "pictures/batch.png"

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers import Mixup
from mixlayers.torch import MixCollate


def train_and_test(workers: int) -> float:
    torch.manual_seed(0)
    features, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(features / 16, dtype=torch.float32), torch.tensor(labels)
    loader = DataLoader(
        TensorDataset(x[:1437], y[:1437]),
        batch_size=64,
        shuffle=True,
        num_workers=workers,
        collate_fn=MixCollate(Mixup(alpha=0.2), num_classes=10),
    )
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(8):
        for (
            images,
            soft_targets,
        ) in loader:  # soft_targets: (N, 10), rows that sum to one
            loss = F.cross_entropy(model(images), soft_targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (model(x[1437:]).argmax(1) == y[1437:]).float().mean().item()


if __name__ == "__main__":  # worker processes may import this file again
    for workers in (0, 2):
        print(f"{workers} workers: test accuracy {train_and_test(workers):.3f}")
