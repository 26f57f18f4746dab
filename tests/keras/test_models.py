"""What is wrapped, what a user sees of it, and where it may be mixed."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

import mixlayers.keras as mixing
from mixlayers import ManifoldMixup, Mixup, view
from tests.keras.keras_nets import (
    ON_JAX,
    Block,
    Subclassed,
    batch,
    close,
    compiled,
    loss,
    mixed_by_hand,
    residual,
    seeded,
    sequential,
    stepped,
    weights,
)


def kinds(model):
    return [type(each) for each in model._flatten_layers()]


def test_a_wrapped_model_is_what_it_was():
    model = sequential()
    before = kinds(model), json.dumps(model.get_config())
    assert mixing.wrap(model, ManifoldMixup(), "one") is model
    x, y = batch()
    compiled(model).fit(x, y, verbose=0)
    assert (kinds(model), json.dumps(model.get_config())) == before
    mixing.unwrap(model)
    assert "_mixlayers" not in vars(model) and "train_step" not in vars(model)
    with pytest.raises(ValueError, match="is not wrapped"):
        mixing.get_mixer(model)
    other = compiled(sequential())
    other.set_weights(model.get_weights())
    for net in (compiled(model), other):
        net.train_on_batch(x, y)
    close(weights(model), weights(other))


def test_files_hold_nothing_of_mixing(tmp_path):
    x, y = batch()
    saved = []
    for name, model in (("mixed", mixing.wrap(residual(), ManifoldMixup(), "stem")), ("plain", residual())):
        checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / f"{name}.keras"))  # inside fit
        compiled(model).fit(x, y, verbose=0, callbacks=[checkpoint])
        model.save_weights(tmp_path / f"{name}.weights.h5")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as file:
            text = file.read("config.json").decode()
            config = json.loads(text)
        assert "mixlayers" not in text and file.namelist()
        saved.append((model, [layer["class_name"] for layer in config["config"]["layers"]], config["module"]))
    assert saved[0][1:] == saved[1][1:]
    loaded = keras.models.load_model(tmp_path / "mixed.keras")
    assert type(loaded) is type(saved[1][0]) and "_mixlayers" not in vars(loaded)
    expected = saved[0][0].predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    saved[1][0].load_weights(tmp_path / "mixed.weights.h5")
    np.testing.assert_array_equal(saved[1][0].predict(x, verbose=0), expected)


def test_clones_are_plain():
    model = mixing.wrap(sequential(), ManifoldMixup(), "one")
    clone = keras.models.clone_model(model)
    assert [type(layer) for layer in clone.layers] == [type(layer) for layer in sequential().layers]
    mixing.wrap(clone, ManifoldMixup(), "one")  # nobody mixes it yet


def test_layers_are_chosen_and_named():
    model = Subclassed()
    model(batch()[0])
    mixer = mixing.get_mixer(mixing.wrap(model, ManifoldMixup(), example=batch()[0]))
    assert mixer.places == ("input", "block_0", "block_1")
    mixing.unwrap(model)
    for named, found in (
        ("stages", ("input", "block_0", "block_1", "block_2")),
        (["block_1.conv", model.blocks[2]], ("block_1.conv", "block_2")),
        (Block, ("block_0", "block_1", "block_2")),
        ("block_*.norm", ("block_0.norm", "block_1.norm", "block_2.norm")),
    ):
        mixing.wrap(model, ManifoldMixup(), named, example=batch()[0])
        assert mixing.get_mixer(model).places == found
        mixing.unwrap(model)
    with pytest.raises(ValueError, match="'nowhere' matches no layer"):
        mixing.wrap(model, ManifoldMixup(), "nowhere")


def test_a_model_that_is_not_built_is_audited_with_the_first_batch():
    model = compiled(mixing.wrap(Subclassed(), ManifoldMixup()))
    mixer = mixing.get_mixer(model)
    assert mixer.places is None and mixer.audit is None
    x, y = batch()
    model.fit(x, y, batch_size=4, verbose=0)
    assert mixer.places == ("input", "block_0", "block_1") and mixer.step == 2
    assert mixer.audit["block_0.conv"].true


def test_what_something_goes_round_is_refused():
    with pytest.raises(ValueError, match="'inner' is not a true mixing point"):
        mixing.wrap(residual(), ManifoldMixup(), "inner")
    trusted = mixing.wrap(residual(), ManifoldMixup(), "inner", trust=True)
    assert mixing.get_mixer(trusted).places == ("inner",)
    report = mixing.audit(residual(), batch()[0])
    assert "stem" in report.true and "joined" in report.true and "inner" not in report.true
    assert report["inner"].kind == "Conv2D" and report["stem"].shape[1:] == (8, 8, 4)


def test_a_model_that_is_not_built_is_audited_as_one_that_is():
    x, _ = batch()
    model = Subclassed()
    report = mixing.audit(model, x)
    model(x)
    assert [(point.name, point.reason) for point in report] == [
        (point.name, point.reason) for point in mixing.audit(model, x)
    ]
    assert mixing.get_mixer(mixing.wrap(Subclassed(), ManifoldMixup(), "block_0", example=x)).places == (
        "block_0",
    )


class Turned(keras.Model):
    """Its layer `late` gets time first, as it stands in a batch of six samples that are six steps long."""

    def __init__(self):
        super().__init__()
        self.late = layers.Dense(7, name="late")
        self.head = layers.Dense(4, name="head")

    def call(self, x):
        late = ops.swapaxes(self.late(ops.swapaxes(x, 0, 1)), 0, 1)
        return self.head(ops.mean(ops.tanh(late), 1))


def test_time_is_not_taken_for_the_samples_where_it_is_as_long():
    x = np.random.default_rng(0).standard_normal((6, 6, 5), dtype=np.float32)
    model = Turned()
    model(x)
    for length in (6, 4):
        report = mixing.audit(model, x[:, :length])
        assert [point.name for point in report if point.true] == ["head"]
    assert mixing.get_mixer(mixing.wrap(model, ManifoldMixup(), "head", example=x)).places == ("head",)
    mixing.unwrap(model)
    compiled(mixing.wrap(model, ManifoldMixup(), "late"))
    with pytest.raises(ValueError, match=r"'late' cannot be mixed \((its first axis is not|no batch axis)"):
        model.train_on_batch(x, np.arange(6) % 4)


def test_an_audit_leaves_the_model_as_it_was():
    model = Subclassed()
    x, _ = batch()
    model(x)
    before = weights(model)
    mixing.audit(model, x)
    after = weights(model)
    assert all(np.array_equal(before[path], after[path]) for path in before)
    assert not any("_mixlayers" in name for layer in model._flatten_layers() for name in vars(layer))


def test_entries_that_are_no_features_are_kept():
    def net():
        seeded()
        image, scale = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="scale")
        h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(image))
        return keras.Model({"image": image, "scale": scale}, layers.Multiply(name="scaled")([h, scale]))

    x, y = batch()
    scale = np.linspace(1.0, 2.0, 32, dtype=np.float32).reshape(8, 4)
    with pytest.raises(ValueError, match="'conv' is not a true mixing point"):
        mixing.wrap(net(), ManifoldMixup(), ["input", "conv"])
    plan, plain = Mixup().plan(step=0, batch_size=8), net()

    def value():
        mixed, s = mixed_by_hand(x, plan)
        output = plain({"image": mixed, "scale": ops.convert_to_tensor(scale)})
        one, other = (loss()(ops.convert_to_tensor(labels), output) for labels in (y, y[plan.perm]))
        return (1 - s) * one + s * other

    expected = stepped(plain, value)
    model = compiled(mixing.wrap(net(), Mixup(), keep=["scale"]))
    model.fit({"image": x, "scale": scale}, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_what_is_no_model_or_wrapped_already_is_refused():
    with pytest.raises(TypeError, match=r"a model is a keras\.Model, got Dense"):
        mixing.wrap(layers.Dense(3))
    model = mixing.wrap(sequential(), Mixup())
    with pytest.raises(ValueError, match="the model is already wrapped"):
        mixing.wrap(model, Mixup())


@pytest.mark.skipif(not ON_JAX, reason="of JAX")
def test_jax_compiles_once_for_each_place_and_size():
    traced = []

    class Counting(layers.Layer):
        def call(self, x):
            traced.append(x.shape)
            return x

    seeded()
    counting = Counting(name="counting")
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, name="one"), counting, layers.Dense(4, name="two")]
    )
    x, y = np.random.default_rng(0).standard_normal((100, 3), dtype=np.float32), np.arange(100) % 4
    compiled(mixing.wrap(model, ManifoldMixup(), ["input", "one", "two"]))
    model.fit(x, y, batch_size=2, verbose=0)
    traced.clear()
    mixer = mixing.get_mixer(model)
    assert len(mixer.history.counts) == 3
    model.fit(x[:96], y[:96], batch_size=2, verbose=0, epochs=2)
    assert not traced
    model.fit(x[:3], y[:3], batch_size=3, verbose=0)
    assert len(traced) == 1


def test_a_run_goes_on_where_it_stopped(tmp_path):
    x, y = batch(16)
    backup, state = str(tmp_path / "backup"), tmp_path / "mixer.json"

    def callbacks():
        return [mixing.Mixing(state), keras.callbacks.BackupAndRestore(backup, delete_checkpoint=False)]

    def made():
        return compiled(mixing.wrap(sequential(), ManifoldMixup(), ["one", "two"], seed=7))

    through = made()
    through.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)

    class Stopping(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made().fit(
            x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[*callbacks(), Stopping()]
        )
    again = made()
    again.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=callbacks())
    assert mixing.get_mixer(again).step == 6 and len(mixing.get_mixer(again).history) == 2
    for ours, theirs in zip(again.get_weights(), through.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = made()
    other.fit(x, y, batch_size=8, verbose=0)
    with pytest.raises(ValueError, match="after 6 updates, and this one has had 2"):
        other.fit(x, y, verbose=0, callbacks=[mixing.Mixing(state)])


def test_the_callback_logs_what_was_mixed():
    x, y = batch(16)
    model = compiled(mixing.wrap(sequential(), ManifoldMixup(), ["one", "two"]))
    logs = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[mixing.Mixing()]).history
    told = list(mixing.get_mixer(model).history)
    assert logs["lam"] == pytest.approx([np.mean([told[at].lam, told[at + 1].lam]) for at in (0, 2, 4)])
    assert logs["share"] == pytest.approx([1 - lam for lam in logs["lam"]])
    where = [[record.layer for record in told[at : at + 2]] for at in (0, 2, 4)]
    assert logs["mixed_at_two"] == [float(own.count("two")) for own in where]
    assert view.history(model).get_suptitle().startswith("6 steps, 6 mixed")
    with pytest.raises(ValueError, match="is not wrapped"):
        compiled(sequential()).fit(x, y, verbose=0, callbacks=[mixing.Mixing()])
