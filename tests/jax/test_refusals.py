"""What would be mixed silently wrong is refused, when it is traced or planned."""

import jax
import numpy as np
import pytest
from flax import nnx

import mixlayers.equinox
import mixlayers.jax
import mixlayers.nnx
from mixlayers import CutMix, DropBlock, ManifoldMixup, MixingError, Mixup, PatchUp, Remix
from tests.jax.jax_libraries import LIBRARIES, PLACES, Equinox, Linen, Nnx, batch


def test_a_plan_drawn_while_tracing(lib):
    model = lib.model()
    mixer = lib.mixer(model, Mixup())
    for transform in (jax.jit, lambda f: lambda x: jax.lax.map(f, x)):
        with pytest.raises(MixingError, match=r"would be baked in.*draw it outside, plan = mixer.plan"):
            transform(lambda x: x * mixer.plan(6).lam)(np.zeros(2))
    with pytest.raises(MixingError, match="baked in"):
        jax.jit(lambda x: mixlayers.jax.mix(x, np.arange(6), Mixup())[0])(np.zeros((6, 2)))
    assert mixer.step == 0
    jax.grad(lambda x: x * float(mixer.plan(6).lam))(1.0)  # nothing is recorded there


@pytest.mark.parametrize("place", ["input", "layer1"])
def test_a_plan_of_another_batch_size(lib, place):
    (x, y), model = batch(), lib.model()
    mixer = lib.mixer(model, layers=[place])
    with pytest.raises((MixingError, ValueError), match=r"plan is for a batch of 5|input has 5 samples"):
        lib.forward(mixer, model, lib.images(x), y, mixer.plan(5))


def test_a_mask_of_another_shape(lib):
    (x, y), model = batch(), lib.model()
    mixer = lib.mixer(model, CutMix())
    with pytest.raises(
        MixingError, match=r"mask is for a feature of shape .* give the mixer an example like this"
    ):
        lib.forward(mixer, model, lib.images(x[:, :4]), y, mixer.plan(6))


def test_a_target_that_no_loss_uses(lib):
    (x, y), model = batch(), lib.model()
    x, mixer = lib.images(x), lib.mixer(model, Mixup())

    @jax.jit
    def forgetful(model, x, y, plan):
        return lib.forward(mixer, model, x, y, plan)[0].sum()

    forgetful(model, x, y, mixer.plan(6))
    with pytest.raises(MixingError, match="its loss did not use the mixed target"):
        mixer.plan(6)
    forgetful(model, x, y, mixer.plan(6))  # compiled before: nothing of ours runs
    lib.forward(mixer, model, x, y, None)
    mixer.plan(6)


def test_features_without_their_labels():
    x, _ = batch()
    model = Nnx().model()
    mixer = Nnx().mixer(model, Mixup())
    with pytest.raises(ValueError, match="give both, target=labels, plan=plan"):
        model(x, plan=mixer.plan(6))
    linen = Linen()
    variables = linen.model()
    mixer = linen.mixer(variables, Mixup())
    with pytest.raises(ValueError, match="give both"):
        mixer.apply(variables, x, plan=mixer.plan(6))


def test_places_that_are_not_there(lib):
    with pytest.raises(ValueError, match=r"'layer9' matches no layer of the model. Its layers are"):
        lib.mixer(lib.model(), layers=["layer9"])
    with pytest.raises(TypeError, match="method must be a method"):
        lib.mixer(lib.model(), ManifoldMixup)
    with pytest.raises(ValueError, match="for methods that mix samples"):
        lib.mixer(lib.model(), DropBlock(0.2, 2), ["layer1"], one_compilation=True)


@pytest.mark.parametrize("lib", LIBRARIES[:3], ids=lambda lib: lib.name)
def test_a_residual_branch_is_no_place_unless_it_is_trusted(lib):
    with pytest.raises(ValueError, match=r"'layer1.conv' is not a true mixing point .*goes round it.*trust="):
        lib.mixer(lib.model(), layers=["layer1.conv"])
    assert lib.mixer(lib.model(), layers=["layer1.conv"], trust=True).places == ("layer1.conv",)
    mixer = lib.mixer(lib.model(), DropBlock(0.2, 2), ["layer1.conv"])  # labels follow nothing
    assert mixer.plan(6).place == "layer1.conv"


def test_a_model_that_has_changed():
    x, y = batch()
    model = Nnx().model()
    mixer = Nnx().mixer(model, layers=["layer1"])
    model.layer1 = nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(
        MixingError, match="'layer1' is Conv, and was Block when the model was audited: make a new"
    ):
        model(x, target=y, plan=mixer.plan(6))
    model.layer1 = nnx.relu
    with pytest.raises(MixingError, match="'layer1' is gone"):
        model(x, target=y, plan=mixer.plan(6))


def test_wrapping_twice_and_other_models():
    model = mixlayers.nnx.wrap(Nnx().model(), Mixup(), example=batch()[0])
    with pytest.raises(ValueError, match=r"already wrapped by Mixer.*unwrap"):
        mixlayers.nnx.wrap(model, Mixup(), example=batch()[0])
    with pytest.raises(ValueError, match="not wrapped"):
        mixlayers.nnx.unwrap(Nnx().model())
    for face, kind in ((mixlayers.nnx, "flax.nnx.Module"), (mixlayers.equinox, "equinox.Module")):
        with pytest.raises(TypeError, match=f"a model is an? {kind}, got function"):
            face.Mixer(lambda x: x, example=batch()[0])

    class Targeted(Nnx.Net):
        def __call__(self, x, target=None):
            return super().__call__(x)

    with pytest.raises(ValueError, match="has an argument named 'target' of its own"):
        Nnx().mixer(Targeted(nnx.Rngs(0)), Mixup())


def test_one_sample_without_vmap():
    lib = Equinox()
    model, x = lib.model(), lib.images(batch()[0])
    mixer = lib.mixer(model, PatchUp(block_size=2), ["layer1"])
    with pytest.raises(Exception, match=r"takes a batch under jax\.vmap"):
        jax.block_until_ready(mixer.mixed(model, mixer.plan(6))(x[0]))
    mixer = lib.mixer(model, PatchUp(block_size=2), ["layer1"])
    plans = jax.tree.map(lambda x: np.stack([x] * 6), mixer.plan(6))
    with pytest.raises(MixingError, match="the plan was mapped over by vmap"):
        jax.vmap(lambda plan, x: mixer.mixed(model, plan)(x))(plans, x)


def test_a_function_that_names_no_place():
    with pytest.raises(ValueError, match="the function names no place"):
        mixlayers.jax.Mixer(lambda x, plan: x * 2, example=batch()[0])


def test_groups_split_the_batch_evenly(lib):
    mixer = lib.mixer(lib.model(), layers=PLACES)
    with pytest.raises(ValueError, match="must be a multiple of 4, got 6 samples"):
        mixer.plan(6, groups=4)


def test_groups_are_for_methods_that_draw_one_thing_for_all(lib):
    """Remix's label would follow each group's own lam, and features the first one's."""
    mixer = lib.mixer(lib.model(), Remix(ManifoldMixup(), counts=(5, 5, 5, 5)), PLACES)
    with pytest.raises(ValueError, match="plans in groups are for methods that draw one lam"):
        mixer.plan(8, labels=np.arange(8) % 4, groups=2)


def test_stacked_plans_are_of_one_form(lib):
    mixer = lib.mixer(lib.model(), layers=PLACES)
    plans = [mixer.plan(6) for _ in range(5)]
    with pytest.raises(ValueError, match=r"not of one form, their places are \[.*one_compilation=True"):
        mixlayers.jax.stacked(plans)
    mixer = lib.mixer(lib.model(), layers=PLACES, one_compilation=True)
    mixlayers.jax.stacked([mixer.plan(6) for _ in range(5)])
