"""What the audit says of other people's models, against the truth that was set by hand."""

import pytest
import torch

from mixlayers import ManifoldMixup
from mixlayers.torch import cross_entropy, get_mixer, wrap
from tests.torch.audit_models import adapted, classifier, padded, reformer
from tests.torch.audit_zoo import BEGIN, END, LORA, PAGE, ZOO, is_proved, table, verdicts


@pytest.mark.parametrize("name", ZOO)
def test_the_audit_tells_the_truth(name):
    case = ZOO[name]
    found = verdicts(case)
    assert {place: is_proved(*found[place]) for place in case.truth} == case.truth


def test_a_last_token_is_refused_and_no_mask_named_that_was():
    """Padded right: a sample's own last token is read, of its partner's tokens the wrong one."""
    model = wrap(classifier("Llama", num_key_value_heads=2), layers="model.layers.0", mask="attention_mask")
    with pytest.raises(
        ValueError, match=r"'model.layers.0' is not a true .*'input_ids'.* another way"
    ) as raised:
        model(**padded(), target=torch.arange(6) % 3)
    assert "name the padding mask" not in str(raised.value)
    model = wrap(classifier("Bert"), layers="bert.encoder.layer.1")
    with pytest.raises(ValueError, match=r"name the padding mask, mask='attention_mask'; or take it"):
        model(**padded(), target=torch.arange(6) % 3)


def test_layers_that_a_backward_reconstructs_are_refused():
    inputs = {"input_ids": padded()["input_ids"]}
    with pytest.raises(ValueError, match=r"own backward does not follow the swap: gradients are off by"):
        wrap(reformer(), layers="reformer.encoder.layers.0", example=inputs)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_model_by_peft_trains():
    """All but LoRA's factors is frozen, the embeddings too: auto finds its places all the same."""
    model = wrap(adapted(classifier("Bert"), ["query", "value"]), ManifoldMixup(), mask="attention_mask")
    for step in range(6):
        get_mixer(model).load_state_dict({"step": step})
        output, target = model(**padded(), target=torch.arange(6) % 3)
        assert target.layer in get_mixer(model).places
        cross_entropy(output.logits, target).backward()
    assert get_mixer(model).places == (f"{LORA}.bert.encoder.layer.0", f"{LORA}.bert.encoder.layer.1")
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("lora_B" in name for name in trained) and not any(
        "word_embeddings" in name for name in trained
    )


def test_the_page_has_what_is_found():
    """`python tests/torch/audit_zoo.py --write` brings it up to date."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0].strip() == table()
