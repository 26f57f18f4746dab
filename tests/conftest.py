"""One fixture for every framework: `fw` turns NumPy arrays into tensors and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


class Torch:
    """PyTorch, as the shared test bodies use it."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        import mixlayers.torch

        self.face, self.torch = mixlayers.torch, torch

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Any:
        tensor = self.torch.tensor(array)
        return tensor if dtype is None else tensor.to(getattr(self.torch, dtype))

    def numpy(self, tensor: Any) -> np.ndarray:
        return tensor.detach().double().numpy()

    def gradient(self, f: Callable[[Any], Any], x: Any, upstream: np.ndarray) -> np.ndarray:
        """The gradient of sum(upstream * f(x)) with respect to x."""
        x = x.clone().requires_grad_()
        (f(x) * self.tensor(upstream).to(x.dtype)).sum().backward()
        return self.numpy(x.grad)

    def mix_hidden(self, x: Any, y: Any, method: Any, *, step: int, seed: int = 0, **options: Any) -> Any:
        """Mix x as the output of a hidden layer; returns the feature and the target."""
        nn = self.torch.nn
        model = self.face.wrap(nn.Sequential(nn.Identity()), method, "0", seed=seed, **options)
        self.face.get_mixer(model).load_state_dict({"step": step})
        mixed, target = model(x, target=y)
        target.partner  # noqa: B018  # reading the partners counts as using the target
        return mixed, target

    def dtype(self, tensor: Any) -> str:
        return str(tensor.dtype).removeprefix("torch.")


class Paddle:
    """PaddlePaddle, as the shared test bodies use it."""

    name = "paddle"

    def __init__(self) -> None:
        import paddle

        import mixlayers.paddle

        self.face, self.paddle = mixlayers.paddle, paddle

    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Any:
        tensor = self.paddle.to_tensor(array)
        return tensor if dtype is None else tensor.astype(dtype)

    def numpy(self, tensor: Any) -> np.ndarray:
        return tensor.detach().astype("float64").numpy()

    def gradient(self, f: Callable[[Any], Any], x: Any, upstream: np.ndarray) -> np.ndarray:
        """The gradient of sum(upstream * f(x)) with respect to x."""
        x = x.clone().detach()
        x.stop_gradient = False
        (f(x) * self.tensor(upstream).astype(x.dtype)).sum().backward()
        return self.numpy(x.grad)

    def mix_hidden(self, x: Any, y: Any, method: Any, *, step: int, seed: int = 0, **options: Any) -> Any:
        """Mix x as the output of a hidden layer; returns the feature and the target."""
        nn = self.paddle.nn
        model = self.face.wrap(nn.Sequential(nn.Identity()), method, "0", seed=seed, **options)
        self.face.get_mixer(model).load_state_dict({"step": step})
        mixed, target = model(x, target=y)
        target.partner  # noqa: B018  # reading the partners counts as using the target
        return mixed, target

    def dtype(self, tensor: Any) -> str:
        return str(tensor.dtype).removeprefix("paddle.")


@pytest.fixture(params=[Torch, Paddle], ids=lambda framework: framework.name)
def fw(request: pytest.FixtureRequest) -> Any:
    return request.param()
