"""Steps under PaddlePaddle's own machinery; the rest is in tests/shared/test_training.py."""

import paddle
import pytest

from mixlayers import ManifoldMixup, MixingError, PatchUp
from mixlayers.paddle import cross_entropy, wrap
from mixlayers_paddle import _autograd
from tests.paddle.paddle_networks import batch, net

METHODS = [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)]


@pytest.mark.filterwarnings("ignore:amp_guard can only be enabled on CUDAPlace")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_autocast_features_are_mixed_in_their_own_dtype(method):
    model, (x, y), seen = wrap(net(), method, ["layer1", "layer2"]), batch(), []
    model.layer2.register_forward_pre_hook(lambda layer, args: seen.append(args[0].dtype))
    with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
        loss = cross_entropy(*model(x, target=y))
    loss.backward()
    assert set(seen) <= {paddle.bfloat16, paddle.float32} and bool(paddle.isfinite(loss))


def test_this_version_of_paddle_has_the_private_names():
    assert not _autograd.LACKING


def test_what_cannot_be_followed_is_refused(monkeypatch):
    monkeypatch.setattr(_autograd, "LACKING", ["grad's variable inputs"])
    with pytest.raises(MixingError, match="lacks grad's variable inputs"):
        wrap(net(), layers=["layer1"])(batch()[0], target=batch()[1])
