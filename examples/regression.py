"""Regression: mix patients whose disease is alike
===============================================

How far will diabetes have progressed in a year? Ten measurements of each of 442 patients (from scikit-learn). Partners
at random are what Mixup does; partners of like labels, `pairs=Near("label", ...)`, are what C-Mixup does.
"""

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn

from mixlayers import ManifoldMixup, Method, Near
from mixlayers.torch import get_mixer, wrap

TRAIN, STEPS, SEEDS = 150, 300, 3
x, y = load_diabetes(return_X_y=True)


def score(method: Method | None, seed: int) -> float:
    """Root mean squared error on the test patients, in the label's unit."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = torch.tensor(order[:TRAIN]), torch.tensor(order[TRAIN:])
    features = torch.tensor((x - x[train].mean(0)) / x[train].std(0), dtype=torch.float32)
    unit = y[train].std()
    labels = torch.tensor((y - y[train].mean()) / unit, dtype=torch.float32)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0)
    )
    if method is not None:
        wrap(model, method, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    error = nn.MSELoss()
    for _ in range(STEPS):
        batch = train[torch.randperm(TRAIN)[:64]]
        if method is None:
            loss = error(model(features[batch]), labels[batch])
        else:
            output, target = model(features[batch], target=labels[batch])
            loss = target.blend(lambda label, output=output: error(output, label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    with torch.no_grad():
        return error(model.eval()(features[test]), labels[test]).sqrt().item() * unit


print(
    f"{TRAIN} patients to train, {len(x) - TRAIN} to test; root mean squared error, mean ± sd of {SEEDS} seeds"
)
methods = {
    "plain": None,
    "random partners": ManifoldMixup(2.0),
    "near partners": ManifoldMixup(2.0, pairs=Near("label", 0.5)),  # in standard deviations of the label
}
found: dict[str, float] = {}
for name, method in methods.items():
    scores = [score(method, seed) for seed in range(SEEDS)]
    found[name] = np.mean(scores)
    print(f"{name:16} {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}")
print(f"{'the mean label':16} {y.std():.1f}")
if found["near partners"] > found["plain"]:
    raise SystemExit("mixing with near partners no longer lowers the error")
