"""Real models: what auto chooses is a true mixing point, proven by the swap test."""

import paddle
import pytest
from paddle import nn

from mixlayers import ManifoldMixup
from mixlayers.paddle import audit, get_mixer, wrap
from tests.paddle.paddle_models import BATCH, CASES, CLASSES, logits, make

PARTNERS = paddle.to_tensor([1, 2, 3, 0])
LABELS = paddle.arange(BATCH) % CLASSES
AUTO = {
    "resnet18": ("input", "layer1", "layer2"),
    "transformer": ("encoder.layers.0", "encoder.layers.1"),
}


@paddle.no_grad()
def passes_swap_test(model, x, place):
    """Whether giving each sample its partner's feature at the place swaps the whole output."""

    def swap(feature):
        return paddle.gather(feature, PARTNERS)

    def swap_output(layer, args, output):
        if isinstance(layer, nn.LSTM):
            return swap(output[0]), *output[1:]
        return swap(output)

    plain = logits(model(x))
    if place == "input":
        swapped = logits(model(swap(x)))
    else:
        handle = dict(model.named_sublayers())[place].register_forward_post_hook(swap_output)
        swapped = logits(model(x))
        handle.remove()
    expected = swap(plain)
    apart = (expected - plain).abs().max()
    # So the limit is 700 times float32's epsilon of the outputs, far above the rounding of another batch order
    assert apart > 3e-2 * plain.abs().max(), "the samples are too alike for the test to mean anything"
    return bool((swapped - expected).abs().max() <= 3e-3 * apart)


@pytest.mark.parametrize("name", CASES)
def test_real_models(name):
    model, x = make(name)
    keys = list(model.state_dict())
    report = audit(model, x)
    assert not model.training
    chosen = report.chosen
    assert len(chosen) >= 2 and chosen == AUTO.get(name, chosen)
    for place in chosen:
        assert passes_swap_test(model, x, place), place
    every = max(1, len(report.points) // 8)
    for point in report.points[::every]:
        if point.shape is not None and not isinstance(dict(model.named_sublayers())[point.name], nn.LSTM):
            assert passes_swap_test(model, x, point.name) == point.true, point

    wrap(model, ManifoldMixup(pairs="derangement"))
    clean = logits(model(x))
    model.train()
    output, target = model(x, target=LABELS)
    target.blend(lambda y: nn.functional.cross_entropy(logits(output)[:, :CLASSES], y)).backward()
    assert target.mixed and get_mixer(model).places == chosen and list(model.state_dict()) == keys
    assert clean.shape[0] == BATCH


def test_token_indices_are_no_place():
    model, tokens = make("transformer")
    report = audit(model, tokens)
    assert not report.float_input and not report["position"].true
    assert report["embed"].true == passes_swap_test(model, tokens, "embed")
