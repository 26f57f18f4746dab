"""Regression: who should mix with whom?
=====================================

A label that is a number can be blended like a class. Mixup draws partners at random;
C-Mixup prefers partners whose labels are similar. Here both are tried.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from torch import nn

from mixlayers import ManifoldMixup, Method, Near
from mixlayers.torch import get_mixer, wrap

TRAIN, STEPS, SEEDS = 150, 300, 3

# %%
# How far will diabetes have progressed in a year? Ten measurements of each of 442
# patients come with scikit-learn.

x, y = load_diabetes(return_X_y=True)
print(f"progression {y.min():.0f} to {y.max():.0f}, standard deviation {y.std():.1f}")

# %%
# ``Near("label", h)`` draws partners whose labels are about ``h`` apart. Each point is
# a patient of a batch and its partner.

methods = {
    "plain": None,
    "random partners": ManifoldMixup(2.0),
    "near partners": ManifoldMixup(2.0, pairs=Near("label", 0.5)),
}


def partners(*names: str) -> Figure:
    own = (y[:128] - y.mean()) / y.std()
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        plan = methods[name].plan(step=0, batch_size=len(own), near={"label": own})
        axes.plot(own, own[plan.perm], "o", markersize=4)
        axes.set(
            title=name, xlabel="label, in standard deviations", ylabel="partner's"
        )
    return figure


partners("random partners", "near partners")

# %%
# The labels are divided by their standard deviation, so that 0.5 is half of it. The
# loss is any that you like: ``blend`` calls it with the samples' own labels and with
# their partners', and weights the two.


def score(method: Method | None, seed: int) -> float:
    """Root mean squared error on the test patients, in the label's unit."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = torch.tensor(order[:TRAIN]), torch.tensor(order[TRAIN:])
    scaled = (x - x[train].mean(0)) / x[train].std(0)
    features = torch.tensor(scaled, dtype=torch.float32)
    unit = y[train].std()
    labels = torch.tensor((y - y[train].mean()) / unit, dtype=torch.float32)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(10, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
        nn.Flatten(0),
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


# %%
# With 150 patients to train on, both kinds of mixing lower the error.

print(f"{TRAIN} patients to train, {len(x) - TRAIN} to test")
print(f"root mean squared error, mean ± sd of {SEEDS} seeds")
found: dict[str, float] = {}
for name, method in methods.items():
    scores = [score(method, seed) for seed in range(SEEDS)]
    found[name] = np.mean(scores)
    print(f"{name:16} {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f}")
print(f"{'the mean label':16} {y.std():.1f}")
if found["near partners"] > found["plain"]:
    raise SystemExit("mixing with near partners no longer lowers the error")
