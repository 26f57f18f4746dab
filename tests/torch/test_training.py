"""Steps under PyTorch's own machinery; the rest is in tests/shared/test_training.py."""

import pytest
import torch

from mixlayers import ManifoldMixup, PatchUp
from mixlayers.torch import cross_entropy, wrap
from tests.torch.networks import batch, net


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("soft"), PatchUp("hard", block_size=3)], ids=repr
)
def test_autocast_features_are_mixed_in_their_own_dtype(method):
    model, (x, y), seen = wrap(net(), method, ["layer1", "layer2"]), batch(), []
    model.layer2.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(*model(x, target=y))
    loss.backward()
    assert set(seen) <= {torch.bfloat16, torch.float32} and torch.isfinite(loss)
