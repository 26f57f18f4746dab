"""What a program can do with a wrapped net, and beside each operation what is right, by hand.

The oracle is a net that was never wrapped: it mixes as the plan says that it drew by itself, without hooks and without
recomputation. It asks the library for nothing but the step's number at which a program begins.
"""

import copy
import threading

import numpy as np
import programs_nets as nets

from mixlayers import MixingError

REFUSED = "must be refused"


class Difference(AssertionError):
    """The library was silent and wrong, or loud and right."""


class Over(Exception):
    """The library refused an operation, as it may: the program ends here."""


class Output:
    """What one forward returned, on both sides.

    Attributes:
        ours, theirs: The tensors.
        plan, s: How it was mixed; None: it was not.
        graph: Whether a gradient may pass.
        target: What the library handed out.
        alone: Whether nothing but this object can tell the forward.
    """

    def __init__(self, ours, theirs, x, plan=None, s=0.0, graph=True, target=None, how="direct"):
        self.ours, self.theirs, self.x, self.plan, self.s = ours, theirs, x, plan, s
        self.graph, self.target, self.how, self.used = graph, target, how, False
        self.recomputed = how != "direct" and plan is not None  # where it was mixed


class World:
    """One net, its twin, and what a program has made so far."""

    def __init__(self, fw, parts, method, places, conv, how, implicit, whole="direct", size=5, seed=0):
        self.fw, self.parts, self.method, self.places, self.conv = fw, parts, method, tuple(places), conv
        self.implicit, self.size, self.seed, self.how, self.whole = implicit, size, seed, how, whole
        self.net, self.twin = nets.build(fw, parts, conv, how), nets.build(fw, parts, conv)
        self.rng = np.random.default_rng(seed)
        self.step, self.outputs, self.losses, self.shared = 0, [], [], None
        self.wrap()

    def wrap(self):
        options = {} if not self.method.hidden else {"layers": list(self.places)}
        self.mixer = self.fw.face.Mixer(
            self.net, self.method, seed=self.seed, example=self.batch(1), **options
        )
        self.mixer.load_state_dict({"step": self.step})
        self.criterion = self.mixer.loss(self.loss_function) if self.implicit else None

    def loss_function(self, output, y):
        return self.fw.criterion(per_sample=self.per_sample)(output, y)

    @property
    def per_sample(self):
        return getattr(self.method, "lam_per", "batch") == "sample"

    def batch(self, scale, size=None):
        shape = (size or self.size, *((3, 3, 3) if self.conv else (nets.CLASSES,)))
        rng = np.random.default_rng(self.seed)
        return self.fw.wanting(self.fw.tensor((rng.standard_normal(shape) * scale).astype(np.float32)))

    @property
    def labels(self):
        return self.fw.tensor(np.arange(self.size) % nets.CLASSES)

    def draw(self):
        """The plan of the next mixed forward; the oracle counts for itself."""
        if self.shared is not None and self.shared:
            return self.shared[0]
        places = self.places if self.method.hidden else ("input",)
        plan = self.method.plan(step=self.step, batch_size=self.size, places=places, seed=self.seed, rank=0)
        self.step += 1
        if self.shared is not None:
            self.shared.append(plan)
        return plan

    # forwards

    def right(self, x, plan):
        return nets.by_hand(self.fw, self.parts, self.twin, x, plan)

    def forward(self, scale, kind, whole=None):
        """A training forward, mixed if it is asked for: by target=, a scope, the criterion, or not."""
        whole = self.whole if whole is None else whole
        whole = whole if self.parts.nests(whole, self.how) else "direct"
        x, run = self.batch(scale), self.parts.wholes[whole]
        asked = self.implicit or kind in ("target", "scope")
        plan, target = self.draw() if asked else None, None
        if kind == "target":
            ours, target = self.net(x, target=self.labels)
        elif kind == "scope":
            with self.mixer(self.labels) as target:
                ours = run(self.net, x)
        else:
            ours = run(self.net, x)
        return self.keep(ours, x, plan, target, whole)

    def keep(self, ours, x, plan, target=None, whole="direct"):
        theirs, s = self.right(x, plan)
        mixed = plan if plan is not None and plan.place is not None else None
        made = Output(ours, theirs, x, mixed, s, target=target, how=whole if whole != "direct" else self.how)
        made.recomputed = mixed is not None and (
            whole != "direct" or (self.how != "direct" and mixed.place != "input")
        )
        self.same(ours, theirs, "a forward's output")
        self.outputs.append(made)
        return made

    def evaluate(self, scale, gradients):
        x = self.batch(scale)
        with self.fw.evaluating(self.net):
            if gradients:
                ours = self.net(x)
            else:
                with self.fw.no_grad():
                    ours = self.net(x)
        theirs, _ = self.right(x, None)
        self.same(ours, theirs, "an eval forward's output")
        if gradients and self.whole == "direct":
            self.outputs.append(Output(ours, theirs, x, how=self.how))

    def untrained(self, scale):
        """In training mode, without gradients."""
        x = self.batch(scale)
        with self.fw.no_grad():
            ours = self.net(x)
        self.same(ours, self.right(x, None)[0], "a forward without gradients")
        if self.implicit:
            self.same(self.mean(self.criterion(ours, self.labels)), self.mean(self.plain(ours)), "its loss")

    def in_a_thread(self, scale, kind):
        threads = threading.Thread(target=self.caught, args=(lambda: self.forward(scale, kind),))
        self.error = None
        threads.start()
        threads.join()
        if self.error is not None:
            raise self.error

    def caught(self, f):
        try:
            f()
        except BaseException as error:
            self.error = error

    def nested(self, scale, kind, training):
        """The net calls itself in the middle of its forward."""
        seen = []

        def inside(net):
            if training:
                net(self.batch(scale))
                return
            with self.fw.evaluating(net), self.fw.no_grad():
                seen.append(net(self.batch(scale * 2)))

        self.net.inside = inside
        asked = self.implicit or kind in ("target", "scope")
        recorded = self.how not in self.parts.unrecorded
        if training and self.implicit and asked and recorded:
            self.draw()
            self.refused(lambda: self.forward_only(scale, kind))
            raise Over
        self.forward(scale, kind)
        if seen:
            self.same(seen[0], self.right(self.batch(scale * 2), None)[0], "a nested eval forward")

    def forward_only(self, scale, kind):
        x = self.batch(scale)
        return self.net(x, target=self.labels) if kind == "target" else self.net(x)

    def raising(self, scale, kind):
        class Stop(Exception):
            pass

        def inside(net):
            raise Stop

        self.net.inside = inside
        if self.implicit or kind == "target":
            self.draw()
        try:
            self.forward_only(scale, kind)
        except Stop:
            return
        raise Difference("the error of a forward was swallowed")

    def silent(self, scale):
        """The net returns None and keeps its output."""
        self.net.silent = True
        plan = self.draw() if self.implicit else None
        try:
            if plan is not None and plan.mixes:
                self.refused(lambda: self.net(self.batch(scale)))
                raise Over
            self.net(self.batch(scale))
        finally:
            self.net.silent, self.net.kept = False, None

    def others(self, scale):
        """An EMA's copy and a net that was never wrapped: their outputs get the plain loss."""
        ema, foreign = copy.deepcopy(self.net), nets.build(self.fw, self.parts, self.conv, seed=7)
        x = self.batch(scale)
        with self.fw.evaluating(ema), self.fw.no_grad():
            output = ema(x)
        self.same(output, self.right(x, None)[0], "an EMA's output")
        for each in (output, foreign(x)):
            if self.implicit and self.mixer._entered:
                self.same(
                    self.mean(self.criterion(each, self.labels)),
                    self.mean(self.plain(each)),
                    "another's loss",
                )

    def chained(self, at):
        """A forward on what another returned."""
        source = self.pick(at)
        if source is None or self.conv:
            return
        if not self.implicit:
            ours = self.net(source.ours)
            theirs, _ = self.right(source.theirs, None)
            self.same(ours, theirs, "a forward of a forward")
            return
        plan = self.draw()
        if source.plan is not None and plan.mixes and source.plan is not plan:
            self.refused(lambda: self.net(source.ours))
            raise Over
        raise Over  # one of both is clean: what its labels are is no question of passes

    def together(self, scale, count, kind):
        """Several forwards that share one plan."""
        self.shared = []
        try:
            with self.mixer.same_plan():
                made = [self.forward(scale * (at + 1), kind) for at in range(count)]
        finally:
            self.shared = None
        if self.implicit:
            self.add_loss(
                made, lambda side: sum(getattr(each, side) for each in made[1:]) + getattr(made[0], side)
            )

    # losses

    def pick(self, at):
        return self.outputs[at % len(self.outputs)] if self.outputs else None

    def plain(self, output):
        return self.loss_function(output, self.labels)

    def mean(self, loss):
        return self.parts.mean(loss) if self.per_sample else loss

    def blended(self, output, of):
        if of.plan is None:
            return self.mean(self.plain(output))
        partner = self.fw.tensor((np.arange(self.size) % nets.CLASSES)[of.plan.perm])
        s = self.fw.tensor(of.s) if isinstance(of.s, np.ndarray) else of.s
        return self.mean(
            (1.0 - s) * self.loss_function(output, self.labels) + s * self.loss_function(output, partner)
        )

    def loss(self, at, change):
        """A loss of an output, as it is or changed."""
        made = self.pick(at)
        if made is None:
            return
        change = {
            "same": lambda x: x,
            "scaled": lambda x: x * 2.0,
            "sliced": lambda x: x[:, : nets.CLASSES] + 0.5,
        }[change]
        self.add_loss([made], lambda side: change(getattr(made, side)))

    def add_loss(self, made, output):
        first = made[0]
        if self.implicit:
            ours = self.mean(self.criterion(output("ours"), self.labels))
        elif first.target is not None:
            ours = self.mean(first.target.blend(lambda y: self.loss_function(output("ours"), y)))
        else:
            ours = self.mean(self.plain(output("ours")))
        theirs = self.blended(output("theirs"), first)
        for each in made:
            each.used = True
        self.same(ours, theirs, "a loss")
        self.losses.append((ours, theirs, made))

    def joint(self, at, other):
        """A loss of two outputs' sum."""
        one, two = self.pick(at), self.pick(other)
        if one is None or not self.implicit or one is two:
            return
        plans = {id(each.plan) for each in (one, two)}
        if len(plans) > 1:
            self.refused(lambda: self.criterion(one.ours + two.ours, self.labels))
            raise Over
        self.add_loss([one, two], lambda side: getattr(one, side) + getattr(two, side))

    def detached(self, at):
        """A metric: of what was detached."""
        made = self.pick(at)
        if made is None or not self.implicit:
            return
        output = self.parts.detach(made.ours)
        right = (
            self.blended(made.theirs, made)
            if self.parts.known_detached
            else self.mean(self.plain(made.theirs))
        )
        self.same(self.mean(self.criterion(output, self.labels)), right, "a metric of a detached output")

    # backward passes

    def unused(self, at):
        """A plain loss of an output: of a mixed one it must be refused."""
        made = self.pick(at)
        if made is None:
            return
        if made.plan is None or made.used:
            return
        self.refused(lambda: self.parts.backward(self.mean(self.plain(made.ours)), False))
        raise Over

    def penalty(self, at):
        """A gradient of an output by the input, returned; before any loss."""
        made = self.pick(at)
        if made is None or made.how not in self.parts.penalised or self.how not in self.parts.penalised:
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
            with self.fw.evaluating(self.net), self.fw.no_grad():
                self.same(self.net(made.x), self.right(made.x, None)[0], "an eval forward inside backward")

        self.fw.on_gradient(made.ours, hook)

    def backward(self, count, retain):
        """Through the losses so far, together; some of them may go twice."""
        if not self.losses:
            return
        chosen = self.losses[-count:]
        retain = retain and all(self.parts.retains(made.how) for loss in chosen for made in loss[2])
        parts = [sum((each[side] for each in chosen[1:]), chosen[0][side]) for side in (0, 1)]
        for total in parts:
            self.parts.backward(total, retain)
        self.compare()
        if retain:
            for total in parts:
                self.parts.backward(total, False)
            self.compare()
        gone = {id(each) for loss in chosen for each in loss[2]}
        self.losses = [each for each in self.losses if not gone & {id(made) for made in each[2]}]
        self.outputs = [each for each in self.outputs if id(each) not in gone]

    def rewrap(self):
        """The hooks go, and come again; what was mixed before and is recomputed cannot be right any more."""
        lost = [loss for loss in self.losses if any(made.recomputed for made in loss[2])]
        self.fw.face.unwrap(self.net)
        self.wrap()
        if lost:
            self.refused(lambda: self.parts.backward(lost[0][0], False))
            raise Over
        self.outputs = [each for each in self.outputs if not each.recomputed]

    # judging

    def refused(self, f):
        try:
            f()
        except (MixingError, ValueError, *self.parts.errors):
            return
        raise Difference("something that cannot be right was not refused")

    def same(self, ours, theirs, what):
        ours, theirs = self.fw.numpy(ours), self.fw.numpy(theirs)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
            raise Difference(
                f"{what} differs by {np.abs(ours - theirs).max() if ours.shape == theirs.shape else '?'}"
            )

    def compare(self):
        ours, theirs = self.fw.gradients(self.net), self.fw.gradients(self.twin)
        for name in ours.keys() | theirs.keys():
            if name not in ours or name not in theirs:
                raise Difference(f"only one side has a gradient of {name}")
            scale = max(1.0, np.abs(theirs[name]).max())
            if not np.allclose(ours[name], theirs[name], rtol=1e-4, atol=2e-5 * scale):
                raise Difference(
                    f"the gradient of {name} differs by {np.abs(ours[name] - theirs[name]).max()}"
                )

    def afterwards(self):
        """Whatever was refused: a plain forward, and a mixed step, are right."""
        self.net.inside, self.net.silent = None, False
        self.step, self.shared, self.outputs, self.losses = self.mixer.step, None, [], []
        for net in (self.net, self.twin):
            self.parts.clear(net)
        with self.fw.evaluating(self.net):
            x = self.batch(3)
            self.same(self.net(x), self.right(x, None)[0], "an eval forward afterwards")
        made = self.forward(1, "implicit" if self.implicit else "target")
        self.add_loss([made], lambda side: getattr(made, side))
        self.backward(1, False)
