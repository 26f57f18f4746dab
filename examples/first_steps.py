"""First steps
===========

Train a small network on real digits, with Manifold Mixup and without, and look at
what was mixed. Two lines of the training loop change.
"""

# %%
# The data: 1797 digits of 8x8 pixels, which come with scikit-learn. Only 200 of them
# are for training, since mixing helps most when labels are few; 200 are for
# validation, and all others for the test.

from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from mixlayers import ManifoldMixup, Mixup, view
from mixlayers.torch import accuracy, get_mixer, temperature, wrap

features, labels = load_digits(return_X_y=True)
x = torch.tensor(features / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(labels)
order = torch.tensor(np.random.default_rng(0).permutation(len(x)))
train, validation, test = order.split([200, 200, len(x) - 400])

# %%
# This is Mixup: each image is blended with a partner from the same batch, and so are
# their labels. Manifold Mixup blends the output of a layer instead, and draws the layer
# anew in each step.

plan = Mixup(alpha=2.0).plan(step=1, batch_size=len(train))
view.batch(x[train], plan, labels=y[train], samples=5)

# %%
# An ordinary network: nothing in it is written for mixing.


def stage(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU())


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = OrderedDict(
        layer1=stage(1, 32),
        layer2=stage(32, 32, stride=2),
        layer3=stage(32, 64),
        flatten=nn.Flatten(),
        head=nn.Linear(64 * 16, 10),
    )
    return nn.Sequential(layers)


# %%
# ``wrap`` returns the model that it was given. From now on the model takes a
# ``target`` beside the batch, and returns the mixed target beside the output. The
# usual losses of PyTorch take a mixed target where they take labels.


def fit(model: nn.Module, mixed: bool) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(200):
        batch = train[torch.randint(len(train), (64,))]
        if mixed:
            output, target = model(x[batch], target=y[batch])
        else:
            output, target = model(x[batch]), y[batch]
        loss = F.cross_entropy(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


plain = fit(network(seed=0), mixed=False)
mixed = fit(wrap(network(seed=0), ManifoldMixup(alpha=2.0)), mixed=True)

# %%
# The mixer has recorded what each step did. We named no layers, so it audited the
# model with the first batch, to find layers that everything passes through, and took
# the input and the first two stages.

print(get_mixer(mixed).history)
view.history(get_mixer(mixed))

# %%
# In eval mode nothing is mixed: predict as you always do.


def score(model: nn.Module) -> tuple[float, float, float]:
    """Test accuracy, loss, and loss with the logits divided by a temperature."""
    with torch.no_grad():
        output, logits = model(x[test]), model(x[validation])
    scaled = output / temperature(logits, y[validation])
    losses = (F.cross_entropy(z, y[test]).item() for z in (output, scaled))
    return accuracy(output, y[test]).item(), *losses


def row(name: str, scores: tuple[float, float, float]) -> str:
    return "{:15} {:.3f}     {:.3f}     {:.3f}".format(name, *scores)


print(f"{'':15} accuracy  loss      loss at T")
print(row("plain", score(plain)))
print(row("Manifold Mixup", score(mixed)))

# %%
# A network that is trained on blends is underconfident: it is right more often than it
# claims. Dividing its logits by one number fixes that, the temperature T, which was
# fitted on the validation images. So compare the losses at T.
#
# One run proves little. Here are three more of each, from other initial weights.


def more(mixed: bool) -> np.ndarray:
    models = (network(seed) for seed in range(1, 4))
    fitted = (fit(wrap(model) if mixed else model, mixed) for model in models)
    return np.array([score(model) for model in fitted])


without, with_mixing = more(mixed=False), more(mixed=True)
print(f"{'mean of 3':15} accuracy  loss      loss at T")
print(row("plain", tuple(without.mean(0))))
print(row("Manifold Mixup", tuple(with_mixing.mean(0))))
gains = with_mixing[:, 0] - without[:, 0]
print("gains in accuracy:", ", ".join(f"{gain:+.3f}" for gain in gains))

# %%
# Mixing does not always win. Our first try, with BatchNorm in the network and 100 digits
# to train on, came out the other way round in all of five runs; our second, with 100
# images of MNIST and a network that learned badly, in all of three. Compare on your own
# data, over several seeds. The pages under "Evidence" say where mixing gained and where
# it lost.
