"""The mark of test bodies that are about arrays alone: they run on JAX too, which has no hooks."""

import pytest

everywhere = pytest.mark.parametrize(
    "fw", ["torch", "paddle", "chainer", "chainer_device", "jax"], indirect=True
)
