"""What runs inside a mixed forward, a scope or a backward pass, and what a forward keeps, in every framework."""

import threading

import pytest
from passing import LAYERS, blended, by_hand, implicit, wrapped_and_audited

from mixlayers import MixingError


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
        model = wrapped_and_audited(fw, x, y, Calls)
        model.how = how
        output, target = model(x, target=y)
        fw.close(output, by_hand(fw, plain, x, target.plan), rtol=1e-4)
        loss = fw.face.cross_entropy(output, target)
        fw.close(loss, blended(fw, output, y, target.plan))
        loss.backward()
    other, target = seen[0]
    assert fw.face.get_mixer(model).step == 3 and target.plan.step == 2
    fw.close(other, by_hand(fw, plain, x, target.plan), rtol=1e-4)
    model = wrapped_and_audited(fw, x, y, Calls)
    fw.face.get_mixer(model).loss(fw.criterion())
    model.how = lambda model: model(x)
    with pytest.raises(MixingError, match="called inside its own mixed forward"):
        model(x)
    model(x)


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


def test_an_interrupt_leaves_nothing_armed(fw):
    plain, (x, y) = fw.net(), fw.batch()
    model = wrapped_and_audited(fw, x, y, Calls)

    def interrupt(model):
        raise KeyboardInterrupt

    model.how = interrupt
    with pytest.raises(KeyboardInterrupt):
        model(x, target=y)
    h = model.layer2(model.layer1(model.stem(x)))
    fw.close(h, plain.layer2(plain.layer1(plain.stem(x))))
    output, target = model(x, target=y)
    fw.close(fw.face.cross_entropy(output, target), blended(fw, output, y, target.plan))


def test_a_metric_before_the_mixed_forward_of_a_scope_is_no_use_of_its_target(fw):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=LAYERS)
    with mixer(y) as target:
        with fw.evaluating(model), fw.no_grad():
            clean = model(x)
        fw.close(target.blend(lambda y: fw.cross_entropy(clean, y)), fw.cross_entropy(clean, y))
        output = model(x)
    error, before = fw.unused
    with pytest.raises(error, match=f"{before}no loss used the mixed target"):
        fw.cross_entropy(output, y).backward()


def in_a_thread(f):
    thread = threading.Thread(target=f)
    thread.start()
    thread.join()


@pytest.mark.filterwarnings("ignore")  # of PyTorch's: an input of a segment wants no gradient
@pytest.mark.parametrize("place", ["layer1", "input"])
def test_a_forward_that_returned_nothing_is_watched_by_what_was_mixed(fw, place):
    """In another thread, where no later forward asks."""
    error, before = fw.unused
    for kind in (None, *fw.Recomputed):
        bases = (Stashes,) if kind is None else (Stashes, kind)
        model, (x, y), plain = fw.net(type("Kept", bases, {})), fw.batch(), fw.net()
        mixer, x = fw.face.Mixer(model, layers=[place]), fw.wanting(x)
        targets = []

        def run(model=model, mixer=mixer, x=x, y=y, targets=targets):
            with mixer(y) as target:
                model(x)
            targets.append(target)

        in_a_thread(run)
        with pytest.raises(error, match=f"{before}no loss used the mixed target"):
            fw.cross_entropy(model.kept, y).backward()
        model, plain = fw.net(type("Kept", bases, {})), fw.net()
        mixer = fw.face.Mixer(model, layers=[place])
        run(model=model, mixer=mixer)
        fw.face.cross_entropy(model.kept, targets[1]).backward()
        plan = targets[1].plan
        blended(fw, by_hand(fw, plain, x, plan), y, plan).backward()
        fw.same_gradients(model, plain)


def test_what_another_model_kept_is_not_taken_for_unmixed(fw):
    """Its features may be in no graph: an input's, or a recomputed layer's."""
    other, criterion = implicit(fw)[::2]
    (x, y), kept = fw.batch(), fw.net(Stashes, seed=3)
    other(x)
    mixer = fw.face.Mixer(kept, layers=["input"])
    with mixer(y) as target:
        kept(x)
    if fw.name in ("torch", "paddle"):
        with pytest.raises(MixingError, match="cannot be told from one of a mixed forward"):
            criterion(kept.kept, y)
    else:
        fw.close(criterion(kept.kept, y), blended(fw, kept.kept, y, target.plan))
