"""A static trace: at the input mixed as ever, at a hidden layer refused, never frozen."""

import paddle
import pytest
from paddle import nn

from mixlayers import MixingError, Mixup
from mixlayers.paddle import Mixer, audit, cross_entropy, get_mixer, mix, wrap
from tests.paddle.paddle_networks import batch, close, equal, net

pytestmark = pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")  # Paddle's own tracing


@pytest.mark.parametrize("first", ["wrap", "to_static"])
def test_hidden_layers_are_refused_in_a_trace(first):
    model, (x, y) = net(), batch()
    if first == "to_static":
        model = paddle.jit.to_static(model, full_graph=True)
    wrap(model, layers=["layer1"])
    if first == "wrap":
        model = paddle.jit.to_static(model, full_graph=True)
    for _ in range(2):
        with pytest.raises(MixingError, match="a static trace would mix every step by the plan of this one"):
            model(x, target=y)
    assert get_mixer(model).last is None
    assert model(x).shape == [6, 4]  # unmixed it may be traced


def test_a_trace_of_an_unmixed_forward_is_not_mistaken_for_a_mixed_one():
    model, (x, y) = wrap(paddle.jit.to_static(net(), full_graph=True), layers=["layer1"]), batch()
    model(x)
    with pytest.raises(MixingError, match=r"'layer1' did not run in this forward|static trace"):
        model(x, target=y)


def test_a_trace_of_the_whole_step_is_refused():
    model, (x, y) = net(), batch()
    criterion = Mixer(model, Mixup()).loss(nn.CrossEntropyLoss())

    def step(x, y):
        return criterion(model(x), y)

    with pytest.raises(MixingError, match="static trace"):
        paddle.jit.to_static(step, full_graph=True)(x, y)

    def mixed(x, y):
        return mix(x, y, Mixup(), step=0)[0]

    with pytest.raises(MixingError, match="static trace"):
        paddle.jit.to_static(mixed, full_graph=True)(x, y)


def test_the_input_is_mixed_outside_the_trace():
    traced, plain, (x, y) = paddle.jit.to_static(net(), full_graph=True), net(), batch()
    for model in (traced, plain):
        wrap(model, Mixup())
    for _ in range(3):
        ours, target = traced(x, target=y)
        theirs, other = plain(x, target=y)
        close(ours, theirs, rtol=1e-4)
        assert target.plan.to_dict() == other.plan.to_dict() and target.mixed
        cross_entropy(ours, target).backward(), cross_entropy(theirs, other).backward()
    close(traced.stem.weight.grad, plain.stem.weight.grad, rtol=1e-3, atol=1e-4)


def test_an_evaluated_model_is_saved_as_a_static_program(tmp_path):
    model, x = wrap(net(), layers=["layer1"]), batch()[0]
    cross_entropy(*model(x, target=batch()[1])).backward()
    model.eval()
    expected = model(x)
    spec = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    close(loaded(x), expected)
    with pytest.raises(TypeError, match=r"from paddle.jit.load is one static program"):
        wrap(loaded)


def test_audit_is_refused_in_a_trace():
    model = net()

    def audited(x):
        return len(audit(model, x).true)

    with pytest.raises(MixingError, match="static trace"):
        paddle.jit.to_static(audited, full_graph=True)(batch()[0])
    assert equal(*[batch()[0]] * 2)
