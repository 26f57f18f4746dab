"""The audit by the jaxpr, held to the swap test: with another sample's features at a layer, is the output its own?"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import mixlayers.jax
import mixlayers.linen
import mixlayers.nnx
from mixlayers import ManifoldMixup
from mixlayers._core.audit.found import IN_LOOP
from mixlayers._core.audit.report import PARTIAL, UNREACHED
from mixlayers._core.plan.plan import Blend
from mixlayers.jax import Plan, blend
from mixlayers_jax._blend import Partners
from tests.jax.jax_libraries import LIBRARIES, WIDTH, Nnx, batch

ORDER = np.array([1, 2, 3, 0])


def swapping(place):
    """Everything of the partner's, at a place."""
    everything = Blend(None, np.float32(0.0), None, None, np.float32(1.0))
    return Plan(Partners.drawn(ORDER), everything, np.float32(1.0), place=place)


class Hard(nnx.Module):
    """Layers of every kind that is no true mixing point, among some that are."""

    def __init__(self, rngs):
        def linear():
            return nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        self.first, self.branch, self.shared, self.detached, self.joint = (linear() for _ in range(5))
        self.looped, self.left, self.right, self.last = (linear() for _ in range(4))
        self.aside, self.unused, self.gated = (linear() for _ in range(3))
        self.table = nnx.Embed(5, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 3, rngs=rngs)

    def __call__(self, x, ids):
        x = self.first(x)
        x = x + self.branch(x)
        x = self.shared(jnp.tanh(self.shared(x)))
        x = self.joint(x) + jax.lax.stop_gradient(self.detached(x))
        x, _ = jax.lax.scan(lambda h, _: (jnp.tanh(self.looped(h)), None), x, None, length=2)
        x = jax.lax.cond(x.sum() > 0, lambda h: self.gated(h), lambda h: h, x)
        x = jnp.concatenate([self.left(x), self.right(x)], 1) @ jnp.ones((2 * WIDTH, WIDTH))
        self.aside(x)
        x = self.last(x + self.table(ids))
        return self.head(jax.nn.relu(x))


EXPECTED = {
    "first": PARTIAL, "branch": PARTIAL, "shared": "called 2 times in one forward", "detached": PARTIAL,
    "joint": PARTIAL, "looped": IN_LOOP, "left": PARTIAL, "right": PARTIAL, "gated": IN_LOOP, "aside": UNREACHED,
    "unused": "never called", "table": PARTIAL, "last": "", "head": "",
}  # fmt: skip


def test_every_kind_of_untrue_layer_is_told():
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(4, WIDTH)).astype(np.float32), np.array([0, 3, 1, 2])
    model = Hard(nnx.Rngs(0))
    report = mixlayers.nnx.audit(model, (x, ids))
    assert {point.name: point.reason for point in report} == EXPECTED
    assert not report.float_input, "the ids go round the features"
    with pytest.raises(ValueError, match="the input is not a true mixing point"):
        mixlayers.nnx.Mixer(model, example=(x, ids), layers="input")
    plain = model(x, ids)
    apart = np.abs(plain - plain[ORDER]).max()
    mixer = mixlayers.nnx.Mixer(model, ManifoldMixup(), ["last"], example=(x, ids))
    for point in report:
        if point.reason in ("", PARTIAL):
            mixer._kinds.setdefault(point.name, None)
            output, target = model(x, ids, target=ids, plan=swapping(point.name))
            swapped = np.abs(output - plain[ORDER]).max() <= 1e-5 * apart
            assert swapped == point.true, point
            target.partner  # noqa: B018  # reading the partners counts as using the target


def test_true_layers_pass_the_swap_test(lib):
    x, y = batch(4)
    x, model = lib.images(x), lib.model()
    mixer = lib.mixer(model)
    plain = lib.forward(mixer, model, x, y, None)[0]
    true = ["input", *mixer.audit.true]
    assert {"stem", "layer1", "layer2", "layer3", "head"} <= {*true}
    for place in dict.fromkeys(true):
        output, target = lib.forward(mixer, model, x, y, swapping(place))
        np.testing.assert_allclose(output, plain[ORDER], atol=1e-6)
        assert target.s == 1.0


@pytest.mark.parametrize("lib", LIBRARIES[:3], ids=lambda lib: lib.name)
def test_auto_is_the_input_and_two_of_four_stages_and_nothing_runs(lib):
    model = lib.model()
    shape = jax.ShapeDtypeStruct((6, 6, 6, 3) if lib.channel_dim == -1 else (6, 3, 6, 6), "float32")
    lib.images, images = (lambda x: x), lib.images
    try:
        assert lib.mixer(model, example=shape).places == ("input", "layer1", "layer2")
        report = lib.audit(model, shape)
    finally:
        lib.images = images
    assert report["layer1"].kind == "Block" and report["layer1.conv"].reason == PARTIAL
    assert report["head"].shape == (6, 4) and report.chosen == ("input", "layer1", "layer2")
    assert lib.mixer(lib.model(), layers="stages").places == ("input", "layer1", "layer2", "layer3")


def test_places_are_in_the_order_in_which_they_run(lib):
    """Whatever they are called, so that equal seeds choose equal places in every framework."""
    mixer = lib.mixer(lib.model(), layers=["layer2", "stem", "layer1", "input"])
    assert mixer.places == ("input", "stem", "layer1", "layer2")
    called = [point.name for point in mixer.audit if point.kind == "Block"]
    assert called == sorted(called)


def test_token_indices_are_no_input_to_mix():
    class Text(nn.Module):
        @nn.compact
        def __call__(self, ids, train):
            x = nn.Embed(9, WIDTH)(ids)
            for at in range(4):
                x = nn.relu(nn.Dense(WIDTH, name=f"block{at}")(x))
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x).mean(1))

    example = {"ids": np.zeros((4, 7), np.int32), "train": True}
    report = mixlayers.linen.audit(Text(), example)
    assert report.chosen and "input" not in report.chosen and report["Embed_0"].true
    with pytest.raises(ValueError, match="the input is not a true mixing point"):
        mixlayers.linen.Mixer(Text(), layers="input", example=example)


def test_dicts_and_heads_beside():
    def model(x, plan=None):
        h = blend(jnp.tanh(x["a"]), plan, "early")
        return {"logits": h.sum((1, 2)), "features": x["a"] * 2}

    report = mixlayers.jax.audit(lambda x, plan: model(x, plan), ({"a": batch()[0]},))
    assert report["early"].true and report.reach.astray("early") == ("features",)
    with pytest.raises(ValueError, match="does not depend on the example"):
        mixlayers.jax.audit(lambda x, plan: jnp.ones(len(x)), batch()[0])


def test_the_audit_changes_nothing():
    lib = Nnx()
    model = lib.model()
    before = jax.tree.map(np.array, nnx.state(model))
    kind = type(model.layer1)
    lib.audit(model, batch()[0])
    assert jax.tree.all(jax.tree.map(np.array_equal, before, nnx.state(model)))
    assert type(model.layer1) is kind and "_mixlayers" not in str(vars(model.layer1))
    wrapped = mixlayers.nnx.wrap(model, example=batch()[0])
    assert type(wrapped).__name__ == "Net" and isinstance(wrapped, Nnx.Net)
    paths = [path for path, _ in nnx.to_flat_state(nnx.state(wrapped))]
    assert paths == [path for path, _ in nnx.to_flat_state(before)]
    assert mixlayers.nnx.get_mixer(nnx.clone(wrapped)) is mixlayers.nnx.get_mixer(wrapped)
    assert type(mixlayers.nnx.unwrap(wrapped)) is Nnx.Net
