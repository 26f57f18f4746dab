"""A net that calls itself within its own forward, and nets that are fed what another returned."""

from contextlib import nullcontext

from mixlayers._core.model.layer_hooks import AUDITING
from tests.programs import programs_nets as nets
from tests.programs.world_wrapped import Output


class Calls:
    """The part of a World in which forwards lie in each other."""

    def clean(self, net, x, mode):
        """A forward that is not to be mixed."""
        evaluating = self.fw.evaluating(net) if "eval" in mode else nullcontext()
        with evaluating, self.fw.no_grad() if "no grad" in mode else nullcontext():
            return net(x)

    def clean_right(self, x, mode):
        output = self.now.right(x)[0]
        return self.parts.detach(output) if "no grad" in mode else output

    def calls(self, scale, kind, mode, where, own, used):
        """The net calls itself within its forward.

        Args:
            scale: Of the batch.
            kind: How the forward is asked to mix.
            mode: What the inner call is: "eval", "no grad", "eval no grad", "train", or "target", one that is mixed
                in a forward that is not: it is asked to, or it is in training mode and the forward in eval mode.
            where: See `programs_nets.Call`.
            own: Whether the inner call gets what the outer one did, or another batch.
            used: Whether its result becomes a part of the output.
        """
        now, kind, x = self.now, self.kind_of(kind), self.batch(scale)
        whole = self.whole_of(kind, None)
        whole = () if now.implicit and self.parts.unrecorded & {*whole} else whole  # see `whole_of`
        asks = mode == "target" and kind in ("plain", "implicit")
        awake = asks and now.implicit
        mode, used = "train" if mode == "target" and not asks else mode, used or asks
        own = own and where != "middle"  # a segment's function must not reach for a graph outside of it
        if not self.parts.together and (now.how.kinds or whole) and used and "no grad" not in mode:
            if asks:
                return
            mode = "eval no grad"
        around = (*whole, *(now.how.around if where == "middle" else ()))
        if not all(self.parts.nests((*around, *chain)) for chain in now.how.chains):
            return
        other, targets, seen = self.batch(scale * 2), [], []

        def run(net, given):
            given = given if own else other
            if AUDITING.get():  # the audit runs the net as well, and nothing of that counts
                return self.clean(net, given, mode)
            if awake:
                targets.append(None)
                with self.parts.awake(net):
                    return net(given)
            if asks:
                output, target = net(given, target=self.labels)
                targets.append(target)
                return output
            output = self.clean(net, given, mode)
            seen.append(output)
            return output

        if awake and self.parts.unrecorded & {*around}:
            return  # it runs without gradients there
        plan = self.draw() if self.asked(kind) and not asks else None
        call = nets.Call(where, run, used)
        kept = where == "middle" and self.parts.unrecorded & {*now.how.around}
        if mode == "train" and now.implicit and not kept:  # in such a segment it runs without gradients
            self.refused(lambda: self.run(kind, x, whole, call))
        inner = self.draw() if asks else None
        with self.fw.evaluating(now.net) if awake else nullcontext():
            ours, target = self.run(kind, x, whole, call)

        def right(twin, given):
            given = given if own else other
            return now.right(given, inner)[0] if asks else self.clean_right(given, mode)

        made = self.keep(x, ours, plan, target, whole, nets.Call(where, right, used))
        made.own = False
        if asks:
            mixed = inner.place is not None
            made.plan, made.target = inner if mixed else None, targets[0]
            made.s = now.right(other, inner)[1]
            made.lost = [now] if mixed and (around or now.how.again(inner.place)) else []
        if seen and not own:
            self.same(seen[0], self.clean_right(other, mode), "a forward inside another")

    def chained(self, at, kind, training):
        """The current net on what another, or itself, returned."""
        source, now, kind = self.pick(at), self.now, self.kind_of(kind)
        if source is None or self.conv or not source.returned or source.apart:
            return
        if not self.parts.together and (now.whole or source.kinds):
            return
        plan = self.draw() if training and self.asked(kind) else None
        if plan is not None and source.plan is not None and source.plan is not plan:
            self.refused(lambda: self.run(kind, source.ours))
        with nullcontext() if training else self.fw.evaluating(now.net):
            ours, target = self.run(kind, source.ours)
        theirs, s = now.right(source.theirs, plan)
        self.same(ours, theirs, "a forward of a forward")
        made = Output(
            now,
            source.x,
            ours,
            theirs,
            plan,
            s,
            target,
            lost=[now] if now.recomputed(plan, ()) else [],
        )
        made.comes_from(source)
        self.outputs.append(made)
