"""Chainer, as the shared test bodies use it."""

import inspect

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
from chainer.backends.cuda import to_cpu

import mixlayers.chainer
from tests.chainer.chainer_networks import Criterion, Function, Net, ScaledCriterion
from tests.support.fw_base import Base


class Forgetful:
    def trunk(self, x):
        return F.forget(lambda x: self.layer3(self.layer2(self.layer1(x))), self.stem(x))


class LayerByLayer:
    def trunk(self, x):
        x = self.stem(x)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = F.forget(layer, x)
        return x


class Nested:
    """Recomputation inside recomputation."""

    def trunk(self, x):
        def inner(x):
            return self.layer2(self.layer1(x))

        return F.forget(lambda x: self.layer3(F.forget(inner, x)), self.stem(x))


class Own(chainer.FunctionNode):
    def __init__(self, run, again):
        self.run, self.again = run, again

    def forward(self, inputs):
        self.retain_inputs((0,))
        with chainer.no_backprop_mode():
            return (self.run(chainer.Variable(inputs[0])).array,)

    def backward(self, indexes, gradients):
        x = chainer.Variable(self.get_retained_inputs()[0].array)
        with chainer.force_backprop_mode():
            y = self.again(x)
        y.grad = gradients[0].array
        y.backward()
        return (chainer.Variable(x.grad),)


class Chainer(Base):
    name = "chainer"
    face = mixlayers.chainer
    Net = Net
    IEBN = mixlayers.chainer.IEBN
    Recomputed = (Forgetful, LayerByLayer, Nested)
    takes = "chainer.Link"

    def net(self, kind=None, seed=0, **options):
        model = super().net(kind, seed, **options)
        model.cleargrads()  # Chainer fills the gradients of new parameters with NaN
        return model

    def tensor(self, array, dtype=None):
        """A Variable of floats; labels are arrays, as Chainer's users have them."""
        array = np.array(array, dtype=dtype)
        return chainer.Variable(array) if array.dtype.kind == "f" else array

    def numpy(self, tensor):
        return self.host(chainer.as_array(tensor)).astype(np.float64)

    def host(self, array):
        return to_cpu(array)

    def dtype(self, tensor):
        return str(tensor.dtype)

    def gradient(self, f, x, upstream):
        x = chainer.Variable(x.array.copy())
        F.sum(f(x) * upstream.astype(x.dtype)).backward()
        return self.numpy(x.grad)

    def seed(self, seed):
        np.random.seed(seed)  # noqa: NPY002  # Chainer draws from the global generator

    def random(self):
        return np.random.standard_normal(3)  # noqa: NPY002

    def grad(self, output, inputs, create_graph=False):
        return chainer.grad([F.sum(output)], inputs, enable_double_backprop=create_graph)

    def pooled(self, h):
        return F.mean(h, axis=(2, 3))

    def squares(self, x):
        return F.sum(x * x)

    def wanting(self, x):
        return chainer.Variable(x.array * np.float32(1))

    def on_gradient(self, x, f):
        class Arrives(chainer.FunctionHook):
            def backward_preprocess(self, function, in_data, out_grad):
                f()

        x.creator_node.add_hook(Arrives(), name=f"test {id(f)}")

    def evaluating(self, *models):
        return chainer.using_config("train", False)

    def no_grad(self):
        return chainer.no_backprop_mode()

    def function(self, f):
        return Function(f)

    def linear(self, inputs, outputs):
        return L.Linear(inputs, outputs)

    def sequential(self, *layers):
        made = chainer.Sequential(*layers)
        made.cleargrads()
        return made

    def relu(self):
        return F.relu

    def criterion(self, per_sample=False):
        return (
            (lambda x, t: F.softmax_cross_entropy(x, t, reduce="no"))
            if per_sample
            else F.softmax_cross_entropy
        )

    def criteria(self):
        return [Criterion()]

    def scaled_criterion(self):
        criterion = ScaledCriterion()
        criterion.cleargrads()
        return criterion, criterion.scale

    def gradients(self, model):
        return {name: self.numpy(p.grad) for name, p in model.namedparams() if p.grad is not None}

    def state(self, model):
        serializer = chainer.serializers.DictionarySerializer()
        serializer.save(model)
        return {name: self.host(np.array(value)) for name, value in serializer.target.items()}

    def load(self, model, state):
        chainer.serializers.NpzDeserializer(state).load(model)

    def cast(self, model, dtype):
        for link in model.links():
            for name in link._params | link._persistent:
                value = getattr(link, name)
                if isinstance(value, chainer.Parameter):
                    value.array = value.array.astype(dtype)
                    value.cleargrad()
                elif isinstance(value, np.ndarray):
                    setattr(link, name, value.astype(dtype))
        return model

    def outside(self, model):
        attributes = set(vars(model)) - {"_mixlayers_hooks"}
        kind = type(model).__module__, type(model).__qualname__, isinstance(model, Net)
        return kind, list(self.state(model)), attributes, inspect.signature(model.forward)

    def hooks(self, layer):
        hooks = vars(layer).get("_mixlayers_hooks", ())
        hooked = any(kind.__name__ == "Hooked" for kind in type(layer).__mro__)
        assert hooked == bool(hooks)
        return len(hooks)

    def layers(self, model):
        return list(model.links())

    def parameters(self, model):
        return list(model.params())

    def add_layer(self, model, name, layer):
        model.add_link(name, layer)

    def learner(self, model, rate, adam=False):
        optimizer = (chainer.optimizers.Adam if adam else chainer.optimizers.SGD)(rate).setup(model)

        def learn(loss):
            model.cleargrads()
            loss.backward()
            optimizer.update()

        return learn

    def by_hand(self, x, perm, lam, mask):
        mixed = lam * x + (1 - lam) * x[perm]
        return mixed if mask is None else F.where(np.broadcast_to(mask, x.shape), mixed, x)

    def own_backward(self, run, again, x):
        return Own(run, again).apply((x,))[0]

    def recompute(self, run, *args, **kwargs):
        targets = []

        def variables_alone(*args):  # all that F.forget lets a function return
            output = run(*args, **kwargs)
            if not isinstance(output, tuple):
                return output
            targets.append(output[1])
            return output[0]

        output = F.forget(variables_alone, *args)
        return (output, targets[0]) if targets else output

    def cross_entropy(self, output, y):
        return F.softmax_cross_entropy(output, y)
