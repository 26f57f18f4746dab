"""Models whose forwards mix, and the same by hand, for the tests of passes."""

import numpy as np

LAYERS = ["layer1", "layer2"]


def by_hand(fw, net, x, plan):
    """The output of a plain net that mixes as a plan says."""
    h = fw.by_hand(x, plan.perm, plan.lam, None) if plan.place == "input" else x
    for name in ("stem", "layer1", "layer2", "layer3"):
        h = getattr(net, name)(h)
        if plan.place == name:
            h = fw.by_hand(h, plan.perm, plan.lam, None)
    return net.head(fw.pooled(h))


def blended(fw, output, y, plan):
    partner = fw.tensor(fw.numpy(y).astype(int)[plan.perm])
    return plan.lam * fw.cross_entropy(output, y) + (1 - plan.lam) * fw.cross_entropy(output, partner)


def implicit(fw, method=None, layers=LAYERS, kind=None):
    model = fw.net(kind)
    mixer = fw.face.Mixer(model, method, layers)
    return model, mixer, mixer.loss(fw.criterion())


def wrapped_and_audited(fw, x, y, kind):
    model = fw.face.wrap(fw.net(kind), layers=LAYERS, trust=True)  # the audit would call what it calls, too
    model(x, target=y)[1].partner  # noqa: B018
    return model


def rows(fw):
    x = np.random.default_rng(2).standard_normal((6, 4), dtype=np.float32)
    return fw.tensor(x), fw.batch()[1]
