"""What fit does to a wrapped model, against mixing by hand."""

import keras
import numpy as np
import pytest
from keras import ops

import mixlayers.keras as mixing
from mixlayers import CutMix, DropBlock, ManifoldMixup, Mixup, OneOf, PatchUp, Remix
from tests.keras.keras_nets import (
    BACKEND,
    batch,
    blended,
    by_hand,
    close,
    compiled,
    cross_entropy,
    loss,
    mixed_by_hand,
    run,
    sequential,
    stepped,
    two_heads,
    weights,
)

METHOD, PLACES = OneOf([ManifoldMixup(), PatchUp("hard", block_size=3)]), ["one", "two"]
METHODS = [
    (Mixup(0.8), "input"),
    (CutMix(), "input"),
    (CutMix(lam_per="batch", correct_lam=False), "input"),
    (ManifoldMixup(), "one_relu"),
    (ManifoldMixup(lam_per="sample"), "two"),
    (PatchUp("hard", block_size=3), "one"),
    (PatchUp("soft", block_size=3), "two_relu"),
    (ManifoldMixup(pairs="different_class"), "one"),
]


@pytest.mark.parametrize(("method", "place"), METHODS, ids=lambda x: str(x))
def test_one_step_is_the_step_by_hand(method, place):
    x, y = batch()
    expected = by_hand(sequential(), method, place, x, y)
    model = compiled(mixing.wrap(sequential(), method, place if method.hidden else "auto"))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)
    assert mixing.get_mixer(model).step == 1 and mixing.get_mixer(model).history.counts == {place: 1}


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("kind", ["sample", "class"])
def test_weights_go_with_the_labels(lam_per, kind):
    (x, y), method = batch(), ManifoldMixup(lam_per=lam_per)
    own = {at: at + 0.5 for at in range(4)}
    weight = np.linspace(0.2, 2.0, 8, dtype=np.float32) if kind == "sample" else y.astype(np.float32) + 0.5
    expected = by_hand(sequential(), method, "one", x, y, weight)
    model = compiled(mixing.wrap(sequential(), method, "one"))
    given = {"sample_weight": weight} if kind == "sample" else {"class_weight": own}
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, **given)
    close(weights(model), expected)


def test_one_hot_labels_are_their_classes():
    x, y = batch()
    models = [compiled(mixing.wrap(sequential(), ManifoldMixup(), "one"))]
    soft = keras.losses.CategoricalCrossentropy(from_logits=True)
    models.append(compiled(mixing.wrap(sequential(), ManifoldMixup(), "one"), loss=soft))
    for model, labels in zip(models, (y[:, None], np.eye(4, dtype=np.float32)[y]), strict=True):
        model.fit(x, labels, batch_size=8, shuffle=False, verbose=0)
    close(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_several_outputs_have_their_losses_blended_and_told(lam_per):
    (x, y), method = batch(), ManifoldMixup(lam_per=lam_per)
    size = np.linspace(0.0, 1.0, 8, dtype=np.float32)[:, None]
    plan = method.plan(step=0, batch_size=8, places=["stem"])
    model = two_heads()
    share = 1 - plan.lam
    told = {}

    def value():
        h, _ = mixed_by_hand(model.get_layer("stem")(x), plan)
        h = model.get_layer("pool")(h)
        kinds = blended(model.get_layer("kind")(h), y, plan, share)
        sizes = model.get_layer("size")(h)
        squares = [
            ops.mean((sizes - ops.convert_to_tensor(labels)) ** 2, axis=-1)
            for labels in (size, size[plan.perm])
        ]
        own, theirs = (ops.convert_to_tensor(np.asarray(each, np.float32)) for each in (1 - share, share))
        squared = ops.mean(own * squares[0] + theirs * squares[1])
        told.update(kind_loss=kinds, size_loss=squared)
        return kinds + 0.3 * squared

    expected = stepped(model, value)
    value()
    told = {name: float(ops.stop_gradient(loss)) for name, loss in told.items()}
    model = mixing.wrap(two_heads(), method, "stem")
    compiled(model, loss=[loss(), "mse"], loss_weights=[1.0, 0.3])
    logs = model.fit(x, [y, size], batch_size=8, shuffle=False, verbose=0).history
    close(weights(model), expected)
    for name, each in told.items():
        assert logs[name] == pytest.approx([each], rel=1e-5)
    assert logs["loss"] == pytest.approx([told["kind_loss"] + 0.3 * told["size_loss"]], rel=1e-5)


def test_labels_with_points_follow_the_mask():
    """Segmentation under CutMix: the pasted box has the partner's labels, point by point."""
    keras.utils.set_random_seed(0)
    made = [keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1, name="head")])]
    made.append(keras.models.clone_model(made[0]))
    made[1].set_weights(made[0].get_weights())
    x, _ = batch()
    y = np.random.default_rng(5).integers(4, size=(8, 8, 8))
    plan = CutMix().plan(step=0, batch_size=8)
    box = plan.blend(x.shape, -1).mask
    assert 0 < box.sum() < box.size
    pasted, labels = np.where(box, x[plan.perm], x), np.where(box[..., 0], y[plan.perm], y)
    expected = stepped(made[0], lambda: ops.mean(cross_entropy(made[0](pasted), labels)))
    model = compiled(mixing.wrap(made[1], CutMix()))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_labels_with_points_that_cannot_follow_the_mask_are_refused():
    keras.utils.set_random_seed(0)
    x, y = batch()[0], np.random.default_rng(5).integers(2, size=(8, 8, 8)).astype("f")
    layers = [keras.layers.Conv2D(1, 1), keras.layers.Reshape((8, 8))]
    binary = keras.losses.BinaryCrossentropy(from_logits=True)
    model = compiled(mixing.wrap(keras.Sequential([keras.Input((8, 8, 3)), *layers]), CutMix()), loss=binary)
    with pytest.raises(ValueError, match=r"must follow it point by point.* give both an axis of channels"):
        model.train_on_batch(x, y)
    model = compiled(
        mixing.wrap(keras.Sequential([keras.Input((8, 8, 3)), layers[0]]), CutMix()), loss=binary
    )
    model.train_on_batch(x, y[..., None])


def test_labels_stay_where_features_are_dropped():
    x, y = batch()
    method = DropBlock(0.3, 3)
    model = compiled(mixing.wrap(sequential(), method, "one"))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    net = sequential()
    plan = method.plan(step=0, batch_size=8, places=["one"])

    def value():
        h = ops.convert_to_tensor(x)
        for layer in net.layers:
            h = layer(h, training=True)
            if layer.name == "one":
                how = plan.blend(tuple(h.shape), -1)
                h = ops.where(how.mask, 0.0, h * np.float32(how.scale))
        return ops.mean(cross_entropy(h, y))

    close(weights(model), stepped(net, value))


def test_validation_and_evaluation_are_not_mixed():
    x, y = batch(16)
    model = compiled(mixing.wrap(sequential(), ManifoldMixup(), "one"))
    plain = compiled(sequential())
    logs = model.fit(x[:8], y[:8], validation_data=(x, y), verbose=0).history
    plain.set_weights(model.get_weights())
    assert logs["val_loss"] == pytest.approx([plain.evaluate(x, y, verbose=0)], rel=1e-6)
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))
    assert mixing.get_mixer(model).step == 1


def test_odd_last_batches_and_train_on_batch():
    x, y = batch(11)
    models = [compiled(mixing.wrap(sequential(), METHOD, PLACES)) for _ in range(2)]
    models[0].fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for part in (slice(8), slice(8, None)):
        models[1].train_on_batch(x[part], y[part])
    close(weights(models[0]), weights(models[1]))
    assert [mixing.get_mixer(model).step for model in models] == [2, 2]


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"steps_per_execution": 2}], ids=str)
def test_steps_are_the_same_however_they_are_run(options):
    if "steps_per_execution" in options and BACKEND == "torch":
        pytest.skip("Keras has none on PyTorch")
    x, y = batch(24)
    models = [sequential(), sequential()]
    for model, own in zip(models, ({}, options), strict=True):
        compiled(mixing.wrap(model, ManifoldMixup(), ["input", "one", "two"]), **own)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(models[0]), weights(models[1]))


def test_a_compiled_step_mixes_by_each_plan_and_pytorchs_is_refused():
    x, y = batch(24)
    models = [compiled(mixing.wrap(sequential(), METHOD, PLACES), jit_compile=jit) for jit in (False, True)]
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="would keep its first plan"):
            models[1].fit(x, y, verbose=0)
        return
    for model in models:
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(models[1]), weights(models[0]))


def test_recomputed_layers_are_mixed_alike():
    x, y = batch()
    models = []
    eager = BACKEND == "tensorflow"  # in whose graphs Keras' own recomputation raises, of plain models too
    for mode in (None, "full"):
        with keras.RematScope(mode=mode):
            model = sequential()
        models.append(compiled(mixing.wrap(model, ManifoldMixup(), "one"), run_eagerly=eager))
        for _ in range(3):
            models[-1].train_on_batch(x, y)
    close(weights(models[1]), weights(models[0]))
    assert mixing.get_mixer(models[1]).history.mixed == 3


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_mixes_in_its_own(policy):
    x, y = batch()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(mixing.wrap(sequential(), ManifoldMixup(), ["input", "one"]))
        seen = set()
        head = model.get_layer("two")
        call = head.call
        object.__setattr__(
            head, "call", lambda h: seen.add(keras.backend.standardize_dtype(h.dtype)) or call(h)
        )
        logs = model.fit(x, y, epochs=4, verbose=0).history
    finally:
        keras.config.set_dtype_policy(before)
    assert np.isfinite(logs["loss"]).all() and seen == {policy.removeprefix("mixed_")}


def test_remix_gets_the_labels():
    x, y = batch()
    counts = [100, 1, 1, 1]
    method = Remix(ManifoldMixup(), counts)
    model = compiled(mixing.wrap(sequential(), method, "one"))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    plan = method.plan(step=0, batch_size=8, places=["one"], labels=y)
    net = sequential()

    def value():
        output, s = run(net, x, plan)
        return blended(output, y, plan, plan.label_share([(s, x.shape)]))

    close(weights(model), stepped(net, value))


def test_a_model_that_is_compiled_again_has_its_new_loss():
    (x, y), method = batch(), ManifoldMixup()
    model, twin = compiled(mixing.wrap(sequential(), method, "one")), sequential()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    twin.set_weights(model.get_weights())
    plan = method.plan(step=1, batch_size=8, places=["one"])

    def value():
        output, s = run(twin, x, plan)
        return 3 * blended(output, y, plan, s)

    expected = stepped(twin, value)
    compiled(model, loss=lambda y, output: 3 * cross_entropy(output, ops.reshape(y, (-1,))))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)
