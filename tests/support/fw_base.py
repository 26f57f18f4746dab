"""What the shared test bodies need of a framework, and what follows from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import numpy as np

from mixlayers import MixingError


class Arrays(ABC):
    """What test bodies need that are about arrays alone.

    Attributes:
        name: What the fixture is called.
        face: mixlayers.torch and the like.
    """

    name: str
    face: Any

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:  # noqa: B027  # one of them has something to undo
        """Nothing was changed."""

    @abstractmethod
    def tensor(self, array: np.ndarray, dtype: str | None = None) -> Any: ...

    @abstractmethod
    def numpy(self, tensor: Any) -> np.ndarray:
        """The values, float64."""

    @abstractmethod
    def dtype(self, tensor: Any) -> str: ...

    @abstractmethod
    def gradient(self, f: Callable[[Any], Any], x: Any, upstream: np.ndarray) -> np.ndarray:
        """The gradient of sum(upstream * f(x)) with respect to x."""

    @abstractmethod
    def cross_entropy(self, output: Any, y: Any) -> Any:
        """The framework's own, of plain labels."""

    def soft_labels(self, y: np.ndarray, classes: int) -> Any:
        return self.tensor(np.eye(classes, dtype=np.float32)[y])

    def batch(self, size: int = 6, seed: int = 1) -> tuple[Any, Any]:
        """Images (N, 3, 8, 8) and labels of four classes."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((size, 3, 8, 8), dtype=np.float32)
        return self.tensor(x), self.tensor(rng.integers(4, size=size))

    def equal(self, first: Any, second: Any) -> bool:
        return np.array_equal(self.numpy(first), self.numpy(second))

    def close(self, first: Any, second: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
        np.testing.assert_allclose(self.numpy(first), self.numpy(second), rtol=rtol, atol=atol)


class Base(Arrays):
    """One framework with hooks.

    Attributes:
        Net: Three residual stages, layer1 to layer3, between a stem and a head; `trunk` runs up to the head.
        Recomputed: Mix-ins for Net whose trunk runs again in backward.
        IEBN: The layer for images.
        takes: What wrap takes, as its errors call it.
        unused: The error of a backward pass whose target no loss used.
    """

    Net: type
    Recomputed: tuple[type, ...]
    IEBN: type
    takes: str
    unused: tuple[type[Exception], str] = (MixingError, "")

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Seed the framework's global generator."""

    @abstractmethod
    def random(self) -> np.ndarray:
        """Draw from the framework's global generator."""

    @abstractmethod
    def grad(self, output: Any, inputs: list[Any], create_graph: bool = False) -> list[Any]:
        """Gradients that are returned and left nowhere, of an output's sum."""

    @abstractmethod
    def pooled(self, h: Any) -> Any:
        """The mean over height and width."""

    def stages(self, sequence: Any) -> list[Any]:
        """The layers of what `sequential` made."""
        return list(sequence)

    @abstractmethod
    def squares(self, x: Any) -> Any:
        """The sum of squares."""

    @abstractmethod
    def wanting(self, x: Any) -> Any:
        """x again, as something to differentiate by."""

    @abstractmethod
    def on_gradient(self, x: Any, f: Callable[[], None]) -> None:
        """Call f when the gradient of x arrives."""

    @abstractmethod
    def evaluating(self, *models: Any) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def no_grad(self) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def function(self, f: Callable[[Any], Any]) -> Any:
        """A layer without parameters."""

    @abstractmethod
    def linear(self, inputs: int, outputs: int) -> Any: ...

    @abstractmethod
    def sequential(self, *layers: Any) -> Any: ...

    @abstractmethod
    def relu(self) -> Any:
        """A layer of a sequence."""

    @abstractmethod
    def criterion(self, per_sample: bool = False) -> Any:
        """Cross-entropy, as the framework's users have it."""

    @abstractmethod
    def criteria(self) -> list[Any]:
        """Criteria that are modules."""

    @abstractmethod
    def scaled_criterion(self) -> tuple[Any, Any]:
        """A criterion with a parameter, and the parameter."""

    @abstractmethod
    def gradients(self, model: Any) -> dict[str, np.ndarray]: ...

    @abstractmethod
    def state(self, model: Any) -> dict[str, np.ndarray]:
        """Parameters and running statistics."""

    @abstractmethod
    def load(self, model: Any, state: dict[str, np.ndarray]) -> None:
        """Load what `state` returned."""

    @abstractmethod
    def cast(self, model: Any, dtype: str) -> Any:
        """The same model, with weights of another precision."""

    @abstractmethod
    def outside(self, model: Any) -> Any:
        """What a user sees of a model and finds in its checkpoints."""

    @abstractmethod
    def hooks(self, layer: Any) -> int:
        """How many hooks are on a layer itself."""

    @abstractmethod
    def layers(self, model: Any) -> list[Any]:
        """The model and all its layers."""

    @abstractmethod
    def parameters(self, model: Any) -> list[Any]: ...

    @abstractmethod
    def learner(self, model: Any, rate: float, adam: bool = False) -> Callable[[Any], None]:
        """Takes a loss and makes a step."""

    @abstractmethod
    def add_layer(self, model: Any, name: str, layer: Any) -> None: ...

    @abstractmethod
    def by_hand(self, x: Any, perm: np.ndarray, lam: float, mask: np.ndarray | None) -> Any:
        """Mix with the framework's own operators."""

    @abstractmethod
    def recompute(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a model so that it runs again in backward."""

    @abstractmethod
    def own_backward(self, run: Callable[[Any], Any], again: Callable[[Any], Any], x: Any) -> Any:
        """run(x) without a graph, by a function of its own, whose backward is again's."""

    def net(self, kind: type | None = None, seed: int = 0, **options: Any) -> Any:
        """The network, changed by a mix-in; equal seeds give equal weights."""
        self.seed(seed)
        made = self.Net if kind is None else type(kind.__name__, (kind, self.Net), {})
        return made(**options)

    def mlp(self, *widths: int, seed: int | None = None) -> Any:
        if seed is not None:
            self.seed(seed)
        layers = []
        for inputs, outputs in pairwise(widths):
            layers += [self.linear(inputs, outputs), self.relu()]
        return self.sequential(*layers[:-1])

    def mix_hidden(self, x: Any, y: Any, method: Any, *, step: int, seed: int = 0, **options: Any) -> Any:
        """Mix x as the output of a hidden layer; returns the feature and the target."""
        model = self.sequential(self.function(lambda x: x))
        model = self.face.wrap(model, method, "0", seed=seed, **options)
        self.face.get_mixer(model).load_state_dict({"step": step})
        mixed, target = model(x, target=y)
        target.partner  # noqa: B018  # reading the partners counts as using the target
        return mixed, target

    def same_gradients(self, first: Any, second: Any, rtol: float = 1e-4, atol: float = 1e-6) -> None:
        """atol is a share of the largest gradient: those that should be 0 are rounding, of numbers of that size."""
        ours, theirs = self.gradients(first), self.gradients(second)
        assert ours.keys() == theirs.keys() and ours
        atol *= max(np.abs(gradient).max() for gradient in theirs.values())
        for name, gradient in ours.items():
            assert np.isfinite(gradient).all(), name
            np.testing.assert_allclose(gradient, theirs[name], rtol=rtol, atol=atol, err_msg=name)

    def untouched(self, model: Any) -> bool:
        return not any(self.hooks(layer) for layer in self.layers(model))
