"""paddle.Model, the summary, and a callback."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.io import Dataset
from paddle.static import InputSpec

from mixlayers import MixingError
from mixlayers.paddle import Mixer, get_mixer, unwrap, wrap
from mixlayers.trainers.paddle import Mixing
from tests.paddle.paddle_networks import Net, batch, net

pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # paddle.Model copies so


class Pictures(Dataset):
    """Twelve pictures, with labels of shape (1,) as in paddle.vision.datasets."""

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return rng.standard_normal((3, 8, 8), dtype=np.float32), np.array([index % 4], dtype=np.int64)

    def __len__(self):
        return 12


class Log(paddle.callbacks.Callback):
    """What every step mixed: the callback of the documentation."""

    def __init__(self, mixer):
        super().__init__()
        self.mixer, self.steps, self.evaluated = mixer, [], []

    def on_train_batch_end(self, step, logs=None):
        self.steps.append((self.mixer.last.place, float(self.mixer.last.lam), logs["loss"][0]))

    def on_eval_batch_end(self, step, logs=None):
        self.evaluated.append(self.mixer.last)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fit_mixes_in_training_and_not_in_evaluation(accumulate):
    network = net()
    mixer = Mixer(network, layers=["layer1", "layer2"])
    model = paddle.Model(network)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=network.parameters())
    model.prepare(optimizer, mixer.loss(nn.CrossEntropyLoss()), paddle.metric.Accuracy())
    log = Log(mixer)
    before = network.stem.weight.numpy()
    model.fit(
        Pictures(), Pictures(), batch_size=4, epochs=2, verbose=0, shuffle=False, callbacks=[log],
        accumulate_grad_batches=accumulate,
    )  # fmt: skip
    assert mixer.step == 6 and {place for place, _, _ in log.steps} == {"layer1", "layer2"}
    assert len({lam for _, lam, _ in log.steps}) == 6 and all(np.isfinite(loss) for _, _, loss in log.steps)
    assert log.evaluated and set(log.evaluated) == {None}
    assert not np.array_equal(before, network.stem.weight.numpy())
    result = model.evaluate(Pictures(), batch_size=4, verbose=0)
    plain = paddle.Model(net())
    plain.network.set_state_dict(network.state_dict())
    plain.prepare(None, nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    expected = plain.evaluate(Pictures(), batch_size=4, verbose=0)
    assert result["loss"] == pytest.approx(expected["loss"]) and result["acc"] == expected["acc"]
    assert mixer.step == 6 and len(model.predict(Pictures(), batch_size=4, verbose=0)[0]) == 3


def test_a_model_prepared_with_a_plain_loss_stays_unmixed():
    network = wrap(net(), layers=["layer1"])
    model = paddle.Model(network)
    model.prepare(paddle.optimizer.SGD(0.1, parameters=network.parameters()), nn.CrossEntropyLoss())
    model.train_batch([batch()[0].numpy()], [batch()[1].numpy()])
    assert get_mixer(network).step == 0


def test_a_loss_that_does_not_blend_is_noticed():
    network = net()
    mixer = Mixer(network, layers=["layer1"])
    mixer.loss(nn.CrossEntropyLoss())  # made, but not given to prepare
    model = paddle.Model(network)
    model.prepare(paddle.optimizer.SGD(0.1, parameters=network.parameters()), nn.CrossEntropyLoss())
    with pytest.raises((MixingError, OSError), match="no loss used the mixed target"):
        model.train_batch([batch()[0].numpy()], [batch()[1].numpy()])


def test_a_checkpoint_of_a_wrapped_model_loads_into_a_plain_one(tmp_path):
    network = net()
    mixer = Mixer(network, layers=["layer1"])
    model = paddle.Model(network)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=network.parameters())
    model.prepare(optimizer, mixer.loss(nn.CrossEntropyLoss()))
    model.train_batch([batch()[0].numpy()], [batch()[1].numpy()])
    model.save(str(tmp_path / "checkpoint"))
    plain = net(Net, seed=4)
    assert plain.set_state_dict(paddle.load(str(tmp_path / "checkpoint.pdparams"))) == ([], [])
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_the_summary_is_the_plain_models(capsys):
    plain, network = net(), net()
    Mixer(network, layers=["layer1"]).loss(nn.CrossEntropyLoss())
    assert paddle.summary(network, (1, 3, 8, 8)) == paddle.summary(plain, (1, 3, 8, 8))
    assert network.training and get_mixer(network).step == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_fit_that_broke_off_can_be_gone_on_with_or_unwrapped(error):
    """In the middle of a mixed forward, so that its loss was never computed."""
    network = net()
    mixer = Mixer(network, layers=["layer1"])
    model = paddle.Model(network)
    optimizer = paddle.optimizer.SGD(0.0, parameters=network.parameters())
    criterion = mixer.loss(nn.CrossEntropyLoss())
    model.prepare(optimizer, criterion)

    def fail(layer, inputs):
        if mixer.step == 1:  # not in the audit
            raise error

    handle = network.layer3.register_forward_pre_hook(fail)
    with pytest.raises(error):
        model.fit(Pictures(), batch_size=4, epochs=1, verbose=0)
    handle.remove()
    assert mixer.step == 1
    pictures, labels = batch()
    outputs = []
    handle = network.register_forward_post_hook(lambda layer, inputs, output: outputs.append(output))
    (loss,) = model.train_batch([pictures.numpy()], [labels.numpy()])
    handle.remove()
    plan = mixer.last
    partner = paddle.to_tensor(labels.numpy()[plan.perm])
    losses = [float(nn.functional.cross_entropy(outputs[-1], y)) for y in (labels, partner)]
    assert plan.step == 1 and float(loss) == pytest.approx(plan.lam * losses[0] + (1 - plan.lam) * losses[1])
    unwrap(network)
    model.prepare(optimizer, nn.CrossEntropyLoss())
    plain = net()
    plain.set_state_dict(network.state_dict())
    (loss,) = model.train_batch([pictures.numpy()], [labels.numpy()])
    expected = nn.functional.cross_entropy(plain(pictures), labels)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("layers", ["input", ["layer1", "layer2"]])
def test_a_model_in_training_is_saved_for_inference(tmp_path, layers):
    """`Model.save(training=False)` traces the network as it is, in train mode; the program mixes nothing."""
    network = net()
    mixer = Mixer(network, layers=layers)
    model = paddle.Model(network, inputs=[InputSpec([None, 3, 8, 8], "float32", "x")])
    optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    model.prepare(optimizer, mixer.loss(nn.CrossEntropyLoss()))
    model.train_batch([batch()[0].numpy()], [batch()[1].numpy()])
    step = mixer.step
    model.save(str(tmp_path / "net"), training=False)
    program = paddle.jit.load(str(tmp_path / "net"))
    program.eval()
    plain = net()
    plain.set_state_dict(network.state_dict())
    plain.eval()
    x = batch()[0]
    np.testing.assert_allclose(program(x).numpy(), plain(x).numpy(), rtol=1e-4, atol=1e-5)
    assert mixer.step == step == 1 and network.training
    model.train_batch([x.numpy()], [batch()[1].numpy()])
    assert mixer.step == 2, "and goes on mixing"


class TwoHeads(nn.Layer):
    def __init__(self):
        super().__init__()
        self.trunk, self.one, self.two = nn.Linear(12, 8), nn.Linear(8, 4), nn.Linear(8, 3)

    def forward(self, x):
        h = self.trunk(x.flatten(1)).tanh()
        return self.one(h), self.two(h)


class TwoLosses(nn.Layer):
    def forward(self, one, two, y1, y2):
        return nn.functional.cross_entropy(one, y1) + 0.5 * nn.functional.cross_entropy(two, y2)


def test_several_outputs_and_labels():
    """paddle.Model calls its loss with all outputs, then all labels."""
    paddle.seed(0)
    network = TwoHeads()
    mixer = Mixer(network, layers=["trunk"])
    model = paddle.Model(network)
    optimizer = paddle.optimizer.SGD(0.0, parameters=network.parameters())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 2, 2)).astype("float32")
    y1, y2 = rng.integers(4, size=(6, 1)), rng.integers(3, size=(6, 1))
    model.prepare(optimizer, mixer.loss(TwoLosses(), labels=2))
    (loss,) = model.train_batch([x], [y1, y2])
    plan = mixer.last
    h = network.trunk(paddle.to_tensor(x).flatten(1)).numpy()
    h = np.tanh(plan.lam * h + (1 - plan.lam) * h[plan.perm])
    outputs = [head(paddle.to_tensor(h.astype("float32"))) for head in (network.one, network.two)]
    sides = [
        float(TwoLosses()(*outputs, paddle.to_tensor(y1[order]), paddle.to_tensor(y2[order])))
        for order in (np.arange(6), plan.perm)
    ]
    assert float(np.ravel(loss)[0]) == pytest.approx(
        plan.lam * sides[0] + (1 - plan.lam) * sides[1], rel=1e-4
    )
    model.prepare(optimizer, mixer.loss(TwoLosses()))
    with pytest.raises(ValueError, match="called with 4 arguments, and it cannot be told which are labels"):
        model.train_batch([x], [y1, y2])


def test_the_callback_logs_what_was_mixed_and_saves_the_step(tmp_path):
    network = net()
    mixer = Mixer(network, layers=["layer1", "layer2"])
    model, logged = paddle.Model(network), []
    optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    model.prepare(optimizer, mixer.loss(nn.CrossEntropyLoss()), paddle.metric.Accuracy())
    callback = Mixing(mixer, save_dir=tmp_path, log=lambda *row: logged.append(row))
    model.fit(Pictures(), batch_size=4, epochs=2, verbose=0, save_dir=str(tmp_path), callbacks=[callback])
    lams = [(step, value) for tag, value, step in logged if tag == "train/lam"]
    layers = [value for tag, value, _ in logged if tag == "train/layer"]
    assert lams == [(step, record.lam) for step, record in enumerate(mixer.history)]
    assert layers == [mixer.places.index(record.layer) for record in mixer.history]
    assert {path.name for path in tmp_path.glob("*.pdmixer")} == {"0.pdmixer", "1.pdmixer", "final.pdmixer"}
    assert (tmp_path / "final.pdparams").exists()
    callback.load(tmp_path / "0")
    assert mixer.step == 3
    callback.load(tmp_path / "final")
    assert mixer.step == 6
