"""Small models of others, and patterns of theirs, with inputs of several lengths: for the audit's zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers
from torch import Tensor, nn

from tests.torch.models import randomise

LENGTHS = (8, 3, 5, 2, 7, 4)


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


def adapted(model: nn.Module, targets: list[str]) -> nn.Module:
    """With LoRA: all that was there is frozen, and its second factors are zero, as peft makes them."""
    return peft.get_peft_model(
        model, peft.LoraConfig(task_type="SEQ_CLS", r=2, lora_dropout=0.1, target_modules=targets)
    )


def _two_towers() -> transformers.CLIPConfig:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    tokens = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    return transformers.CLIPConfig(
        text_config={**small, **tokens, "vocab_size": 50, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16, num_labels=3,
    )  # fmt: skip


def clip() -> nn.Module:
    return randomise(transformers.CLIPModel(_two_towers()))


def clip_classifier() -> nn.Module:
    return randomise(transformers.CLIPForImageClassification(_two_towers()))


def captioned() -> dict[str, Tensor]:
    """Images, each with a text of 8 tokens."""
    text = torch.randint(3, 50, (6, 8), generator=torch.Generator().manual_seed(3))
    text[:, -1] = 1
    return {"input_ids": text, **small_pictures()}


def small_pictures() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))}


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
