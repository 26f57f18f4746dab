"""Random programs."""

from mixlayers import CutMix, ManifoldMixup, Mixup, PatchUp
from tests.programs.programs_nets import How

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
KINDS = ("target", "scope", "plain")
CHANGES = ("same", "scaled", "sliced")
MODES = ("eval", "no grad", "eval no grad", "train", "target")
WHERE = ("start", "middle", "end")
BESIDE = ("eval", "no grad", "eval no grad", "foreign", "other", "train")


class Draw:
    """Choices, by a generator of numbers below a bound."""

    def __init__(self, below, parts):
        self.below, self.parts = below, parts

    def one(self, choices):
        return choices[self.below(len(choices))]

    def chance(self, of):
        return self.below(of) == 0

    def segments(self, most):
        """Kinds of recomputation in each other, which the framework itself can do."""
        kinds = tuple(self.one(list(self.parts.kinds)) for _ in range(self.below(most + 1)))
        return kinds if self.parts.nests(kinds) else kinds[-1:]

    def how(self):
        """Recomputation inside a net: none, of the body, or a tree of any depth."""
        if self.chance(2):
            return How()
        how = How(self.segments(3))
        if self.chance(2):
            how = How(how.around[:2], self.segments(2), self.segments(2))
        return how if all(map(self.parts.nests, how.chains)) else How(how.around)

    def net(self, conv):
        """A net, its method and the way in which it is asked."""
        fits = [each for each in METHODS if conv or not isinstance(each, CutMix | PatchUp)]
        method, implicit = self.one(fits), self.chance(2)
        return {
            "method": method,
            "places": self.one(PLACES) if method.hidden else ["input"],
            "how": tuple(self.how()),
            "implicit": implicit,
            "whole": self.segments(2) if self.chance(4) else (),
        }

    def world(self):
        conv = self.chance(3)
        settings = {"conv": conv, "seed": self.below(1000), **self.net(conv)}
        if self.chance(3):
            second = self.net(conv)
            still = all(not any(each["how"]) and not each["whole"] for each in (settings, second))
            if (self.parts.together or still) and self.chance(2):
                second["share"] = self.one("abc")
            settings["second"] = second
        return settings


class Operations(Draw):
    """What a program does, one call of a World's methods after the other."""

    def scale(self):
        return float(1 + self.below(3))

    def at(self):
        return self.below(8)

    def kind(self):
        return self.one(KINDS)

    def forward(self):
        whole = self.segments(3) if self.parts.together and self.chance(3) else None
        return "forward", (self.scale(), self.kind(), whole)

    def loss(self):
        return "loss", (self.at(), self.one(CHANGES), self.chance(3))

    def backward(self):
        return "backward", (1 + self.below(3), self.chance(4))

    def evaluate(self):
        return "evaluate", (self.scale(), self.chance(2))

    def untrained(self):
        return "untrained", (self.scale(),)

    def in_a_thread(self):
        return "in_a_thread", (self.scale(), self.kind())

    def calls(self):
        chosen = self.one(MODES), self.one(WHERE), self.chance(2), not self.chance(4)
        return "calls", (self.scale(), self.kind(), *chosen)

    def scoped(self):
        """Mostly such as may run: a second training forward ends the program."""
        beside = BESIDE if self.chance(5) else BESIDE[:-1]
        before, after = (tuple(self.one(beside) for _ in range(self.below(3))) for _ in range(2))
        return "scoped", (self.scale(), before, after, self.chance(2), self.chance(2))

    def raising(self):
        return "raising", (self.scale(), self.kind())

    def silent(self):
        return "silent", (self.scale(), self.kind(), self.chance(2))

    def others(self):
        return "others", (self.scale(),)

    def chained(self):
        return "chained", (self.at(), self.kind(), self.chance(2))

    def together(self):
        return "together", (self.scale(), 2 + self.below(2), self.kind())

    def joint(self):
        return "joint", (self.at(), self.at())

    def detached(self):
        return "detached", (self.at(),)

    def unused(self):
        return "unused", (self.at(),)

    def penalty(self):
        return "penalty", (self.at(),)

    def look(self):
        return "look", (self.at(),)

    def rewrap(self):
        return "rewrap", ()

    def switch(self):
        return "switch", ()

    def operation(self):
        roll = self.below(10)
        if roll < 2:
            return self.forward()
        if roll < 4:
            return self.loss()
        if roll < 6:
            return self.backward()
        return getattr(self, self.one(RARE))()

    def program(self):
        return [*(self.operation() for _ in range(3 + self.below(9))), self.loss(), self.backward()]


RARE = (
    *("calls", "calls", "scoped", "scoped", "silent", "silent", "chained", "switch", "switch"),
    *("evaluate", "untrained", "in_a_thread", "raising", "others", "together", "joint", "detached"),
    *("unused", "penalty", "look", "rewrap"),
)


def program_of(below, parts):
    """A world's settings and a program's operations."""
    draw = Operations(below, parts)
    return draw.world(), draw.program()
