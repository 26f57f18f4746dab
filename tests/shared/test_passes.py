"""The plan travels with the tensors, whatever ran before or in between, in every framework."""

import copy

import numpy as np
import pytest

from mixlayers import MixingError, Mixup
from tests.support.passing import LAYERS, blended, by_hand, implicit, rows


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


def test_a_loss_that_is_only_logged_does_not_stand_for_the_trained_one(fw):
    model, mixer, criterion = implicit(fw)
    (x, y), plain = fw.batch(), fw.net()
    output = model(x)
    with fw.no_grad():
        logged = criterion(output, y)
    fw.close(logged, blended(fw, by_hand(fw, plain, x, mixer.last), y, mixer.last))
    error, before = fw.unused
    with pytest.raises(error, match=f"{before}no loss used the mixed target"):
        fw.cross_entropy(output, y).backward()


def test_a_copy_in_the_models_place_is_noticed_while_another_models_output_waits(fw):
    other, _, _ = implicit(fw)
    x, y = fw.batch()
    _waiting = other(x)  # kept, so that the twin's output carries a pass
    model = fw.net(seed=3)
    mixer = fw.face.Mixer(model, layers=LAYERS)
    twin, criterion = copy.deepcopy(model), mixer.loss(fw.criterion())
    with pytest.raises(MixingError, match="the wrapped model has not run"):
        criterion(twin(x), y)


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


def test_a_criterion_of_forwards_in_eval_mode_alone_is_warned_of(fw):
    """`mixer.loss` was asked for, so that a forward with gradients is to be mixed."""
    net, (x, y) = fw.net(), fw.batch()
    criterion = fw.face.Mixer(net, layers=LAYERS).loss(fw.cross_entropy)
    with fw.evaluating(net):
        for _ in range(9):
            criterion(net(x), y)
        with pytest.warns(
            UserWarning, match=r"none was mixed; this one ran in eval mode.*call model.train\(\)"
        ):
            criterion(net(x), y)
        criterion(net(x), y)


def test_who_mixes_is_not_warned(fw):
    model, (x, y) = fw.face.wrap(fw.net(), layers=LAYERS), fw.batch()
    model(x, target=y)[1].partner  # noqa: B018
    for _ in range(20):
        model(x)
