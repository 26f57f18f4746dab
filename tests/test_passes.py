"""The plan travels with the tensors: whatever ran before, in between or around, in every framework."""

import copy
import threading

import numpy as np
import pytest

from mixlayers import ManifoldMixup, MixingError, Mixup

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


def test_late_losses_get_the_plan_of_their_own_forward(fw):
    """R-Drop, GANs: two forwards and then both losses, in whichever order."""
    model, mixer, criterion = implicit(fw)
    plain, (x, y) = fw.net(), fw.batch()
    first, one = model(x), mixer.last
    second, other = model(x * 2), mixer.last
    late, early = criterion(second, y), criterion(first, y)
    assert one.lam != other.lam
    twins = by_hand(fw, plain, x, one), by_hand(fw, plain, x * 2, other)
    expected = blended(fw, twins[0], y, one), blended(fw, twins[1], y, other)
    fw.close(early, expected[0])
    fw.close(late, expected[1])
    (late + early).backward()
    (expected[0] + expected[1]).backward()
    fw.same_gradients(model, plain)


def test_other_models_outputs_get_the_plain_loss(fw):
    """An EMA's, a teacher's, one of a net that was never wrapped: also while a mixed output waits."""
    model, _, criterion = implicit(fw)
    ema, foreign, (x, y) = copy.deepcopy(model), fw.net(seed=3), fw.batch()
    waiting = model(x)
    with fw.evaluating(model, ema), fw.no_grad():
        for other in (ema, model):
            output = other(x)
            fw.close(criterion(output, y), fw.cross_entropy(output, y))
    output = foreign(x)
    fw.close(criterion(output, y), fw.cross_entropy(output, y))
    assert not np.allclose(fw.numpy(criterion(waiting, y)), fw.numpy(fw.cross_entropy(waiting, y)))


def test_slices_casts_and_sums_are_told_from_whom_they_come(fw):
    model, mixer, criterion = implicit(fw)
    (x, y), plain = fw.batch(), fw.net()
    output, plan = model(x), mixer.last
    expected = by_hand(fw, plain, x, plan)
    fw.close(criterion(output[:, :4] * 2.0, y), blended(fw, expected * 2.0, y, plan))
    with pytest.raises(MixingError, match="comes from 2 forwards"):
        criterion(output + model(x), y)
    with fw.evaluating(model):
        clean = model(x)
    with pytest.raises(MixingError, match="comes from 2 forwards"):
        criterion(output + clean, y)


def test_forwards_share_a_plan_on_request(fw):
    """SAM runs the model twice on one batch."""
    model, mixer, criterion = implicit(fw)
    x, y = fw.batch()
    with mixer.same_plan():
        first, one = model(x), mixer.last
        with mixer.same_plan():
            second, other = model(x * 2), mixer.last
        with pytest.raises(MixingError, match="one plan is for one batch"):
            model(x[:4])
    assert one is other and mixer.step == 1 and mixer.history.steps == 2
    fw.close(criterion(first + second, y), blended(fw, first + second, y, one))
    with mixer.same_plan():
        pass
    model(x)
    assert mixer.last is not one and mixer.step == 2


def test_an_input_that_was_mixed_is_not_mixed_again_by_another_plan(fw):
    """A state that is handed on, say; the plan may be shared."""
    net, plain = (fw.mlp(4, 4, 4, seed=0) for _ in range(2))
    mixer = fw.face.Mixer(net, Mixup())
    criterion = mixer.loss(fw.criterion())
    x, y = rows(fw)
    state = net(x)
    with pytest.raises(MixingError, match=r"once more, by another plan.*same_plan"):
        net(state)
    with fw.evaluating(net):
        fw.close(criterion(net(state), y), blended(fw, plain(state), y, mixer_plan(0, 6)))
    state = net(x)
    plan = mixer.last
    with fw.evaluating(net):
        output, target = net(state, target=y)
    fw.close(fw.face.cross_entropy(output, target), blended(fw, plain(state), y, plan))
    with mixer.same_plan():
        criterion(net(net(x)), y).backward()


def mixer_plan(step, size):
    return Mixup().plan(step=step, batch_size=size)


class Calls:
    """Calls itself in the middle of its forward, as `how` says."""

    how = None

    def trunk(self, x):
        x = self.layer1(self.stem(x))
        how, self.how = self.how, None
        if how is not None:
            how(self)
        return self.layer3(self.layer2(x))


def test_calls_inside_a_mixed_forward(fw):
    """In eval mode or another thread they are forwards of their own; in training mode they are refused."""
    (x, y), seen, plain = fw.batch(), [], fw.net()

    def evaluate(model):
        fw.load(plain, fw.state(model))
        with fw.evaluating(model, plain), fw.no_grad():
            fw.close(model(x), plain(x), rtol=1e-4)

    def train_in_a_thread(model):
        thread = threading.Thread(target=lambda: seen.append(model(x, target=y)))
        thread.start()
        thread.join()

    for how in (evaluate, train_in_a_thread):
        model = wrapped_and_audited(fw, x, y)
        model.how = how
        output, target = model(x, target=y)
        fw.close(output, by_hand(fw, plain, x, target.plan), rtol=1e-4)
        loss = fw.face.cross_entropy(output, target)
        fw.close(loss, blended(fw, output, y, target.plan))
        loss.backward()
    other, target = seen[0]
    assert fw.face.get_mixer(model).step == 3 and target.plan.step == 2
    fw.close(other, by_hand(fw, plain, x, target.plan), rtol=1e-4)
    model = wrapped_and_audited(fw, x, y)
    fw.face.get_mixer(model).loss(fw.criterion())
    model.how = lambda model: model(x)
    with pytest.raises(MixingError, match="called inside its own mixed forward"):
        model(x)
    model(x)


def wrapped_and_audited(fw, x, y):
    model = fw.face.wrap(
        fw.net(Calls), layers=LAYERS, trust=True
    )  # the audit would call it, too, and what it calls
    model(x, target=y)[1].partner  # noqa: B018
    return model


def test_a_scope_keeps_the_target_of_its_mixed_forward(fw):
    """Whatever runs inside it before or after, in eval mode or without gradients."""
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=LAYERS)
    with mixer(y) as target:
        with fw.evaluating(model), fw.no_grad():
            model(x)
        assert not target.mixed
        output, plan = model(x), mixer.last
        with fw.evaluating(model):
            model(x)
        with fw.no_grad():
            model(x)
    assert target.plan is plan and target.mixed
    fw.close(fw.face.cross_entropy(output, target), blended(fw, output, y, plan))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of PyTorch's, without gradients
def test_an_eval_forward_inside_backward_is_clean(fw):
    for kind in (None, *fw.Recomputed):
        model, plain, (x, y), seen = fw.face.wrap(fw.net(kind), layers=LAYERS), fw.net(), fw.batch(), []

        def look(model=model, plain=plain, x=x, seen=seen):
            fw.load(plain, fw.state(model))
            with fw.evaluating(model, plain), fw.no_grad():
                fw.close(model(x), plain(x), rtol=1e-4)
            seen.append(model)

        output, target = model(x, target=y)
        fw.on_gradient(output, look)
        fw.face.cross_entropy(output, target).backward()
        assert seen == [model]


def rows(fw):
    x = np.random.default_rng(2).standard_normal((6, 4), dtype=np.float32)
    return fw.tensor(x), fw.batch()[1]


def test_a_penalty_may_come_before_the_loss(fw):
    x, y = rows(fw)
    model, plain = (fw.mlp(4, 5, 4, seed=0) for _ in range(2))
    fw.face.wrap(model, layers=["0"])
    given, again = fw.wanting(x), fw.wanting(x)
    output, target = model(given, target=y)
    (slope,) = fw.grad(output, [given], create_graph=True)
    (fw.face.cross_entropy(output, target) + fw.squares(slope)).backward()
    hidden, *rest = fw.stages(plain)
    expected = fw.by_hand(hidden(again), target.plan.perm, target.plan.lam, None)
    for stage in rest:
        expected = stage(expected)
    (slope,) = fw.grad(expected, [again], create_graph=True)
    (blended(fw, expected, y, target.plan) + fw.squares(slope)).backward()
    fw.same_gradients(model, plain)


def test_gradients_that_are_asked_for_and_trained_on_need_the_target_too(fw):
    """A loop of one's own: no backward(), the gradients are returned."""
    model, _, criterion = implicit(fw)
    x, y = fw.batch()
    some = fw.parameters(model)[:2]
    fw.grad(criterion(model(x), y), some)
    fw.grad(fw.cross_entropy(model(x), y), some)
    with pytest.raises(MixingError, match="no loss used the mixed target"):
        model(x)
    model(x)


class Stashes:
    """Keeps its output to itself."""

    def forward(self, x):
        self.kept = super().forward(x)


@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_forward_that_returns_nothing_is_refused_where_the_labels_come_later(fw, place):
    model, mixer, _ = implicit(fw, layers=[place], kind=Stashes)
    x, y = fw.batch()
    with pytest.raises(MixingError, match="returned no tensor of its own"):
        model(x)
    with mixer(y) as target:
        model(x)
    fw.face.cross_entropy(model.kept, target).backward()


class ReturnsMore:
    """Returns something else than what the loss takes."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept * 2.0


@pytest.mark.parametrize("place", ["layer1", "input"])
def test_what_a_forward_keeps_is_known_by_what_was_mixed_or_refused(fw, place):
    """A mixed input without gradients is in no graph but Chainer's."""
    model, mixer, criterion = implicit(fw, layers=[place], kind=ReturnsMore)
    x, y = fw.batch()
    returned = model(x)
    if place == "input" and fw.name in ("torch", "paddle"):
        with pytest.raises(MixingError, match="cannot be told from one of a mixed forward"):
            criterion(model.kept, y)
    else:
        fw.close(criterion(model.kept, y), blended(fw, model.kept, y, mixer.last))
    criterion(returned, y)
    if place == "input" and fw.name in ("torch", "paddle"):
        with pytest.raises(MixingError, match="cannot be told from one of a mixed forward"):
            criterion(model.kept, y)  # also when the pass was used


class KeepsMore:
    """Keeps an output that an evaluation of the model itself had a part in."""

    other = None

    def forward(self, x):
        own = super().forward(x)
        other, self.other = self.other, None
        if other is not None:
            with self.fw.evaluating(self):
                own = own + self(*other)
        self.kept = own
        return own * 2.0


@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_kept_output_is_not_taken_for_the_evaluation_inside_it(fw, place):
    model, _, criterion = implicit(fw, layers=[place], kind=KeepsMore)
    model.fw = fw
    x, y = fw.batch()
    criterion(model(x), y)
    model.other = (x * 2.0,)  # not as a buffer
    returned = model(x)
    with pytest.raises(
        MixingError, match=r"comes from 2 forwards|cannot be told from one of a mixed forward"
    ):
        criterion(model.kept, y)
    assert returned is not None


class Judges:
    """Computes its loss itself, as models of text do."""

    def forward(self, x, y):
        return self.judge[0](super().forward(x), y)


@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_criterion_inside_the_models_own_forward(fw, place):
    model, mixer, criterion = implicit(fw, layers=[place], kind=Judges)
    (x, y), plain = fw.batch(), fw.net()
    model.judge = (criterion,)
    if place == "input" and fw.name in ("torch", "paddle"):
        with pytest.raises(MixingError, match="cannot be told from one of a mixed forward"):
            model(x, y)
        return
    loss = model(x, y)
    expected = blended(fw, by_hand(fw, plain, x, mixer.last), y, mixer.last)
    fw.close(loss, expected)
    loss.backward()
    expected.backward()
    fw.same_gradients(model, plain)


def test_two_forwards_in_one_recomputed_segment_keep_their_plans(fw):
    models, (x, y) = [], fw.batch()
    for recomputed in (False, True):
        model, _, criterion = implicit(fw)

        def both(x, model=model, criterion=criterion, y=y):
            return criterion(model(x), y) + criterion(model(x * 2), y)

        (fw.recompute(both, fw.wanting(x)) if recomputed else both(x)).backward()
        models.append(model)
    fw.same_gradients(*models)


def test_a_criterion_in_a_recomputed_segment_of_its_own(fw):
    """F.forget hands it variables that are nobody's, so Chainer's is stopped."""
    models, (x, y) = [], fw.batch()
    for recomputed in (False, True):
        model, _, criterion = implicit(fw)
        losses = []
        for scale in (1.0, 2.0):
            output = model(x * scale)

            def late(output, criterion=criterion, y=y):
                return criterion(output, y)

            losses.append(fw.recompute(late, output) if recomputed else late(output))
        if recomputed and fw.name.startswith("chainer"):
            with pytest.raises(MixingError, match="no loss used the mixed target"):
                sum(losses).backward()
            return
        sum(losses).backward()
        models.append(model)
    fw.same_gradients(*models)


def test_unwrapping_before_a_recomputation_is_refused(fw):
    for kind in fw.Recomputed:
        model, (x, y) = fw.face.wrap(fw.net(kind), layers=["layer1"]), fw.batch()
        loss = fw.face.cross_entropy(*model(x, target=y))
        fw.face.unwrap(model)
        error, before = fw.unused
        with pytest.raises(error, match=f"{before}unwrapped after a mixed forward"):
            loss.backward()


def test_clean_forwards_of_before_the_layers_were_chosen_are_recomputed_clean(fw):
    (x, y) = fw.batch()
    for kind in fw.Recomputed:
        model, plain = fw.face.wrap(fw.net(kind), ManifoldMixup()), fw.net()
        clean = fw.cross_entropy(model(x), y)
        output, target = model(x, target=y)
        (fw.face.cross_entropy(output, target) + clean).backward()
        expected = blended(fw, by_hand(fw, plain, x, target.plan), y, target.plan)
        (expected + fw.cross_entropy(plain(x), y)).backward()
        fw.same_gradients(model, plain)


def test_an_interrupt_leaves_nothing_armed(fw):
    plain, (x, y) = fw.net(), fw.batch()
    model = wrapped_and_audited(fw, x, y)

    def interrupt(model):
        raise KeyboardInterrupt

    model.how = interrupt
    with pytest.raises(KeyboardInterrupt):
        model(x, target=y)
    h = model.layer2(model.layer1(model.stem(x)))
    fw.close(h, plain.layer2(plain.layer1(plain.stem(x))))
    output, target = model(x, target=y)
    fw.close(fw.face.cross_entropy(output, target), blended(fw, output, y, target.plan))


@pytest.mark.parametrize("way", ["eval", "plain"])
def test_training_without_mixing_is_told_once(fw, way):
    model, (x, y) = fw.face.wrap(fw.net(), layers=LAYERS), fw.batch()

    def forward():
        if way == "plain":
            return model(x)
        with fw.evaluating(model):
            return model(x, target=y)

    for _ in range(9):
        forward()
    with pytest.warns(UserWarning, match="ran 10 forwards with gradients and none was mixed"):
        forward()
    forward()


def test_who_mixes_is_not_warned(fw):
    model, (x, y) = fw.face.wrap(fw.net(), layers=LAYERS), fw.batch()
    model(x, target=y)[1].partner  # noqa: B018
    for _ in range(20):
        model(x)
