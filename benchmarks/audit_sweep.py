"""Audit models of whole libraries, and look at the verdicts again in another way.

    nice -n 10 python benchmarks/audit_sweep.py [--record] [--families 36] [--names resnet18 ...] [--seconds 60]

Of pytorchcv, torchvision and timm, whichever is there. A family is a source file; its model is the smallest among the
first names. Weights are random, images small. A second experiment, which needs no batch axis and no gradient graph,
judges the verdicts: a layer returns what it did for other images, and the outputs must then be theirs.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import random
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from norms import LIBRARIES, Makers
from torch import Tensor, nn

from mixlayers._core.audit.proof import Proof
from mixlayers._core.audit.trial import Trial
from mixlayers._core.audit.verdicts import output_tensors
from mixlayers._core.plan.plan import INPUT
from mixlayers.cli.audit import declared_shape
from mixlayers_torch._audit import put_on_trial
from mixlayers_torch._framework import TORCH

PAGE = Path(__file__).parents[1] / "docs" / "choosing_layers.md"
SIZES = (64, 128, 224, 299)
LOOKED_AT = 4
"""Names of a family among which the smallest is taken."""

LAYERS = 9
"""Layers of a model that the graph calls true and that are swapped beside auto's, spread over all of them."""

ALIKE = 1e-4
"""Outputs that are this near, as a share of the largest, are the same."""

SHARED = ("pytorchcv", "torchvision", "timm")


class TooLong(BaseException):
    """A model took more than its time; nothing may swallow it."""


@dataclass
class Found:
    """What came of one library.

    Attributes:
        models: Audited.
        proved: Those with auto's places proved.
        places: Auto's hidden places, and those of them that the second experiment bears out.
        true: Other layers that the graph calls true and that were swapped, and those that the swap proves.
        false_alarms: Layers that the second experiment bears out, but the swap refutes.
        not_run: Models that take no such images, could not be made, or took too long.
    """

    models: int = 0
    proved: int = 0
    places: list[int] = field(default_factory=lambda: [0, 0])
    true: list[int] = field(default_factory=lambda: [0, 0])
    false_alarms: int = 0
    not_run: int = 0

    def add(self, other: Found) -> None:
        for counts, more in ((self.places, other.places), (self.true, other.true)):
            counts[:] = [a + b for a, b in zip(counts, more, strict=True)]
        self.models += other.models
        self.proved += other.proved
        self.false_alarms += other.false_alarms

    def row(self, library: str) -> str:
        version = metadata.version(library)
        chosen, layers = (f"{some[1]:,} of {some[0]:,}" for some in (self.places, self.true))
        return f"| {library} {version} | {self.models} | {self.proved} | {chosen} | {layers} | {self.false_alarms} |"


def family(library: str, name: str) -> str:
    """The source file that a model is made in."""
    if library == "timm":
        return str(importlib.import_module("timm").model_entrypoint(name).__module__)
    if library == "torchvision":
        return str(importlib.import_module("torchvision.models").get_model_builder(name).__module__)
    return str(importlib.import_module("pytorchcv.model_provider")._models[name].__module__)


def parameters(make: Callable[[], nn.Module]) -> float:
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in make().parameters())
    except Exception:  # some cannot be made without values
        return float("inf")


def spread(rows: Sequence[Any], most: int) -> list[Any]:
    """So many of them, evenly."""
    return [rows[at * len(rows) // most] for at in range(most)] if len(rows) > most else list(rows)


def smallest(library: str, makers: Makers, families: int) -> Makers:
    """One model each of so many families."""
    named = sorted(((family(library, name), name, make) for name, make in makers), key=lambda row: row[0])
    grouped = [list(rows)[:LOOKED_AT] for _, rows in groupby(named, key=lambda row: row[0])]
    for some in spread(grouped, families):
        _, name, make = min(some, key=lambda row: parameters(row[2]))
        yield name, make


def lively(model: nn.Module) -> nn.Module:
    """With noise for parameters that are nearly zero, which switch a branch off."""
    with torch.no_grad():
        for p in model.parameters():
            if p.numel() and p.is_floating_point() and not (p.abs() > 1e-3).any():
                p.normal_(std=0.1)
    return model.train()


def on_trial(model: nn.Module) -> tuple[Trial, Tensor]:
    """The audit of a model, on the smallest images that it takes."""
    channels, *declared = declared_shape(model) or (3, 299, 299)
    tried = [(size, size) for size in SIZES if size < max(declared)] + [tuple(declared)]
    for size in tried:
        images = torch.randn(4, channels, *size, generator=torch.Generator().manual_seed(0))
        try:
            trial = put_on_trial(model, (images,), {}, 0)
            if trial.graph is not None:
                return trial, images
        except ValueError:
            if size == tried[-1]:
                raise
    raise ValueError(trial.unreadable)


def outputs(model: nn.Module, images: Tensor, at: str = "", held: Any = None) -> tuple[list[Tensor], Any]:
    """A training forward with the same random numbers each time: the outputs, and what a layer returned.

    Args:
        at: The layer.
        held: What it is to return instead.
    """
    kept: list[Any] = []
    handle = None
    if at:
        hold: Callable[..., Any] = lambda _, __, output: kept.append(output) or held  # noqa: E731
        handle = model.get_submodule(at).register_forward_hook(hold)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # models draw from it
    try:
        with torch.no_grad():
            found = output_tensors(TORCH, model(images))
    finally:
        if handle is not None:
            handle.remove()
    return [x for x in found if x.is_floating_point()], kept[0] if kept else None


def holds_all(model: nn.Module, at: str, images: Tensor) -> bool:
    """Whether a layer holds all of the images: what it returned for them decides the outputs."""
    others = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    wanted, feature = outputs(model, images, at)
    got, _ = outputs(model, others, at, feature)
    apart = max(float(x.abs().max()) for x in wanted)
    return all(float((x - y).abs().max()) <= ALIKE * apart for x, y in zip(wanted, got, strict=True))


def sweep_model(name: str, model: nn.Module, found: Found, notes: list[str]) -> None:
    """Audit one model into what is found of it."""
    trial, images = on_trial(model)
    found.models += 1
    try:
        chosen = trial.choose("auto")
    except ValueError as error:
        notes.append(f"{name}: auto finds nothing: {str(error)[:100]}")
        chosen = ()
    hidden = [place for place in chosen if place != INPUT]
    if hidden and all(trial.proofs[place].verdict == "yes" for place in chosen):
        found.proved += 1
    elif hidden:
        notes.append(f"{name}: auto's places are not proved: {_listed(trial.prove(chosen))}")
    found.places[0] += len(hidden)
    for place in hidden:
        borne_out = holds_all(model, place, images)
        found.places[1] += borne_out
        if not borne_out:
            notes.append(f"{name}: auto's {place} is not borne out")
    others = [point.name for point in trial.readable() if point.true and point.name not in chosen]
    by_graph = spread(others, LAYERS)
    proofs = trial.prove(by_graph)
    found.true[0] += len(by_graph)
    found.true[1] += sum(proof.verdict == "yes" for proof in proofs.values())
    told = {place: proof for place, proof in proofs.items() if proof.verdict != "yes"}
    refuted = [place for place, proof in told.items() if proof.verdict == "no"]
    alarms = [place for place in refuted if holds_all(model, place, images)]
    found.false_alarms += len(alarms)
    if told:
        notes.append(f"{name}: the graph alone calls true {_listed(told)}; false alarms: {alarms or 'none'}")


def _listed(proofs: dict[str, Proof], most: int = 3) -> str:
    some = [f"{place} {proof.verdict} ({proof.reason[:80]})" for place, proof in proofs.items()]
    return "; ".join(some[:most]) + (f" and {len(some) - most} more" if len(some) > most else "")


def sweep(library: str, names: Sequence[str], families: int, seconds: int) -> Found:
    """Audit a library's models: those by these names, or one each of so many families."""
    found = Found()
    makers = LIBRARIES[library]()
    models = [m for m in makers if m[0] in names] if names else smallest(library, makers, families)

    def stop(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, stop)
    for name, make in models:
        notes: list[str] = []
        said, own = "audited", Found()
        torch.manual_seed(0)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sweep_model(name, lively(make()), own, notes)
        except TooLong:
            said = f"not done in {seconds} seconds of the processor"
        except Exception as error:  # other people's code, on images that it may not be for
            said = f"not run: {type(error).__name__}: {str(error)[-160:]!r}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if said == "audited":
            found.add(own)
        else:
            found.not_run += 1
        print(f"{library} {name}: {said}", *notes, sep="\n    ", flush=True)
        gc.collect()
    print(f"{library}: {found}", flush=True)
    return found


def record(library: str, found: Found) -> None:
    """Put a library's row into the page's table in the place of an older one."""
    text, mark = PAGE.read_text(encoding="utf-8"), "<!-- audit sweep -->\n"
    before, table, after = text.split(mark)
    rows = [line for line in table.split("\n") if line and not line.startswith(f"| {library} ")]
    made = "\n".join(["", *rows, found.row(library), "", ""])
    PAGE.write_text(mark.join([before, made, after]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help=f"write the rows into {PAGE.name}")
    parser.add_argument("--libraries", nargs="*", default=SHARED, help="leave others out")
    parser.add_argument("--names", nargs="*", default=(), help="these models instead of one of each family")
    parser.add_argument(
        "--families", type=int, default=36, help="at most so many of a library, spread evenly"
    )
    parser.add_argument("--seconds", type=int, default=60, help="the processor's time for one model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for library in filter(importlib.util.find_spec, options.libraries):
        found = sweep(library, options.names, options.families, options.seconds)
        if options.record:
            record(library, found)


if __name__ == "__main__":
    main()
