"""Small nets that can be run in every way: recomputed, in part or whole, interrupted, called from within."""

from functools import partial
from typing import NamedTuple

import numpy as np

CLASSES = 4


class How(NamedTuple):
    """The kinds of recomputation around a net's body and, in it, around the layers a and b: outermost first."""

    around: tuple[str, ...] = ()
    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()

    @property
    def kinds(self):
        return {*self.around, *self.a, *self.b}

    @property
    def chains(self):
        """What lies in each other."""
        return (*self.around, *self.a), (*self.around, *self.b)

    def again(self, place):
        """Whether a place runs again in backward."""
        return bool(self.around or getattr(self, place)) if place in ("a", "b") else False


class Call(NamedTuple):
    """What a net does in the middle of its forward.

    Attributes:
        where: "start": before all layers, outside of any recomputation; "middle": between the layers a and b;
            "end": after all layers.
        run: Takes the net, or its twin, and what the forward was called with.
        used: Whether its result becomes a part of the output.
    """

    where: str
    run: object
    used: bool = False


def nested(parts, kinds, f):
    """A function inside segments of these kinds, the first one outermost."""
    for kind in reversed(kinds):
        f = partial(parts.kinds[kind], f)
    return f


DIRECT = How()


def build(fw, parts, conv, how=DIRECT, seed=0, shared=None):
    """A net of layers a, b and c, and what a program may do with its forward.

    Args:
        fw: The framework.
        parts: Its few operations, from programs_parts.
        conv: Whether a and b are convolutions.
        how: What of it runs again in backward.
        seed: Of the weights.
        shared: Layers of another net that this one takes for its own, by their names.
    """

    class Net(parts.base):
        def __init__(self):
            super().__init__()
            layer = parts.conv if conv else fw.linear
            made = {"a": layer(3 if conv else CLASSES, 5), "b": layer(5, 6), "c": fw.linear(6, CLASSES)}
            with parts.scope(self):
                for name, own in {**made, **(shared or {})}.items():
                    setattr(self, name, own)
            self.call, self.silent, self.kept = None, False, None

        def called(self, where, call, x, h):
            """A value of the forward, after what happens there."""
            if call is None or call.where != where:
                return h
            result = call.run(self, x)
            return parts.gate(h, result) if call.used else h

        def body(self, call, x, h):
            h = parts.tanh(nested(parts, how.a, self.a)(h))
            h = self.called("middle", call, x, h)
            return parts.tanh(nested(parts, how.b, self.b)(h))

        def forward(self, x):
            call, self.call = self.call, None
            h = self.called("start", call, x, x)
            h = nested(parts, how.around, partial(self.body, call, x))(h)
            output = self.c(parts.pool(h) if conv else h)
            output = self.called("end", call, x, output)
            if self.silent:
                self.kept = output
                return None
            return output

    fw.seed(seed)
    return parts.ready(Net())


def by_hand(fw, parts, net, x, plan, call=None):
    """The output of a net that was never wrapped, mixed as a plan says, and the partner's share of the label."""
    share = [0.0]

    def mix(place, h):
        if plan is None or plan.place != place:
            return h
        how = plan.blend(tuple(h.shape))
        share[0] = how.s
        lam = how.lam
        if isinstance(lam, np.ndarray):
            lam = fw.tensor(lam.reshape((-1,) + (1,) * (h.ndim - 1)))
        return fw.by_hand(h, how.perm, lam, how.mask)

    def called(where, h):
        if call is None or call.where != where:
            return h
        result = call.run(net, x)
        return parts.gate(h, result) if call.used else h

    x = mix("input", x)
    h = parts.tanh(mix("a", net.a(called("start", x))))
    h = parts.tanh(mix("b", net.b(called("middle", h))))
    return called("end", net.c(parts.pool(h) if h.ndim == 4 else h)), share[0]
