"""Steps under PaddlePaddle's own machinery; the rest is in tests/test_training.py."""

import paddle
import pytest
from paddle import nn
from paddle.distributed.fleet.utils import recompute
from paddle_networks import batch, net

from mixlayers import ManifoldMixup, MixingError, PatchUp
from mixlayers.paddle import Mixer, cross_entropy, wrap

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


def test_two_forwards_in_one_recomputed_segment_are_refused():
    model, (x, y) = net(), batch()
    mixer = Mixer(model, layers=["layer1"])
    criterion = mixer.loss(nn.CrossEntropyLoss())
    criterion(model(x), y).backward()
    with pytest.raises(MixingError, match="runs the model in two forwards"):
        recompute(lambda x: model(x) + model(x * 2), x, use_reentrant=False)
