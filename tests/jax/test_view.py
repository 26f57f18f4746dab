"""A picture of the history of a mixer whose plans are data."""

import pytest

from mixlayers import ManifoldMixup, Mixup, view
from tests.jax.jax_libraries import Function, Nnx, batch


def texts(figure):
    return [figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)]


@pytest.mark.parametrize("kind", [Nnx, Function], ids=lambda kind: kind.name)
def test_the_history_of_a_mixer(kind):
    lib = kind()
    model = lib.model()
    mixer = lib.mixer(model, ManifoldMixup(), ["layer1", "layer2"])
    for _ in range(5):
        mixer.plan(6)
    expected = view.history(mixer.history)
    assert expected.get_suptitle().startswith("5 steps, 5 mixed")
    for given in (mixer, *([model] if kind is Nnx else [])):
        assert texts(view.history(given)) == texts(expected)


def test_a_batch_by_a_mixers_last_plan():
    lib, (x, _) = Function(), batch()
    mixer = lib.mixer(lib.model(), Mixup())
    with pytest.raises(ValueError, match="was not to be mixed"):
        view.batch(x, mixer, channel_dim=-1)
    mixer.plan(6)
    assert texts(view.batch(x, mixer, channel_dim=-1)) == texts(view.batch(x, mixer.last, channel_dim=-1))
