"""Padded sequences, masks of every kind for them, and a network of layers that take one."""

import numpy as np

from mixlayers import ManifoldMixup

LENGTHS, STEPS = np.array([7, 2, 5, 3, 1]), 7
SIZE = len(LENGTHS)
REAL = np.arange(STEPS) < LENGTHS[:, None]
DERANGED = ManifoldMixup(pairs="derangement")
KINDS = {
    "bool": (REAL, "real", lambda m: m),
    "int": (REAL.astype(np.int64), "real", lambda m: m > 0),
    "ignored bool": (~REAL, "ignored", lambda m: ~m),
    "ignored int": ((~REAL).astype(np.int64), "ignored", lambda m: m == 0),
    "additive": (np.where(REAL, 0.0, -np.inf).astype(np.float32), "real", lambda m: m == 0),
    "additive 4-D": (
        np.where(REAL, 0.0, -1e9).astype(np.float32)[:, None, None].repeat(STEPS, 2),
        "ignored",
        lambda m: m[:, 0, 0] == 0,
    ),
    "lengths": (LENGTHS, "real", lambda m: np.arange(STEPS) < m[:, None]),
}


def network(fw, kind="bool"):
    """Four layers of attention by the mask's mean; the second takes the mask by position, the last is nested."""
    base = fw.Net.__bases__[0]
    real = KINDS[kind][2]

    class Attend(base):
        def __init__(self):
            super().__init__()
            self.linear, self.seen = fw.linear(4, 4), []

        def forward(self, x, attention_mask=None):
            mask = np.ones((len(x), STEPS), bool)
            if attention_mask is not None:
                mask = real(fw.numpy(attention_mask).astype(KINDS[kind][0].dtype))
                self.seen.append(mask)
            weights = fw.tensor(mask.astype(np.float32)).unsqueeze(-1)
            return x + self.linear(x + (x * weights).sum(1, keepdim=True))

    class Nested(base):
        def __init__(self):
            super().__init__()
            self.inner = Attend()

        def forward(self, x, attention_mask):
            return self.inner(x, attention_mask=attention_mask)

    class Encoder(base):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third, self.last = Attend(), Attend(), Attend(), Nested()
            self.head = fw.linear(4, 3)

        def again(self, layer, x, mask):
            return layer(x, attention_mask=mask)

        def forward(self, x, attention_mask=None):
            x = self.first(x, attention_mask=attention_mask)
            x = self.second(x, attention_mask)
            x = self.again(self.third, x, attention_mask)
            x = self.again(self.last, x, attention_mask)
            return self.head(x.sum(1))

        def masks(self):
            return [layer.seen[-1] for layer in (self.first, self.second, self.third, self.last.inner)]

    class Recomputed(Encoder):
        def again(self, layer, x, mask):
            return fw.recompute(layer, x, mask)

    fw.seed(0)
    return Encoder(), Recomputed


def batch(fw, kind="bool"):
    x = np.random.default_rng(3).normal(size=(SIZE, STEPS, 4)).astype(np.float32)
    return fw.tensor(x), fw.tensor(KINDS[kind][0]), fw.tensor(np.arange(SIZE) % 3)


def check_masks(model, target, own):
    """The first `own` layers saw each sample's mask, the others one that is real for it or its partner, and no more."""
    perm = target.plan.perm
    either = REAL | REAL[perm]
    assert target.partner is not None and (either != (either | REAL[perm][perm])).any()
    for index, seen in enumerate(model.masks()):
        np.testing.assert_array_equal(seen, REAL if index < own else either)
