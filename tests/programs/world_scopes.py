"""Other forwards before and after the mixed one of a scope."""

from tests.programs import programs_nets as nets

CLEAN = ("eval", "no grad", "eval no grad")


class Scopes:
    """The part of a World that opens a mixer's scope around several forwards."""

    def scoped(self, scale, before, after, read, used):
        """A scope's mixed forward, among others.

        Args:
            scale: Of the batch.
            before: What runs before it: "eval", "no grad", "eval no grad", "train", "foreign" (a net that was never
                wrapped), "other" (the other wrapped net).
            after: What runs after it.
            read: Whether a metric of each clean forward reads the target in between.
            used: Whether the others' outputs become a part of what the loss is of.
        """
        now, x, whole = self.now, self.batch(scale), self.whole_of("scope", None)
        used = used and (self.parts.together or not whole)
        beside = []

        def run():
            return nets.nested(self.parts, whole, now.net)(x)

        with now.mixer(self.labels) as target:
            for what in before:
                beside.append(self.beside(what, scale, run))
                if read:
                    self.reads(target, *beside[-1])
            plan = self.draw()
            ours = run()
            for what in after:
                beside.append(self.beside(what, scale, run))
        made = self.keep(x, ours, plan, target, whole)
        theirs = made.theirs
        for what, one, other in beside:
            if used and one is not None:
                ours, theirs = ours + one, theirs + other
                made.apart = made.apart or (what == "eval" and made.plan is not None)
                made.own = made.returned = False
        made.ours, made.theirs = ours, theirs

    def beside(self, what, scale, run):
        """One other forward: what it was, and what it returned on both sides, if that may be used."""
        x = self.batch(scale + 1)
        if what in CLEAN:
            ours, theirs = self.clean(self.now.net, x, what), self.clean_right(x, what)
            self.same(ours, theirs, f"a forward ({what}) inside a scope")
            return what, ours, theirs
        if what == "foreign":
            foreign = nets.build(self.fw, self.parts, self.conv, seed=7)
            return what, foreign(x), nets.by_hand(self.fw, self.parts, foreign, x, None)[0]
        if what == "train":
            self.refused(lambda: (run(), run()))  # one scope, one training forward: the second, or both
        if len(self.all) > 1:
            self.switch()
            try:
                self.forward(scale, "scope")
            finally:
                self.switch()
        return what, None, None

    def reads(self, target, what, ours, theirs):
        """A metric before the scope's mixed forward."""
        if what not in CLEAN:
            return
        per_sample = self.now.per_sample
        read = target.blend(lambda y: self.now.loss_function(ours, y))
        self.same(
            self.parts.mean(read) if per_sample else read, self.now.plain(theirs), "a metric in a scope"
        )
