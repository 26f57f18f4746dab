"""Transfer: the stem and two stages have learned five classes and stay as they are; the rest learns the other five."""

import json
from dataclasses import replace
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from evidence import Job, Run
from evidence.cifar.networks import build
from evidence.cifar.training import rows_of, scored, trained
from mixlayers.cli.data import DataSet, Labels, Split

TRUNK: Final = ("stem", "layer1", "layer2")
OLD: Final = 5
"""The trunk learns classes 0 to 4; the new ones are 5 to 9."""


class Still(nn.Module):
    """A part of a network that neither learns nor goes into training mode: its norms keep their statistics."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Still":
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.part(x)
        return output


def of_classes(data: DataSet, rows: Labels, new: bool) -> Labels:
    return rows[(data.labels[rows] >= OLD) == new]


@cache
def trunk(settings: str) -> dict[str, Tensor]:
    """State of a network that was trained, without mixing, on the old classes; `settings` as JSON."""
    asked: dict[str, Any] = json.loads(settings)
    data, rows = rows_of(asked)
    network = build(asked["network"], asked["width"], asked["stages"], asked["seed"], OLD)
    return trained(network, asked, data, of_classes(data, rows.train, new=False)).state_dict()


def work(job: Job, settings: Job) -> Run:
    """Train what follows the trunk on the new classes, and score on these."""
    asked: dict[str, Any] = {**settings, **job}
    n = asked["trunk_labels"]
    before = {**asked, "labels": n, "epochs": asked["trunk_epochs"], "epochs_at": n, "method": "plain"}
    network = build(asked["network"], asked["width"], asked["stages"], asked["seed"] + 1, OLD)
    learnt = trunk(json.dumps({**before, "batch": asked["trunk_batch"]}, sort_keys=True))
    kept = {name: value for name, value in learnt.items() if name.partition(".")[0] in TRUNK}
    with torch.no_grad():
        network.load_state_dict(kept, strict=False)
    for name in TRUNK:
        setattr(network, name, Still(getattr(network, name)))
    data, rows = rows_of(asked)
    chosen = Split(*(of_classes(data, part, new=True) for part in (rows.train, rows.validation, rows.test)))
    data = replace(data, labels=data.labels - OLD)
    return scored(trained(network, asked, data, chosen.train), data, chosen)
