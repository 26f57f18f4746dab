"""What runs inside a mixed forward, a scope or a backward pass, in every framework."""

import contextlib
import gc
import threading
from weakref import ref

import pytest

from mixlayers import MixingError
from tests.support.passing import LAYERS, blended, by_hand, implicit, wrapped_and_audited


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


def test_an_interrupted_forward_keeps_its_batch_until_the_next_model_runs(fw):
    """Frameworks close no forward that KeyboardInterrupt ended, and its place on the stack holds the caller's names."""

    def interrupt(model):
        raise KeyboardInterrupt

    def interrupted():
        x, y = fw.batch()
        model = wrapped_and_audited(fw, x, y, Calls)
        model.how = interrupt
        with contextlib.suppress(KeyboardInterrupt):
            model(x, target=y)
        return ref(model)

    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, layers=LAYERS)
    gone = interrupted()
    model(x, target=y)
    gc.collect()
    assert mixer.step == 1 and gone() is None


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


class Adds:
    """Adds what `inside` returns to its output."""

    inside = None

    def forward(self, x):
        inside, self.inside = self.inside, None
        output = super().forward(x)
        return output if inside is None else output + inside(self)


@pytest.mark.parametrize("recomputed", [False, True])
def test_a_mixed_call_inside_a_clean_forward_decides_on_its_labels(fw, recomputed):
    (x, y), plain, targets = fw.batch(), fw.net(), []
    model = fw.net(Adds)
    mixer = fw.face.Mixer(model, layers=LAYERS)

    def inside(model):
        output, target = model(x, target=y)
        targets.append(target)
        return output

    def outer(x):
        model.inside = inside
        return model(x)

    output = fw.recompute(outer, fw.wanting(x)) if recomputed else outer(x)
    plan = targets[0].plan
    expected = by_hand(fw, plain, x, plan) + plain(x)
    fw.close(output, expected)
    criterion = mixer.loss(fw.criterion())
    if recomputed and fw.name.startswith("chainer"):  # it runs without gradients there
        with pytest.raises(MixingError, match="comes from 2 forwards"):
            criterion(output, y)
        return
    fw.close(criterion(output, y), blended(fw, expected, y, plan))
