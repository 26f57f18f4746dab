"""When a program's two sides are the same, and what must be refused."""

import numpy as np

from mixlayers import MixingError


class Difference(AssertionError):
    """The library was silent and wrong, or loud and right."""


class Over(Exception):
    """The library refused an operation, as it may: the program ends here."""


class Judging:
    """The part of a World that compares."""

    def refused(self, f):
        """Have an operation refused; the program is over then."""
        try:
            f()
        except (MixingError, ValueError, *self.parts.errors):
            raise Over from None
        raise Difference("something that cannot be right was not refused")

    def same(self, ours, theirs, what):
        ours, theirs = self.fw.numpy(ours), self.fw.numpy(theirs)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
            by = np.abs(ours - theirs).max() if ours.shape == theirs.shape else "?"
            raise Difference(f"{what} differs by {by}")

    def compare(self):
        """The gradients of all nets."""
        for wrapped in self.all:
            ours, theirs = self.fw.gradients(wrapped.net), self.fw.gradients(wrapped.twin)
            for name in ours.keys() | theirs.keys():
                if name not in ours or name not in theirs:
                    raise Difference(f"only one side has a gradient of {name}")
                scale = max(1.0, np.abs(theirs[name]).max())
                if not np.allclose(ours[name], theirs[name], rtol=1e-4, atol=2e-5 * scale):
                    by = np.abs(ours[name] - theirs[name]).max()
                    raise Difference(f"the gradient of {name} differs by {by}")
