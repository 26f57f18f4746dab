"""Models of others whose true places were set by hand, and what the audit says of them.

`python tests/torch/audit_zoo.py --write` puts the table into docs/choosing_layers.md.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mixlayers._core.audit.proof import Proof
from mixlayers._core.batch.token_masks import mask_meanings, masked_modules
from mixlayers_torch._audit import put_on_trial
from tests.torch.audit_models import (
    Contrast,
    FrozenTable,
    TwoHeads,
    adapted,
    bart,
    captioned,
    classifier,
    clip,
    clip_classifier,
    detr,
    gpt2,
    ids,
    own,
    padded,
    pictures,
    reformer,
    small_pictures,
    sounds,
    wav2vec2,
)
from tests.torch.models import CASES, make

PAGE = Path(__file__).parents[2] / "docs" / "choosing_layers.md"
BEGIN, END = "<!-- audit zoo -->", "<!-- end of audit zoo -->"


class Case(NamedTuple):
    """A model, its input, and the truth of places.

    Attributes:
        build: The model.
        inputs: What it takes.
        truth: Place -> whether all of a sample passes through it.
        mask: The padding mask that the user names.
        why: Where samples go round.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    truth: dict[str, bool]
    mask: str | None = None
    why: str = ""


MASK = "attention_mask"
LORA = "base_model.model"
LAST = "the head reads each sample's own last token"
ZOO = {
    "BERT, mask named": Case(
        lambda: classifier("Bert"), padded, {"bert.embeddings": True, "bert.encoder.layer.1": True}, MASK
    ),
    "BERT, mask not named": Case(
        lambda: classifier("Bert"), padded, {"bert.encoder.layer.1": False}, why="the padding mask"
    ),
    "BERT, self-attention": Case(
        lambda: classifier("Bert"), padded, {"bert.encoder.layer.1.attention.self": False}, MASK, "residual"
    ),
    "RoBERTa, mask named": Case(
        lambda: classifier("Roberta"), padded, {"roberta.embeddings": True, "roberta.encoder.layer.0": True}, MASK
    ),
    "Electra, mask named": Case(
        lambda: classifier("Electra", embedding_size=16), padded, {"electra.encoder.layer.0": True}, MASK
    ),
    "DeBERTa-v2, mask named": Case(
        lambda: classifier("DebertaV2"), padded, {"deberta.encoder.layer.0": True}, MASK
    ),
    "DistilBERT, mask named": Case(
        lambda: classifier("DistilBert", dim=16, hidden_dim=32, n_heads=2, n_layers=3),
        padded, {"distilbert.transformer.layer.0": True}, MASK,
    ),
    "Longformer, mask named": Case(
        lambda: classifier("Longformer", attention_window=4), padded, {"longformer.encoder.layer.0": False}, MASK,
        "masks derived inside",
    ),
    "Llama, padded right": Case(
        lambda: classifier("Llama", num_key_value_heads=2), padded,
        {"model.embed_tokens": False, "model.layers.0": False}, MASK, LAST,
    ),
    "Llama, padded left": Case(
        lambda: classifier("Llama", num_key_value_heads=2), lambda: padded(left=True), {"model.layers.0": True}, MASK
    ),
    "GPT-2, padded right": Case(gpt2, padded, {"transformer.h.0": False}, MASK, LAST),
    "GPT-2, padded left": Case(gpt2, lambda: padded(left=True), {"transformer.h.0": True}, MASK),
    "BART": Case(
        bart, lambda: padded(end=1), {"model.encoder.layers.0": False, "model.decoder.layers.0": False}, MASK,
        "the decoder takes the ids, the head reads at the end token",
    ),
    "Reformer": Case(
        reformer, lambda: {"input_ids": padded()["input_ids"]},
        {"reformer.embeddings": True, "reformer.encoder.layers.0": False}, why="its own backward",
    ),
    "wav2vec2": Case(
        lambda: wav2vec2(0.0), lambda: sounds(masked=False),
        {"input": True, "wav2vec2.feature_extractor": True, "wav2vec2.encoder.layers.0": True},
    ),
    "wav2vec2, padded": Case(
        lambda: wav2vec2(0.0), lambda: sounds(masked=True), {"wav2vec2.encoder.layers.0": False}, MASK,
        "masks derived inside",
    ),
    "wav2vec2, layerdrop": Case(
        lambda: wav2vec2(0.1), lambda: sounds(masked=False), {"wav2vec2.encoder.layers.0": False},
        why="chance leaves it out",
    ),
    "DETR": Case(
        detr, pictures, {"input": True, "model.encoder.layers.0": True, "model.decoder.layers.0": True}
    ),
    "DETR, padded": Case(
        detr, lambda: pictures(masked=True), {"model.encoder.layers.0": False}, why="the pixel mask"
    ),
    "CLIP": Case(
        clip, captioned,
        {"input": False, "vision_model.encoder.layers.0": False, "text_model.encoder.layers.0": False},
        why="the other tower",
    ),
    "CLIP, images alone": Case(
        clip_classifier, small_pictures,
        {"input": True, "vision_model.encoder.layers.0": True, "vision_model.encoder.layers.0.mlp": False},
        why="residual",
    ),
    "BERT by peft's LoRA, mask named": Case(
        lambda: adapted(classifier("Bert"), ["query", "value"]), padded,
        {f"{LORA}.bert.embeddings": True, f"{LORA}.bert.encoder.layer.0": True,
         f"{LORA}.bert.encoder.layer.0.attention.self.query": False,
         f"{LORA}.bert.encoder.layer.0.attention.self.query.lora_A.default": False},
        MASK, "the frozen layers beside it",
    ),
    "Llama by peft's LoRA, padded right": Case(
        lambda: adapted(classifier("Llama", num_key_value_heads=2), ["q_proj", "v_proj"]), padded,
        {f"{LORA}.model.layers.0": False}, MASK, LAST,
    ),
    "Llama by peft's LoRA, padded left": Case(
        lambda: adapted(classifier("Llama", num_key_value_heads=2), ["q_proj", "v_proj"]),
        lambda: padded(left=True), {f"{LORA}.model.embed_tokens": True, f"{LORA}.model.layers.0": True}, MASK,
    ),
    "frozen embedding, low-rank branch": Case(
        own(FrozenTable), ids, {"embed": True, "blocks.0": True, "blocks.1": False, "blocks.2": True},
        why="the branch, zero at first",
    ),
    "MoCo's pattern": Case(
        own(Contrast), lambda: (torch.randn(5, 6),), {"input": True, "stem": False}, why="the keys, without gradients"
    ),
    "GoogLeNet's pattern": Case(
        own(TwoHeads), lambda: (torch.randn(5, 8),), {"blocks.0": True, "blocks.1": True, "blocks.2": False},
        why="the auxiliary head",
    ),
    "images beside categories": Case(
        lambda: make("tabular")[0], lambda: make("tabular")[1], {"input": False, "layers.1": True},
        why="the categories",
    ),
    "FT-Transformer": Case(
        lambda: make("ft-transformer")[0], lambda: make("ft-transformer")[1], {"input": False}, why="the categories"
    ),
    **{
        name: Case(
            lambda name=name: make(name)[0], lambda name=name: make(name)[1], dict.fromkeys(CASES[name].auto, True)
        )
        for name in CASES
        if CASES[name].auto and not CASES[name].batch_dim and name != "tabular"
    },
}  # fmt: skip


def verdicts(case: Case) -> dict[str, tuple[str, Proof]]:
    """What the graph and the swap say of each place."""
    inputs = case.inputs()
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
    with warnings.catch_warnings(action="ignore"):  # peft reads what transformers calls deprecated
        model = case.build()
    modules = {"": model, **{name: module for name, module in model.named_modules() if name}}
    masked = masked_modules(mask_meanings(case.mask), modules) if case.mask else {}
    with warnings.catch_warnings(action="ignore"):
        trial = put_on_trial(model, args, kwargs, 0, masked)
        trial.prove(case.truth)
        found = {place: trial.explain(place) for place in case.truth}
    floats = trial.graph is not None and trial.graph.float_input
    graph = {
        place: "-"
        if trial.graph is None
        else "no"
        if trial.reason(place) or (place == "input" and not floats)
        else "yes"
        for place in case.truth
    }
    return {place: (graph[place], found[place]) for place in case.truth}


def is_proved(graph: str, proof: Proof) -> bool:
    return graph != "no" and proof.verdict == "yes"


def table() -> str:
    """The table of the documentation; places of which the same is true share a row."""
    lines = ["| model | places | graph | swap | truth | what goes round |", "|---|---|---|---|---|---|"]
    for name, case in ZOO.items():
        rows: dict[tuple[str, str, bool], list[str]] = {}
        for place, (graph, proof) in verdicts(case).items():
            rows.setdefault((graph, proof.verdict, case.truth[place]), []).append(f"`{place}`")
        for (graph, swap, true), places in rows.items():
            ends = ("yes", "") if true else ("no", case.why)
            lines.append("| " + " | ".join([name, ", ".join(places), graph, swap, *ends]) + " |")
    return "\n".join(lines)


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    else:
        sys.stdout.write(table() + "\n")
