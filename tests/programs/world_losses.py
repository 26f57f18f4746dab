"""Losses, metrics and backward passes of what forwards returned."""

import numpy as np

from tests.programs.programs_nets import CLASSES

CHANGES = {"same": lambda x: x, "scaled": lambda x: x * 2.0, "sliced": lambda x: x[:, :CLASSES] + 0.5}


class Losses:
    """The part of a World that trains."""

    def pick(self, at):
        return self.outputs[at % len(self.outputs)] if self.outputs else None

    def mean(self, loss):
        return self.parts.mean(loss) if loss.ndim else loss

    def criterion_for(self, *made):
        """Who has a criterion for these outputs: the current net, or one that made them; None: nobody."""
        fits = [
            each
            for each in (self.now, *(one.of for one in made))
            if each.implicit and (each.per_sample or not any(isinstance(one.s, np.ndarray) for one in made))
        ]
        return fits[0] if fits else None

    def blended(self, output, made, loss_function):
        if made.plan is None:
            return self.mean(loss_function(output, self.labels))
        partner = self.fw.tensor((np.arange(self.size) % CLASSES)[made.plan.perm])
        s = self.fw.tensor(made.s) if isinstance(made.s, np.ndarray) else made.s
        return self.mean((1.0 - s) * loss_function(output, self.labels) + s * loss_function(output, partner))

    def loss(self, at, change, by_target=False):
        """A loss of an output, as it is or changed, by a criterion or the target."""
        made = self.pick(at)
        if made is not None:
            self.add_loss([made], lambda side: CHANGES[change](getattr(made, side)), by_target)

    def add_loss(self, made, output, by_target=False):
        first, whose = made[0], self.criterion_for(*made)
        if first.target is not None and (by_target or whose is None):
            function = self.loss_function(isinstance(first.s, np.ndarray))
            ours = self.mean(first.target.blend(lambda y: function(output("ours"), y)))
        elif whose is not None:
            function = whose.loss_function
            if first.apart:
                self.refused(lambda: whose.criterion(output("ours"), self.labels))
            ours = self.mean(whose.criterion(output("ours"), self.labels))
        elif first.plan is None:
            function = self.loss_function(False)
            ours = self.mean(function(output("ours"), self.labels))
        else:
            return  # lam per sample, and a criterion that returns one number: that is refused, see test_targets
        theirs = self.blended(output("theirs"), first, function)
        for each in made:
            each.use[0] = True
        self.same(ours, theirs, "a loss")
        self.losses.append((ours, theirs, made))

    def joint(self, at, other):
        """A loss of two outputs' sum."""
        one, two = self.pick(at), self.pick(other)
        if one is None or one is two or one.apart or two.apart:
            return
        whose = self.criterion_for(one, two)
        if whose is None or not (one.returned and two.returned):
            return
        if one.plan is not two.plan:
            self.refused(lambda: whose.criterion(one.ours + two.ours, self.labels))
        self.add_loss([one, two], lambda side: getattr(one, side) + getattr(two, side))

    def detached(self, at):
        """A metric: of what was detached."""
        made = self.pick(at)
        whose = None if made is None else self.criterion_for(made)
        if whose is None or not made.returned:
            return
        known = made if self.parts.known_detached else None
        right = (
            self.blended(made.theirs, known, whose.loss_function)
            if known is not None
            else whose.plain(made.theirs)
        )
        ours = whose.criterion(self.parts.detach(made.ours), self.labels)
        self.same(self.mean(ours), right, "a metric of a detached output")

    # backward passes

    def unused(self, at):
        """A plain loss of an output: of a mixed one it must be refused."""
        made = self.pick(at)
        if made is not None and made.plan is not None and not made.used:
            self.refused(lambda: self.unblended(made))

    def unblended(self, made):
        loss = self.mean(self.loss_function(False)(made.ours, self.labels))
        self.parts.backward(loss, False)
        self.clean(made.of.net, made.x, "eval no grad")  # what was not returned is owed at the next forward

    def penalty(self, at):
        """A gradient of an output by the input, returned; before any loss."""
        made = self.pick(at)
        if made is None or not made.own or not made.kinds <= self.parts.penalised:
            return
        (ours,) = self.fw.grad(made.ours, [made.x], create_graph=True)
        (theirs,) = self.fw.grad(made.theirs, [made.x], create_graph=True)
        self.same(ours, theirs, "a penalty's gradient")

    def look(self, at):
        """An eval forward inside the next backward pass."""
        made = self.pick(at)
        if made is None:
            return

        def hook():
            ours = self.clean(made.of.net, made.x, "eval no grad")
            self.same(ours, made.of.right(made.x)[0], "an eval forward inside backward")

        self.fw.on_gradient(made.ours, hook)

    def backward(self, count, retain):
        """Through the losses so far, together; some of them may go twice."""
        if not self.losses:
            return
        chosen = self.losses[-count:]
        retain = retain and all(self.parts.retains(made.kinds) for loss in chosen for made in loss[2])
        parts = [sum((each[side] for each in chosen[1:]), chosen[0][side]) for side in (0, 1)]
        for total in parts:
            self.parts.backward(total, retain)
        self.compare()
        if retain:
            for total in parts:
                self.parts.backward(total, False)
            self.compare()
        gone = set().union(*(made.graph for loss in chosen for made in loss[2]))
        self.losses = [each for each in self.losses if not any(gone & made.graph for made in each[2])]
        self.outputs = [each for each in self.outputs if not gone & each.graph]

    def rewrap(self):
        """The hooks go, and come again; what was mixed before and is recomputed cannot be right any more."""
        kept = any(not made.returned and "reentrant" in made.kinds for made in self.outputs)
        if kept and not self.parts.told:
            return  # a net's output that it kept, recomputed: a limit that is documented
        lost = [loss for loss in self.losses if any(self.now in made.lost for made in loss[2])]
        self.fw.face.unwrap(self.now.net)
        self.now.wrap()
        if lost:
            self.refused(lambda: self.parts.backward(lost[0][0], False))
        self.outputs = [each for each in self.outputs if self.now not in each.lost]
