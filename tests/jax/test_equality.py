"""One step in JAX as in PyTorch, which the others equal: same weights, batch, seed, so the same everything."""

import jax
import numpy as np
import pytest
from flax import nnx

import mixlayers.jax
import mixlayers.nnx
from mixlayers._core.labels.temperature import fit_temperature
from mixlayers.jax import cross_entropy
from tests.conftest import made
from tests.shared.test_equality import METHODS, TOLERANCES, watched


class Part(nnx.Module):
    def __init__(self, weights, name):
        self.conv = conv(weights, f"{name}.conv")

    def __call__(self, x):
        return self.conv(x)


def conv(weights, name):
    kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
    made = nnx.Conv(*kernel.shape[2:], (3, 3), rngs=nnx.Rngs(0))
    made.kernel.set_value(kernel)
    made.bias.set_value(weights[f"{name}.bias"])
    return made


class Net(nnx.Module):
    """Convolutions alone; also returns what the third one is given."""

    def __init__(self, weights):
        self.stem = conv(weights, "stem")
        self.layer1, self.layer2, self.layer3 = (Part(weights, f"layer{at}") for at in (1, 2, 3))
        self.head = nnx.Linear(*weights["head.weight"].T.shape, rngs=nnx.Rngs(0))
        self.head.kernel.set_value(weights["head.weight"].T)
        self.head.bias.set_value(weights["head.bias"])

    def __call__(self, x):
        x = self.stem(x)
        for part in (self.layer1, self.layer2):
            x = part.conv(x + abs(x))
        return self.head(self.layer3.conv(x + abs(x)).mean((1, 2))), x


@nnx.jit
def step(net, x, y, plan):
    def loss(net):
        (logits, seen), target = net(x, target=y, plan=plan)
        return cross_entropy(logits, target, label_smoothing=0.1), (seen, target.s)

    return nnx.value_and_grad(loss, has_aux=True)(net)


CASES = [*((method, "float64") for method in METHODS), (METHODS[3], "float32"), (METHODS[4], "float32")]


@pytest.mark.parametrize(("method", "dtype"), CASES, ids=map(str, CASES))
def test_the_same_steps(method, dtype):
    rng, torch = np.random.default_rng(3), made("torch")
    x, y = rng.standard_normal((6, 3, 8, 8)), rng.integers(4, size=6)
    model = torch.cast(torch.net(watched(torch)), dtype)
    weights = {name: value.astype(dtype) for name, value in torch.state(model).items()}
    places = ["input", "layer1.conv", "layer2.conv"] if method.hidden else "auto"
    torch.face.wrap(model, method, places, seed=4)
    images, tolerance = np.moveaxis(x, 1, -1).astype(dtype), TOLERANCES[dtype]
    with jax.enable_x64(dtype == "float64"):
        net = Net(weights)
        mixer = mixlayers.nnx.Mixer(net, method, places, example=images, seed=4)
        total = None
        for _ in range(4):
            output, target = model(torch.tensor(x, dtype), target=torch.tensor(y))
            loss = torch.face.cross_entropy(output, target, label_smoothing=0.1)
            loss.backward()
            (value, (seen, s)), gradients = step(net, images, y, mixer.plan(6))
            assert mixer.last.to_dict() == target.plan.to_dict()
            own = target.s if isinstance(target.s, float) else torch.numpy(target.s)
            for ours, theirs in (
                (s, own),
                (value, torch.numpy(loss)),
                (np.moveaxis(seen, -1, 1), torch.seen),
            ):
                np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
            total = gradients if total is None else jax.tree.map(lambda a, b: a + b, total, gradients)
    found = torch.gradients(model)
    for path, gradient in nnx.to_flat_state(total):
        *parents, own = path
        ours = np.asarray(gradient[...])
        ours = ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours.T
        theirs = found[".".join([*parents, {"kernel": "weight"}.get(own, own)])]
        scale = max(np.abs(theirs).max(), 1.0)
        np.testing.assert_allclose(ours, theirs, atol=10 * tolerance * scale, err_msg=str(path))


def test_temperature_is_the_one_of_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 4)).astype(np.float32)
    labels = np.where(rng.random(60) < 0.6, logits.argmax(1), rng.integers(4, size=60))
    found = mixlayers.jax.temperature(jax.numpy.asarray(logits), jax.numpy.asarray(labels))
    assert found == pytest.approx(fit_temperature(logits.astype(np.float64), labels), rel=1e-9)
