"""What wrap refuses of PaddlePaddle's own; the rest is in tests/shared/test_refusals.py."""

import paddle
import pytest

from mixlayers.paddle import wrap
from tests.paddle.paddle_networks import net, untouched


@pytest.mark.filterwarnings("ignore:The program will return to single-card operation")
@pytest.mark.parametrize(
    ("container", "says"),
    [
        (paddle.DataParallel, "wrap the model inside DataParallel"),
        (paddle.Model, "takes a paddle.nn.Layer, got Model: wrap its network"),
    ],
)
def test_containers_are_refused(container, says):
    model = net()
    with pytest.raises(TypeError, match=says):
        wrap(container(model))
    assert untouched(model)
