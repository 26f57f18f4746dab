"""A table of measurements
=======================

Mix the columns or the layers of an MLP. Is a tumour benign? 30 numbers of each of 569 (Breast Cancer Wisconsin, from
scikit-learn); 60 of them to train, since with more the plain network makes next to no mistakes.
"""

import numpy as np
import torch
from rtdl_revisiting_models import MLP
from sklearn.datasets import load_breast_cancer

from mixlayers import ManifoldMixup, Method, Mixup
from mixlayers.torch import accuracy, cross_entropy, get_mixer, wrap

TRAIN, STEPS, SEEDS = 60, 200, 3
x, y = load_breast_cancer(return_X_y=True)


def score(method: Method | None, seed: int) -> tuple[float, float]:
    """Test accuracy and negative log-likelihood after training."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[:TRAIN], order[TRAIN:]
    scaled = torch.tensor(
        (x - x[train].mean(0)) / x[train].std(0), dtype=torch.float32
    )
    labels = torch.tensor(y)
    torch.manual_seed(seed)
    model = MLP(d_in=30, d_out=2, n_blocks=3, d_block=64, dropout=0.1)
    if method is not None:
        wrap(model, method, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(STEPS):
        batch = torch.tensor(train)[torch.randperm(TRAIN)[:32]]
        if method is None:
            loss = cross_entropy(model(scaled[batch]), labels[batch])
        else:
            loss = cross_entropy(*model(scaled[batch], target=labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if method is not None and get_mixer(model).history.mixed != STEPS:
        raise SystemExit("not every step was mixed")
    model.eval()
    with torch.no_grad():
        output = model(scaled[test])
        return accuracy(output, labels[test]).item(), cross_entropy(
            output, labels[test]
        ).item()


print(
    f"{TRAIN} rows to train, {len(x) - TRAIN} to test; mean ± sd of {SEEDS} seeds\n"
    f"{'':15} accuracy        NLL"
)
found = {}
for name, method in {
    "plain": None,
    "Mixup": Mixup(0.5),
    "Manifold Mixup": ManifoldMixup(0.5),
}.items():
    scores = np.array([score(method, seed) for seed in range(SEEDS)])
    found[name] = scores.mean(0), scores.std(0, ddof=1)
    (hits, loss), (hits_sd, loss_sd) = found[name]
    print(f"{name:15} {hits:.3f} ± {hits_sd:.3f}   {loss:.3f} ± {loss_sd:.3f}")
if min(mean[0] for mean, _ in found.values()) < 0.9:
    raise SystemExit("an accuracy fell below 0.9: 0.63 is guessing")
if found["Manifold Mixup"][0][1] > found["plain"][0][1]:
    raise SystemExit("Manifold Mixup no longer lowers the NLL")
