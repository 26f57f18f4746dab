"""Forwards of one net after the other: mixed, clean, another's."""

import copy
import threading

from tests.programs import programs_nets as nets
from tests.programs.world_judging import Difference
from tests.programs.world_wrapped import Output


class Forwards:
    """The part of a World that runs nets, each by itself."""

    def kind_of(self, kind):
        """How the current net can be asked to mix."""
        if kind == "target" and self.now.whole and not self.parts.together:
            return "scope"  # which can be recomputed as all of the net's forwards are
        return "implicit" if self.now.implicit and kind == "plain" else kind

    def asked(self, kind):
        return self.now.implicit or kind in ("target", "scope")

    def run(self, kind, x, whole=(), call=None):
        """The current net on a batch, asked as a kind says: what it returned, and the target."""
        net = self.now.net

        def calling(x):  # again where it runs again
            net.call = call
            return net(x)

        run = nets.nested(self.parts, whole, net if call is None else calling)
        if kind == "target":
            net.call = call
            return net(x, target=self.labels)
        if kind != "scope":
            return run(x), None
        with self.now.mixer(self.labels) as target:
            return run(x), target

    def whole_of(self, kind, whole):
        """The recomputation around a forward that its framework can do and that is of its kind."""
        whole = self.now.whole if whole is None else tuple(whole)
        fits = all(self.parts.nests((*whole, *chain)) for chain in self.now.how.chains)
        if self.now.implicit and self.parts.unrecorded & {*whole[:-1]}:
            fits = False  # the net inside a function that such a segment runs is not mixed, as is documented
        return whole if fits and kind != "target" else ()

    def forward(self, scale, kind, whole=None):
        """A training forward."""
        kind, x = self.kind_of(kind), self.batch(scale)
        whole = self.whole_of(kind, whole)
        plan = self.draw() if self.asked(kind) else None
        ours, target = self.run(kind, x, whole)
        return self.keep(x, ours, plan, target, whole)

    def draw(self):
        return self.now.draw()

    def keep(self, x, ours, plan, target=None, whole=(), call=None):
        theirs, s = self.now.right(x, plan, call)
        lost = [self.now] if self.now.recomputed(plan, whole) else []
        made = Output(self.now, x, ours, theirs, plan, s, target, whole, lost)
        self.same(ours, theirs, "a forward's output")
        self.outputs.append(made)
        return made

    def evaluate(self, scale, gradients):
        x = self.batch(scale)
        with self.fw.evaluating(self.now.net):
            if gradients:
                ours = self.now.net(x)
            else:
                with self.fw.no_grad():
                    ours = self.now.net(x)
        theirs, _ = self.now.right(x)
        self.same(ours, theirs, "an eval forward's output")
        if gradients and (self.parts.together or not self.now.whole):
            self.outputs.append(Output(self.now, x, ours, theirs))

    def untrained(self, scale):
        """In training mode, without gradients."""
        x = self.batch(scale)
        with self.fw.no_grad():
            ours = self.now.net(x)
        self.same(ours, self.now.right(x)[0], "a forward without gradients")
        self.metric(ours, "its loss")

    def in_a_thread(self, scale, kind):
        self.in_thread(lambda: self.forward(scale, kind))

    def in_thread(self, f):
        """What a function returns, run in another thread."""
        made, errors = [], []

        def caught():
            try:
                made.append(f())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=caught)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return made[0]

    def raising(self, scale, kind):
        class Stop(Exception):
            pass

        def stop(net, x):
            raise Stop

        kind, x = self.kind_of(kind), self.batch(scale)
        if self.asked(kind):
            self.draw()
        try:
            self.run(kind, x, call=nets.Call("middle", stop))
        except Stop:
            return
        raise Difference("the error of a forward was swallowed")

    def silent(self, scale, kind, thread):
        """The net returns None and keeps its output."""
        now, kind, x = self.now, self.kind_of(kind), self.batch(scale)
        if now.whole and not self.parts.together:
            return
        plan = self.draw() if self.asked(kind) else None

        def run():
            return self.run(kind, x)

        now.net.silent = True
        try:
            if plan is not None and plan.mixes and kind == "implicit":
                self.refused(run)
            returned, target = self.in_thread(run) if thread else run()
            kept = now.net.kept
        finally:
            now.net.silent, now.net.kept = False, None
        if returned is not None:
            raise Difference("a net that returns nothing returned something")
        made = self.keep(x, kept, plan, target)
        made.returned = False

    def others(self, scale):
        """An EMA's copy and a net that was never wrapped: their outputs get the plain loss."""
        ema, foreign = copy.deepcopy(self.now.net), nets.build(self.fw, self.parts, self.conv, seed=7)
        x = self.batch(scale)
        with self.fw.evaluating(ema), self.fw.no_grad():
            output = ema(x)
        self.same(output, self.now.right(x)[0], "an EMA's output")
        self.metric(output, "an EMA's loss")
        self.metric(foreign(x), "a foreign net's loss")

    def metric(self, output, what):
        """What a criterion gives of an output that has nothing to do with mixing: the plain loss."""
        if self.now.implicit and self.now.mixer._entered:
            self.same(self.mean(self.now.criterion(output, self.labels)), self.now.plain(output), what)

    def together(self, scale, count, kind):
        """Several forwards that share one plan."""
        self.now.shared = []
        try:
            with self.now.mixer.same_plan():
                made = [self.forward(scale * (at + 1), kind) for at in range(count)]
        finally:
            self.now.shared = None
        if self.now.implicit:
            self.add_loss(
                made, lambda side: sum(getattr(each, side) for each in made[1:]) + getattr(made[0], side)
            )
