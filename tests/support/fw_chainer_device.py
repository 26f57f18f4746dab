"""Chainer with its arrays on a device that is none: a stand-in for CuPy where there is no GPU.

Its arrays refuse to meet arrays of the host, which must be sent to the device first.
"""

import re
import sys

import chainer
import chainer.functions as F
import numpy as np
from chainer import FunctionNode, backend
from chainer._backend import Device

from tests.support.fw_chainer import Chainer

CHAINERS_OWN = re.compile(
    r"/chainer/(utils|optimizers|serializers|functions/(connection|normalization|loss|pooling|rnn))/"
)
"""Chainer's kernels for the CPU, for which a GPU has others: what they do with host arrays is their business."""


def plain(x, where):
    """The arrays in a container as NumPy's; raises if one is the host's."""
    if isinstance(x, DeviceArray):
        return x.view(np.ndarray)
    if isinstance(x, np.ndarray) and x.ndim:
        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        file = frame.f_code.co_filename
        if not CHAINERS_OWN.search(file) and not (file.endswith("/get_item.py") and where == "add"):
            raise TypeError(f"{where}: an array of the host, shape {x.shape}, met one of the device.")
    if isinstance(x, tuple | list):
        return type(x)(plain(item, where) for item in x)
    return {key: plain(item, where) for key, item in x.items()} if isinstance(x, dict) else x


def placed(x):
    """Results are on the device, reductions too."""
    if isinstance(x, tuple | list):
        return type(x)(placed(item) for item in x)
    return np.asarray(x).view(DeviceArray) if isinstance(x, np.ndarray | np.generic) else x


class DeviceArray(np.ndarray):
    """A NumPy array that takes itself for another library's."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        inputs, options = plain(inputs, ufunc.__name__), plain(options, ufunc.__name__)
        if out is not None:
            options["out"] = plain(out, ufunc.__name__)
        result = getattr(ufunc, method)(*inputs, **options)
        return out[0] if out is not None else placed(result)

    def __array_function__(self, function, types, args, options):
        name = getattr(function, "__name__", "a function")
        return placed(function(*plain(args, name), **plain(options, name)))

    def __getitem__(self, index):
        return placed(self.view(np.ndarray)[plain(index, "indexing")])

    def __setitem__(self, index, value):
        self.view(np.ndarray)[plain(index, "indexing")] = plain(value, "assigning")


class StandIn(Device):
    """The device of those arrays."""

    xp = np
    supported_array_types = (DeviceArray,)
    name = "@stand-in"

    def __eq__(self, other):
        return isinstance(other, StandIn)

    __hash__ = Device.__hash__

    def send_array(self, array):
        return np.array(array, subok=False).view(DeviceArray)


def device_from_array(*arrays):
    return StandIn() if any(isinstance(x, DeviceArray) for x in arrays) else backend.CpuDevice()


def apply(node, inputs, plainly=FunctionNode.apply):
    """What Chainer's kernels make of arrays of the device is there too."""
    if type(node).__module__.startswith("chainer."):
        forward = node.forward
        on_device = any(isinstance(chainer.as_array(x), DeviceArray) for x in inputs)
        node.forward = lambda arrays: placed(forward(arrays)) if on_device else forward(arrays)
    return plainly(node, inputs)


class ChainerDevice(Chainer):
    """Use it as a context manager: inside, Chainer knows the device."""

    name = "chainer-device"
    device = StandIn()

    def __enter__(self):
        self.kept = backend.get_device_from_array, backend.CpuDevice.send_array, FunctionNode.apply
        FunctionNode.apply = apply
        backend.get_device_from_array = device_from_array
        backend.CpuDevice.send_array = lambda device, array: np.array(array, subok=False)
        return self

    def __exit__(self, *error):
        backend.get_device_from_array, backend.CpuDevice.send_array, FunctionNode.apply = self.kept

    def net(self, kind=None, seed=0, **options):
        return super().net(kind, seed, **options).to_device(self.device)

    def tensor(self, array, dtype=None):
        tensor = super().tensor(array, dtype)
        if isinstance(tensor, chainer.Variable):
            return chainer.Variable(self.device.send(tensor.array))
        return self.device.send(tensor)

    def host(self, array):
        return np.array(array, subok=False)

    def gradient(self, f, x, upstream):
        return super().gradient(f, x, self.device.send(upstream))

    def scaled_criterion(self):
        criterion, scale = super().scaled_criterion()
        return criterion.to_device(self.device), scale

    def by_hand(self, x, perm, lam, mask):
        mixed = lam * x + (1 - lam) * x[self.device.send(perm)]
        return mixed if mask is None else F.where(self.device.send(np.broadcast_to(mask, x.shape)), mixed, x)


class ChainerOn(ChainerDevice):
    """Chainer on a device that it knows: a GPU, through CuPy."""

    def __init__(self, name):
        self.device = chainer.get_device(name)
        self.device.use()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """Nothing was changed."""

    def host(self, array):
        return backend.CpuDevice().send(array)
