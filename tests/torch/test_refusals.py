"""What wrap refuses of PyTorch's own; the rest is in tests/shared/test_refusals.py."""

import pytest
from torch import nn

from mixlayers.torch import wrap
from tests.torch.networks import net


def test_containers_are_refused():
    model = net()
    with pytest.raises(TypeError, match="wrap the model inside DataParallel"):
        wrap(nn.DataParallel(model))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
