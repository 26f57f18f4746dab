"""A wrapped net beside its twin, and what a forward of both returned.

The oracle is the twin: it was never wrapped, and mixes as the plan says that it drew by itself, without hooks and
without recomputation. It asks the library for nothing but the step's number at which a program begins.
"""

from tests.programs import programs_nets as nets


class Wrapped:
    """One net, its mixer, and its twin.

    Attributes:
        implicit: Whether labels come with the loss, by a criterion of `mixer.loss`.
        whole: The recomputation around a forward, where a program says nothing else.
        step: How many plans were drawn.
        shared: Inside a `same_plan` block, the plan that its first forward drew.
    """

    def __init__(self, world, method, places, how, implicit, whole=(), seed=0, weights=0, share=None):
        self.world, self.method, self.seed, self.implicit = world, method, seed, implicit
        self.places = tuple(places) if method.hidden else ("input",)
        self.how, self.whole = nets.How(*map(tuple, how)), tuple(whole)
        first = world.all[0] if world.all else None
        kept = {
            side: {} if share is None else {share: getattr(getattr(first, side), share)}
            for side in ("net", "twin")
        }
        fw, parts, conv = world.fw, world.parts, world.conv
        self.net = nets.build(fw, parts, conv, self.how, weights, kept["net"])
        self.twin = nets.build(fw, parts, conv, seed=weights, shared=kept["twin"])
        self.step, self.shared = 0, None
        self.wrap()

    def wrap(self):
        options = {"layers": list(self.places)} if self.method.hidden else {}
        face = self.world.fw.face
        self.mixer = face.Mixer(self.net, self.method, seed=self.seed, example=self.world.batch(1), **options)
        self.mixer.load_state_dict({"step": self.step})
        self.criterion = self.mixer.loss(self.loss_function) if self.implicit else None

    @property
    def per_sample(self):
        return getattr(self.method, "lam_per", "batch") == "sample"

    def loss_function(self, output, y):
        return self.world.fw.criterion(per_sample=self.per_sample)(output, y)

    def plain(self, output):
        loss = self.loss_function(output, self.world.labels)
        return self.world.parts.mean(loss) if self.per_sample else loss

    def draw(self):
        """The plan of the next mixed forward; the oracle counts for itself."""
        if self.shared:
            return self.shared[0]
        plan = self.method.plan(
            step=self.step, batch_size=self.world.size, places=self.places, seed=self.seed, rank=0
        )
        self.step += 1
        if self.shared is not None:
            self.shared.append(plan)
        return plan

    def right(self, x, plan=None, call=None):
        return nets.by_hand(self.world.fw, self.world.parts, self.twin, x, plan, call)

    def recomputed(self, plan, whole):
        """Whether what a plan mixes runs again in backward."""
        if plan is None or plan.place is None:
            return False
        return bool(whole or self.how.again(plan.place))


class Output:
    """What one forward returned, on both sides.

    Attributes:
        of: Whose forward it is.
        ours, theirs: The tensors.
        plan, s: How its labels are mixed; None: they are not.
        target: What the library handed out.
        kinds: All recomputation that had a part in it.
        lost: Whose unwrapping would make its gradients wrong.
        use: Whether a loss used its pass: in a list, as what is computed from it has the same pass.
        graph: Names of the graphs that it needs: a backward pass through one takes them from all.
        returned: Whether it is just what a net returned, not kept by it nor a sum.
        own: Whether it is a function of x alone.
        apart: Whether an unmixed forward has a part in it too, so that no criterion may take it.
    """

    def __init__(self, of, x, ours, theirs, plan=None, s=0.0, target=None, kinds=(), lost=()):
        self.of, self.x, self.ours, self.theirs = of, x, ours, theirs
        self.plan = plan if plan is not None and plan.place is not None else None
        self.s, self.target, self.kinds, self.lost = s, target, {*of.how.kinds, *kinds}, list(lost)
        self.use, self.graph = [False], {object()}
        self.returned = self.own = True
        self.apart = False

    @property
    def used(self):
        return self.use[0]

    def comes_from(self, source):
        """Its input was another's output."""
        self.graph |= source.graph
        self.kinds |= source.kinds
        self.lost += source.lost
        self.own = False
        if self.plan is None and source.plan is not None:
            self.plan, self.s, self.use = source.plan, source.s, source.use
