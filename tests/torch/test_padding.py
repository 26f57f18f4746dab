"""Other people's transformers with padding: their own masks, in their own forms, fit the mixed features."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from mixlayers import ManifoldMixup
from mixlayers.torch import audit, cross_entropy, get_mixer, unwrap, wrap

LENGTHS, STEPS = torch.tensor([7, 3, 5, 2]), 7
MASK = (torch.arange(STEPS) < LENGTHS[:, None]).long()
LABELS = torch.tensor([0, 1, 0, 1])
DERANGED = ManifoldMixup(pairs="derangement")


def bert(attention="sdpa"):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        attn_implementation=attention, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def distilbert(attention="sdpa"):
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=50, dim=16, hidden_dim=32, n_heads=2, n_layers=3, attn_implementation=attention,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
    )  # fmt: skip
    return DistilBertForSequenceClassification(config)


def tokens():
    return torch.randint(1, 50, (len(LENGTHS), STEPS), generator=torch.Generator().manual_seed(1)) * MASK


class Watch:
    """Notes which keys each attention sees."""

    def __init__(self, model, kind):
        self.seen = []
        for module in model.modules():
            if type(module).__name__ == kind:
                module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs):
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self.seen.append((mask if mask.dtype is torch.bool else mask == 0)[:, 0, 0].long())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("build", "place", "own", "kind"),
    [
        (bert, "bert.embeddings", 0, "BertSelfAttention"),
        (bert, "bert.encoder.layer.0", 1, "BertSelfAttention"),
        (bert, "bert.encoder.layer.2", 3, "BertSelfAttention"),
        (distilbert, "distilbert.embeddings", 0, "DistilBertSelfAttention"),
        (distilbert, "distilbert.transformer.layer.1", 2, "DistilBertSelfAttention"),
    ],
)
def test_hugging_faces_own_masks(build, place, own, kind, attention):
    model, ids = build(attention), tokens()
    wrap(model, DERANGED, place, mask="attention_mask", example={"input_ids": ids, "attention_mask": MASK})
    watch = Watch(model, kind)
    output, target = model(input_ids=ids, attention_mask=MASK, target=LABELS)
    cross_entropy(output.logits, target).backward()
    either = MASK | MASK[torch.tensor(get_mixer(model).last.perm)]
    assert [torch.equal(seen, MASK) for seen in watch.seen] == [True] * own + [False] * (3 - own)
    assert all(torch.equal(seen, either) for seen in watch.seen[own:])


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("build", [bert, distilbert])
def test_recomputed_layers_see_the_same_masks(build, reentrant):
    """Hugging Face's own checkpointing: each layer runs again in backward, by itself."""
    plain, ids = build().train(), tokens()
    model = copy.deepcopy(plain)
    with warnings.catch_warnings(action="ignore"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    for one in (plain, model):
        wrap(one, DERANGED, "*.layer.0", mask="attention_mask")
        output, target = one(input_ids=ids, attention_mask=MASK, target=LABELS)
        cross_entropy(output.logits, target).backward()
    assert target.mixed
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, dict(plain.named_parameters())[name].grad, msg=name)


def test_inputs_that_are_embedded_already():
    model, ids = bert(), tokens()
    embedded = model.bert.embeddings.word_embeddings(ids).detach()
    wrap(model, DERANGED, "input", mask="attention_mask")
    watch = Watch(model, "BertSelfAttention")
    float_mask = MASK.float()
    _, target = model(inputs_embeds=embedded, attention_mask=float_mask, target=LABELS)
    either = MASK | MASK[torch.tensor(target.plan.perm)]
    assert target.partner is not None and torch.equal(float_mask, MASK.float())
    assert all(torch.equal(seen, either) for seen in watch.seen[-3:])


def test_no_mask_is_made_where_nothing_is_padded():
    model, ids = bert(), tokens().clamp(min=1)
    wrap(model, DERANGED, "bert.encoder.layer.0", mask="attention_mask")
    output, target = model(input_ids=ids, attention_mask=torch.ones_like(ids), target=LABELS)
    cross_entropy(output.logits, target).backward()
    assert target.mixed


def test_a_pickled_model_masks_too():
    model, ids = bert(), tokens()
    wrap(model, DERANGED, "bert.embeddings", mask="attention_mask", share="tokens")
    twin = pickle.loads(pickle.dumps(model))
    outputs = [one(input_ids=ids, attention_mask=MASK, target=LABELS) for one in (model, twin)]
    torch.testing.assert_close(outputs[0][0].logits, outputs[1][0].logits)
    torch.testing.assert_close(outputs[0][1].s, outputs[1][1].s)
    for _, target in outputs:
        target.partner  # noqa: B018
    unwrap(model)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, x, src_key_padding_mask=None):
        return self.head(self.encoder(self.embed(x), src_key_padding_mask=src_key_padding_mask)[:, 0])


@pytest.mark.parametrize(("place", "own"), [("input", 0), ("embed", 0), ("encoder.layers.0", 1)])
@pytest.mark.parametrize("floats", [False, True])
def test_torchs_own_encoder(place, own, floats):
    """It hands its layers a float mask, made of the bools that it was given."""
    torch.manual_seed(0)
    model, x, padded = Encoder(), torch.randn(4, STEPS, 5), MASK == 0
    mask = torch.zeros(padded.shape).masked_fill(padded, -torch.inf) if floats else padded
    wrap(model, DERANGED, place, mask="src_key_padding_mask", example=(x, mask))
    seen = []
    for layer in model.encoder.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["key_padding_mask"] != 0), with_kwargs=True
        )
    output, target = model(x, src_key_padding_mask=mask, target=LABELS)
    cross_entropy(output, target).backward()
    both = padded & padded[torch.tensor(target.plan.perm)]
    seen = seen[-3:]  # a call by name is new after the example's by position: its proof ran first
    assert [torch.equal(mask, padded) for mask in seen] == [True] * own + [False] * (3 - own)
    assert all(torch.equal(mask, both) for mask in seen[own:])


def test_a_float_mask_is_no_feature():
    """The audit takes the features apart from it, and the input's mixing leaves it."""
    model, x = Encoder(), torch.randn(4, STEPS, 5)
    mask = torch.zeros(4, STEPS).masked_fill(MASK == 0, -torch.inf)
    assert not audit(model, (x, mask))["embed"].true  # as the audit has not been told of the mask
    wrap(model, layers=["embed"], mask="src_key_padding_mask", example=(x, mask))  # warns of nothing


def test_the_longer_of_two_lengths():
    """A module that packs takes the partner's length where it is longer."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.GRU(6, 6, batch_first=True)

        def forward(self, x, lengths):
            self.lengths = lengths
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.cells(packed)[1][0]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.packed, self.head = nn.Linear(5, 6), Packed(), nn.Linear(6, 2)

        def forward(self, x, lengths):
            return self.head(self.packed(self.embed(x), lengths))

    model = Model()
    wrap(model, DERANGED, "embed", mask="lengths", share="tokens")
    output, target = model(torch.randn(4, STEPS, 5), LENGTHS, target=LABELS)
    target.blend(lambda y: nn.functional.cross_entropy(output, y, reduction="none")).mean().backward()
    assert model.packed.lengths.tolist() == LENGTHS.maximum(LENGTHS[torch.tensor(target.plan.perm)]).tolist()


@pytest.mark.parametrize("way", ["wrap, compile", "compile, wrap"])
def test_a_compiled_model_sees_the_same_masks(way):
    """With a break in the graph at each layer that takes the mask."""
    x, outputs = torch.randn(4, STEPS, 5), []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Encoder()
        if compiled and way == "compile, wrap":
            model = torch.compile(model, backend="eager")
        wrap(model, DERANGED, ["embed", "encoder.layers.0"], mask="src_key_padding_mask", seed=1)
        call = torch.compile(model, backend="eager") if compiled and way == "wrap, compile" else model
        for _ in range(4):
            output, target = call(x, src_key_padding_mask=MASK == 0, target=LABELS)
            cross_entropy(output, target).backward()
            outputs.append(output.detach())
    torch.testing.assert_close(outputs[:4], outputs[4:])
