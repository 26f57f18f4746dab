"""Domain shift: a colour that misleads
====================================

In training nearly all high digits are green and nearly all low ones red. In the test
it is the other way round. LISA and MixStyle are made for that.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mixlayers import MixStyle
from mixlayers.presets import PRESETS
from mixlayers.torch import mix, wrap

TRAIN, STEPS, SEEDS = 1000, 200, 3

# %%
# Is a digit 5 or more? The digits are scikit-learn's. Each is painted red or green: the
# colour fits the label in 95 % of the training images, and in 5 % of the test images.
# The colour is the domain. This is a small version of Colored MNIST.

digits = load_digits()


def painted(
    rows: np.ndarray, fits: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 2, 8, 8) with a red and a green channel, labels, and colours."""
    label = digits.target[rows] >= 5
    colour = label == (np.random.default_rng(seed).random(len(rows)) < fits)
    images = np.zeros((len(rows), 2, 8, 8), np.float32)
    images[np.arange(len(rows)), colour.astype(int)] = digits.images[rows] / 16
    return (
        torch.tensor(images),
        torch.tensor(label).long(),
        torch.tensor(colour).long(),
    )


def parts(seed: int) -> tuple[tuple[Tensor, ...], ...]:
    """Training images, test images like them, and some with the colours reversed."""
    rows = np.random.default_rng(seed).permutation(len(digits.target))
    train, test = rows[:TRAIN], rows[TRAIN:]
    return (
        painted(train, 0.95, seed),
        painted(test, 0.95, seed + 1),
        painted(test, 0.05, seed + 2),
    )


def picture(rows: dict[str, Tensor]) -> Figure:
    figure = Figure(figsize=(6.4, 1.0 * len(rows)), layout="constrained")
    for line, (name, images) in zip(
        figure.subplots(len(rows), 10), rows.items(), strict=True
    ):
        line[0].set_ylabel(name)
        for axes, image in zip(line, images, strict=False):
            red, green = image.clamp(0, 1)
            axes.imshow(torch.stack([red, green, torch.zeros_like(red)], -1).numpy())
            axes.set(xticks=[], yticks=[])
    return figure


train, _, reversed_test = parts(seed=0)
picture({"training": train[0], "test": reversed_test[0]})


# %%
# A small network. Each way to train it is a function that returns the loss to use.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.late(self.early(x)))


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(model: nn.Module) -> Loss:
    return lambda x, y, colour: F.cross_entropy(model(x), y)


# %%
# MixStyle exchanges the style of hidden features, the mean and the deviation of each
# channel, and leaves the labels. It is not told what the domains are.


def mixstyle(model: nn.Module) -> Loss:
    wrap(model, MixStyle(), layers=["input", "early"])
    return lambda x, y, colour: F.cross_entropy(model(x), y)


# %%
# LISA is told. It mixes images of the same label and another colour, so that colour says
# nothing; or of the same colour and another label, so that the label must be found
# elsewhere. The target holds label and colour, and the partners are chosen by them. A
# batch must contain such pairs, so it gets as many images of each label in each colour. In
# random batches, most of whose images have the usual colour, LISA got only 6 % right, fewer
# than plain training.


def lisa(model: nn.Module) -> Loss:
    steps = iter(range(STEPS))

    def loss(x: Tensor, y: Tensor, colour: Tensor) -> Tensor:
        both = {"label": y, "domain": colour}
        mixed, target = mix(x, both, PRESETS["lisa"].method, step=next(steps))
        output = model(mixed)
        each = target.blend(
            lambda t: F.cross_entropy(output, t["label"], reduction="none")
        )
        return each.mean()

    return loss


def balanced(y: Tensor, colour: Tensor) -> Tensor:
    """64 rows, 16 of each label in each colour."""
    groups = [torch.nonzero(2 * y + colour == group).flatten() for group in range(4)]
    return torch.cat([group[torch.randint(len(group), (16,))] for group in groups])


torch.manual_seed(0)
rows = balanced(*train[1:])
x, y, colour = (part[rows] for part in train)
mixed, target = mix(x, {"label": y, "domain": colour}, PRESETS["lisa"].method, step=0)
picture({"training": x, "partners": x[target.plan.perm], "LISA": mixed})

# %%
# How accurate are they with the colours as in training, and with the colours reversed?
# Balancing the batches is most of the cure; LISA adds to it, though hardly more than the
# seeds differ. MixStyle does not help, with two channels that are the colour itself.


def score(
    way: Callable[[nn.Module], Loss], even: bool, seed: int
) -> tuple[float, float]:
    (x, y, colour), *tests = parts(seed)
    torch.manual_seed(seed)
    model = Net()
    loss_of = way(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        batch = balanced(y, colour) if even else torch.randint(TRAIN, (64,))
        loss = loss_of(x[batch], y[batch], colour[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        same, other = (
            (model(x).argmax(1) == y).float().mean().item() for x, y, _ in tests
        )
    return same, other


print(f"accuracy, mean ± sd of {SEEDS} seeds\n{'':15} same colours    reversed")
ways = {
    "plain": (plain, False),
    "MixStyle": (mixstyle, False),
    "plain, balanced": (plain, True),
    "LISA, balanced": (lisa, True),
}
found = {}
for name, (way, even) in ways.items():
    scores = np.array([score(way, even, seed) for seed in range(SEEDS)])
    (same, other), (same_sd, other_sd) = scores.mean(0), scores.std(0, ddof=1)
    found[name] = other
    print(f"{name:15} {same:.3f} ± {same_sd:.3f}   {other:.3f} ± {other_sd:.3f}")
if found["LISA, balanced"] < found["plain"]:
    raise SystemExit("LISA no longer helps with the colours reversed")
