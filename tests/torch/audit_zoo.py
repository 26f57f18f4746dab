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
import transformers
from models import CASES, make, randomise
from torch import Tensor, nn

from mixlayers._proof import Proof
from mixlayers._token_masks import mask_meanings, masked_modules
from mixlayers_torch._audit import put_on_trial

PAGE = Path(__file__).parents[2] / "docs" / "choosing_layers.md"
BEGIN, END = "<!-- audit zoo -->", "<!-- end of audit zoo -->"
LENGTHS = (8, 3, 5, 2, 7, 4)


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


def padded(*, left: bool = False, end: int | None = None) -> dict[str, Tensor]:
    """Token ids of several lengths; `end` is each one's last."""
    mask = (torch.arange(8) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(3, 50, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    if end is not None:
        ids[torch.arange(len(ids)), mask.sum(1) - 1] = end
    return {"input_ids": ids.flip(1) if left else ids, "attention_mask": mask.flip(1) if left else mask}


def classifier(kind: str, **settings: Any) -> nn.Module:
    small = {
        "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3,
        "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "num_labels": 3,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**{**small, **settings})
    return randomise(getattr(transformers, f"{kind}ForSequenceClassification")(config))


def gpt2() -> nn.Module:
    return classifier("GPT2", n_embd=16, n_head=2, n_layer=3)


def bart() -> nn.Module:
    sizes = {f"{half}_{what}": 2 for half in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    return classifier(
        "Bart", d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_start_token_id=1, **sizes
    )


def wav2vec2(layerdrop: float) -> nn.Module:
    return classifier(
        "Wav2Vec2", conv_dim=(8, 8), conv_stride=(2, 2), conv_kernel=(3, 3), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8, mask_time_length=2,
        layerdrop=layerdrop,
    )  # fmt: skip


def reformer() -> nn.Module:
    return classifier(
        "Reformer", attention_head_size=8, feed_forward_size=32, attn_layers=["local"] * 3,
        local_attn_chunk_length=4, axial_pos_embds=False, max_position_embeddings=32, is_decoder=False,
    )  # fmt: skip


def sounds(*, masked: bool) -> dict[str, Tensor]:
    mask = (torch.arange(64) < torch.tensor([64, 40, 50, 64, 30])[:, None]).long()
    values = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) * mask
    return {"input_values": values, **({"attention_mask": mask} if masked else {})}


def detr() -> nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    sizes = {
        f"{half}_{what}": size
        for half in ("encoder", "decoder")
        for what, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone,
        d_model=16, num_queries=4, num_labels=3, **sizes,
    )  # fmt: skip
    return randomise(transformers.DetrForObjectDetection(config))


def pictures(*, masked: bool = False) -> dict[str, Tensor]:
    x = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    widths = torch.tensor([64, 40, 50, 64, 32])
    mask = (torch.arange(64) < widths[:, None])[:, None, :].expand(5, 64, 64).long()
    return {"pixel_values": x, **({"pixel_mask": mask} if masked else {})}


class FrozenTable(nn.Module):
    """LoRA's pattern: the embedding is frozen, and the layers have small trainable branches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8).requires_grad_(False)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.low = nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False))
        nn.init.zeros_(self.low[1].weight)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.blocks[0](self.embed(ids).mean(1))
        return self.head(self.blocks[2](self.blocks[1](x) + self.low(x)))


class Contrast(nn.Module):
    """MoCo's pattern: a slow copy of the network, moved in each forward, makes keys; a queue of earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.encoder = nn.Linear(6, 8), nn.Linear(8, 4)
        self.slow = nn.Linear(6, 4).requires_grad_(False)
        self.register_buffer("queue", torch.randn(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        query = self.encoder(self.stem(x).tanh())
        with torch.no_grad():
            self.slow.weight.mul_(0.9).add_(0.01)
            keys = self.slow(x)
        scores = torch.cat([(query * keys).sum(1, keepdim=True), query @ self.queue.clone()], 1)
        with torch.no_grad():
            self.queue[:, : len(x)] = keys.T
        return scores


class TwoHeads(nn.Module):
    """GoogLeNet's pattern: an auxiliary head, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4))
        self.head, self.aux = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        early = self.blocks[1](self.blocks[0](x))
        out = self.head(self.blocks[3](self.blocks[2](early)))
        return (out, self.aux(early)) if self.training else out


def own(kind: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return kind()

    return build


def ids() -> tuple[Tensor]:
    return (torch.randint(50, (6, 5), generator=torch.Generator().manual_seed(0)),)


MASK = "attention_mask"
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
    model, inputs = case.build(), case.inputs()
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
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
