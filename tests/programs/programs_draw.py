"""Random programs."""

from mixlayers import CutMix, ManifoldMixup, Mixup, PatchUp

METHODS = (
    Mixup(),
    ManifoldMixup(),
    ManifoldMixup(),
    ManifoldMixup(prob=0.6),
    ManifoldMixup(lam_per="sample"),
    CutMix(),
    PatchUp("soft", block_size=1),
    PatchUp("hard", block_size=1),
)
PLACES = (["a"], ["b"], ["a", "b"], ["input", "a"], ["input", "a", "b"])


def world_of(rng, parts):
    """The net, its method and the way in which it is asked."""
    method = METHODS[rng.integers(len(METHODS))]
    needs_map = isinstance(method, CutMix | PatchUp)
    bodies, wholes = list(parts.bodies), list(parts.wholes)
    implicit = bool(rng.integers(2))
    return {
        "method": method,
        "places": PLACES[rng.integers(len(PLACES))] if method.hidden else ["input"],
        "conv": bool(needs_map or rng.integers(4) == 0),
        "how": bodies[rng.integers(len(bodies))] if rng.integers(2) else "direct",
        "implicit": implicit,
        "whole": wholes[rng.integers(len(wholes))] if implicit and rng.integers(3) == 0 else "direct",
        "seed": int(rng.integers(1000)),
    }


def operations_of(rng, parts, settings):
    """What a program does, one call of a World's methods after the other."""
    kinds = ("implicit",) if settings["implicit"] else ("target", "scope", "plain")
    wholes = list(parts.wholes)

    def scale():
        return float(rng.integers(1, 4))

    def kind():
        return kinds[rng.integers(len(kinds))]

    def forward():
        chosen, whole = kind(), settings["whole"]
        if parts.together and chosen != "target" and rng.integers(3) == 0:
            whole = wholes[rng.integers(len(wholes))]
        return "forward", (scale(), chosen, whole)

    def at():
        return int(rng.integers(8))

    def loss():
        return "loss", (at(), ("same", "scaled", "sliced")[rng.integers(3)])

    def backward():
        return "backward", (int(rng.integers(1, 4)), bool(rng.integers(4) == 0))

    rare = (
        lambda: ("evaluate", (scale(), bool(rng.integers(2)))),
        lambda: ("untrained", (scale(),)),
        lambda: ("in_a_thread", (scale(), kind())),
        lambda: ("nested", (scale(), kind(), bool(rng.integers(2)))),
        lambda: ("raising", (scale(), kind())),
        lambda: ("silent", (scale(),)),
        lambda: ("others", (scale(),)),
        lambda: ("chained", (at(),)),
        lambda: ("together", (scale(), int(rng.integers(2, 4)), kind())),
        lambda: ("joint", (at(), at())),
        lambda: ("detached", (at(),)),
        lambda: ("unused", (at(),)),
        lambda: ("penalty", (at(),)),
        lambda: ("look", (at(),)),
        lambda: ("rewrap", ()),
    )
    program = []
    for _ in range(int(rng.integers(3, 12))):
        roll = rng.integers(10)
        if roll < 3:
            program.append(forward())
        elif roll < 5:
            program.append(loss())
        elif roll < 7:
            program.append(backward())
        else:
            program.append(rare[rng.integers(len(rare))]())
    return [*program, loss(), backward()]
