"""Time what the audit costs: the first, in forwards of as many samples, and the proofs again in a thousand steps.

    python benchmarks/audit_cost.py [--record] [--rounds 7]

Processor time of one thread, in turns with what it is compared with; medians of the ratios. In the good case all places
that auto picks are proved in one forward.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from pytorchcv.model_provider import get_model
from torch import Tensor, nn

from mixlayers import ManifoldMixup
from mixlayers._core.batch.token_masks import mask_meanings, masked_modules
from mixlayers.torch import cross_entropy, get_mixer, wrap
from mixlayers_torch._audit import put_on_trial

PAGE = Path(__file__).parents[1] / "docs" / "choosing_layers.md"
STEPS = 1000
AGAIN = [step for step in (2**power for power in range(1, 20)) if step <= STEPS]
SAMPLES = 4


def images(count: int, size: int) -> dict[str, Tensor]:
    return {"x": torch.randn(count, 3, size, size)}


def tokens(count: int) -> dict[str, Tensor]:
    return {
        "input_ids": torch.randint(100, 30000, (count, 64)),
        "attention_mask": torch.ones(count, 64, dtype=torch.int64),
    }


def bert() -> nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig())


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], dict[str, Tensor]], str | None]] = {
    "ResNet-20, images of 32": (
        lambda: get_model("resnet20_cifar10"), lambda count: images(count, 32), None
    ),
    "ResNet-18, images of 224": (lambda: get_model("resnet18"), lambda count: images(count, 224), None),
    "BERT-base, 64 tokens": (bert, tokens, "attention_mask"),
}  # fmt: skip


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def logits(output: Any) -> Tensor:
    return getattr(output, "logits", output)


def first_audit(model: nn.Module, few: dict[str, Tensor], mask: str | None) -> None:
    """What `wrap(model)` does with its first batch."""
    modules = {"": model, **{name: module for name, module in model.named_modules() if name}}
    masked = masked_modules(mask_meanings(mask), modules) if mask else {}
    trial = put_on_trial(model, (), few, 0, masked)
    places = trial.choose("auto")
    if any(trial.proofs[place].verdict != "yes" for place in places):
        raise SystemExit(f"not the good case: {trial.proofs}")


def measured(name: str, rounds: int, batch: int) -> tuple[float, float]:
    """The first audit, in forwards of as many samples; and the proofs again, as a share of the steps."""
    build, inputs, mask = CASES[name]
    model = build().train()
    few, labels = inputs(SAMPLES), torch.arange(batch) % 2

    def forward() -> None:
        with torch.no_grad():
            model(**few)

    first_audit(model, few, mask)
    audits = [seconds(lambda: first_audit(model, few, mask)) / seconds(forward) for _ in range(rounds)]
    example = inputs(batch)
    wrap(model, ManifoldMixup(), mask=mask, example=example)
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    judge = get_mixer(model)._judge

    def step() -> None:
        optimiser.zero_grad()
        output, target = model(**example, target=labels)
        cross_entropy(logits(output), target).backward()
        optimiser.step()

    def again() -> None:
        judge._forwards = 1
        judge.again(model, (), example)
        judge._forwards = 2

    judge._forwards = 2
    step()
    shares = []
    for _ in range(rounds):
        judge._forwards = 2  # so that the step itself is none with a proof
        shares.append(seconds(again) / seconds(step))
    return median(audits), median(shares) * len(AGAIN) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16, help="samples in a step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        f"| model | first audit, in forwards of {SAMPLES} samples | {len(AGAIN)} proofs again in {STEPS:,} steps of "
        f"{options.batch} samples |",
        "|---|---|---|",
    ]
    for name in CASES:
        audit, again = measured(name, options.rounds, options.batch)
        lines.append(f"| {name} | {audit:.2f} | {again:.2%} |")
        print(lines[-1], flush=True)
    if options.record:
        text, mark = PAGE.read_text(encoding="utf-8"), "<!-- audit cost -->\n"
        before, _, after = text.split(mark)
        PAGE.write_text(mark.join([before, "\n".join(["", *lines, "", ""]), after]), encoding="utf-8")


if __name__ == "__main__":
    main()
