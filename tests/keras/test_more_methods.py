"""What does more than blend, in fit's own steps: other statistics, aligned maps, noise, several places at once."""

import pytest
from keras import ops

import mixlayers.keras as mixing
from mixlayers import (
    DSU,
    AlignMixup,
    DropBlock,
    ManifoldMixup,
    MixStyle,
    MoEx,
    NoisyFeatureMixup,
    OneOf,
    PAdaIN,
)
from tests.keras.acts_by_hand import acted
from tests.keras.keras_nets import (
    ON_JAX,
    batch,
    blended,
    close,
    compiled,
    mixed_by_hand,
    sequential,
    stepped,
    weights,
)

ONE = ["one"]
TWO = ["one", "two"]
METHODS = [
    (MoEx(0.7), ONE),
    (MoEx(over=2), ONE),
    (AlignMixup(eps=1.0, rounds=5), ONE),
    (AlignMixup(eps=1.0, rounds=5, lam_per="sample"), ["two"]),
    (NoisyFeatureMixup(), ONE),
    (MixStyle(prob=1.0, every_place=False), ONE),
    (MixStyle(), TWO),
    (PAdaIN(prob=0.5), ["input", "one"]),
    (DSU(), TWO),
    (DropBlock(0.3, 2, every_place=True, prob=0.5), TWO),
    (OneOf([MixStyle(), ManifoldMixup()]), TWO),
]


def through(net, x, plan):
    """A sequential model with what a plan says done by hand: the output, and the partner's share."""
    h, s = ops.convert_to_tensor(x), 0.0
    for name, layer in [("input", None), *((layer.name, layer) for layer in net.layers)]:
        h = h if layer is None else layer(h, training=True)
        own = plan.at(name)
        if own is not None:
            how = own.blend(tuple(h.shape), -1)
            h, s = mixed_by_hand(h, own) if own.blends else acted(h, how)
    return h, s


@pytest.mark.parametrize(("method", "places"), METHODS, ids=repr)
def test_steps_are_the_steps_by_hand_and_compile_once(method, places):
    """Three steps, each from the same weights; JAX compiles the places of one plan once."""
    (x, y), traced = batch(), {}
    model = compiled(mixing.wrap(sequential(), method, places, seed=2))
    mixer, before, head = mixing.get_mixer(model), model.get_weights(), model.get_layer("head")
    call = head.call
    object.__setattr__(head, "call", lambda h, **given: traced.update({mixer.step: True}) or call(h, **given))
    kinds, acts = set(), set()
    for step in range(3):
        model.set_weights(before)
        model.train_on_batch(x, y)
        plan, net = method.plan(step=step, batch_size=8, places=places, seed=2), sequential()

        def value(net=net, plan=plan):
            output, s = through(net, x, plan)
            return blended(output, y, plan, s) * plan.loss_scale

        close(weights(model), stepped(net, value))
        assert mixer.last.places == plan.places and mixer.last.method == plan.method
        acts.add(plan.places)
        every = any(leaf.every_place and leaf.name == plan.method for leaf in method.leaves)
        kinds.add(plan.method if every else plan.places)
    assert mixer.history.steps == 3 and any(acts)
    if ON_JAX:  # whose model was built before the first plan
        assert len(traced) == 1 + len(kinds)
