"""What the audit's shared tests run it on."""

import numpy as np

PLACES = ("layer1", "layer2", "layer3")


def net(fw, kind, **attributes):
    model = fw.net(kind)
    for name, value in {"fw": fw, **attributes}.items():
        setattr(model, name, value)
    return model


def weighted_batch(fw):
    x, y = fw.batch(8)
    return x, fw.tensor(np.array([1, 3, 1, 2, 5, 1, 4, 1])), y
