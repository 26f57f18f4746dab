"""Running statistics made anew are an average over a norm's own uses; weights that norms share."""

import numpy as np
import pytest
from flax import nnx

import mixlayers.nnx
from tests.jax.norms import CHANNELS, close, features, last


class Siamese(nnx.Module):
    """Uses its norm twice in a batch, another one in some batches only, and one more in a transformation."""

    def __init__(self):
        self.norm, self.rare = (
            mixlayers.nnx.IEBN(CHANNELS, rngs=nnx.Rngs(0)),
            nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0)),
        )
        self.inside = mixlayers.nnx.RBN(CHANNELS, rngs=nnx.Rngs(0))

    def __call__(self, x):
        self.norm(x)
        self.norm(x * 3 + 1)
        if x.max() > 20:
            self.rare(x)
        nnx.remat(lambda norm, x: norm(x))(self.inside, x)


def test_update_bn_averages_over_all_uses():
    batches = [last(features(seed)).astype("f") * scale for seed, scale in enumerate((1.0, 1.0, 30.0))]
    model = Siamese()
    kinds = [type(norm) for norm in (model.norm, model.rare, model.inside)]
    mixlayers.nnx.update_bn(batches, model)
    every = [used for x in batches for used in (x, x * 3 + 1)]
    rare = [x for x in batches if x.max() > 20]
    assert 0 < len(rare) < 3
    for norm, uses in (model.norm, every), (model.rare, rare), (model.inside, batches):
        arrays = [np.asarray(x) for x in uses]
        close(norm.mean[...], np.mean([np.mean(x, (0, 1, 2), np.float64) for x in arrays], 0), 1e-4)
        close(norm.var[...], np.mean([np.var(x, (0, 1, 2), np.float64) for x in arrays], 0), 1e-4)
        assert norm.momentum == 0.99
    assert [type(norm) for norm in (model.norm, model.rare, model.inside)] == kinds


def test_a_shared_scale_is_changed_for_all_that_share_it_or_not_at_all():
    model = nnx.Sequential(
        nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0)), nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0))
    )
    model.layers[1].scale = model.layers[0].scale
    model.eval()
    x = last(features(0)).astype("f")
    expected = model(x)
    with pytest.raises(ValueError, match="share a weight, and preserve_output would scale it for one"):
        mixlayers.nnx.convert_iebn(model, skip="layers.1", preserve_output=True)
    close(mixlayers.nnx.convert_iebn(model, preserve_output=True)(x), expected, 1e-5)
    model.layers[1].bias_readjust[...] = model.layers[1].bias_readjust[...] + 1
    with pytest.raises(ValueError, match="share a weight"):
        mixlayers.nnx.revert_iebn(model, preserve_output=True)
