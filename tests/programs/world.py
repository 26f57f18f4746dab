"""What a program can do with wrapped nets, and beside each operation what is right, by hand."""

import contextlib

import numpy as np

from mixlayers import MixingError
from tests.programs.programs_nets import CLASSES
from tests.programs.world_calls import Calls
from tests.programs.world_forwards import Forwards
from tests.programs.world_judging import Judging
from tests.programs.world_losses import Losses
from tests.programs.world_scopes import Scopes
from tests.programs.world_wrapped import Wrapped


class World(Forwards, Calls, Scopes, Losses, Judging):
    """One or two nets, their twins, and what a program has made so far.

    Args:
        fw, parts: The framework, and the operations of its nets.
        conv: Whether the nets are convolutional.
        second: What the second net is, as `more` says it of the first; None: there is none.
        size, seed: Of the batches.
        more: What the first net is: see `Wrapped`.
    """

    def __init__(self, fw, parts, conv, second=None, size=5, seed=0, **more):
        self.fw, self.parts, self.conv, self.size, self.seed = fw, parts, conv, size, seed
        self.all, self.outputs, self.losses = [], [], []
        for at, each in enumerate((more, second)):
            if each is not None:
                self.all.append(Wrapped(self, seed=seed, weights=at, **each))
        self.now = self.all[0]

    def switch(self):
        """What follows is about the other net, if there is one."""
        self.now = self.all[self.all.index(self.now) - 1]

    def batch(self, scale):
        shape = (self.size, *((3, 3, 3) if self.conv else (CLASSES,)))
        rng = np.random.default_rng(self.seed)
        return self.fw.wanting(self.fw.tensor((rng.standard_normal(shape) * scale).astype(np.float32)))

    @property
    def labels(self):
        return self.fw.tensor(np.arange(self.size) % CLASSES)

    def loss_function(self, per_sample):
        return self.fw.criterion(per_sample=per_sample)

    def afterwards(self):
        """Whatever was refused: a plain forward, and a mixed step, are right."""
        self.outputs, self.losses = [], []
        for each in self.all:
            each.net.call, each.net.silent = None, False
            with contextlib.suppress(MixingError):
                self.clean(each.net, self.batch(1), "eval no grad")  # what is still owed is asked for here
            each.step, each.shared = each.mixer.step, None
            for net in (each.net, each.twin):
                self.parts.clear(net)
        for each in self.all:
            self.now, x = each, self.batch(3)
            self.same(self.clean(each.net, x, "eval"), each.right(x)[0], "an eval forward afterwards")
            made = self.forward(1, "plain" if each.implicit else "target")
            self.add_loss([made], lambda side, made=made: getattr(made, side))
            self.backward(1, False)
