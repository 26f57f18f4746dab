"""The three ways to mix, and that the model stays the user's own."""

import copy
import inspect
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Net, batch, net
from torch import nn

from mixlayers import CutMix, ManifoldMixup, MixedTarget, Mixup, OneOf, PatchUp, Scheduled
from mixlayers import _reference as reference
from mixlayers.presets import PRESETS
from mixlayers.torch import Mixer, accuracy, cross_entropy, get_mixer, unwrap, wrap

LAYERS = ["layer1", "layer2"]


def by_hand(model, x, plan):
    """The model's output with its planned layer mixed by a plain hook."""

    def mix(module, args, output):
        mask = plan.blend(tuple(output.shape)).mask
        mask = torch.ones(1, dtype=torch.bool) if mask is None else torch.tensor(mask)
        return torch.where(mask, plan.lam * output + (1 - plan.lam) * output[plan.perm], output)

    handle = model.get_submodule(plan.place).register_forward_hook(mix)
    output = model(x)
    handle.remove()
    return output


@pytest.mark.parametrize(
    "method", [ManifoldMixup(), PatchUp("hard", block_size=3), PatchUp("soft")], ids=repr
)
def test_the_explicit_step_equals_mixing_by_hand(method):
    plain, model, (x, y) = net(), wrap(net(), method, LAYERS), batch()
    for _ in range(6):
        output, target = model(x, target=y)
        loss = cross_entropy(output, target)
        loss.backward()
        plan = get_mixer(model).last
        expected = by_hand(plain, x, plan)
        torch.testing.assert_close(output, expected)
        soft = reference.soft_target(y.numpy(), plan.perm, plan.blend((6, 6, 8, 8)).s, 4)
        F.cross_entropy(expected, torch.tensor(soft, dtype=torch.float32)).backward()
    assert {get_mixer(model).method.plan(step=s, batch_size=6, places=LAYERS).place for s in range(6)} == set(
        LAYERS
    )
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for ours, theirs in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_three_ways_are_one():
    x, y = batch()
    losses = []
    for way in ("target", "scope", "loss"):
        model = net()
        mixer = Mixer(model, PatchUp("soft"), ["input", *LAYERS], seed=3)
        if way == "target":
            loss = cross_entropy(*(model(x, target=y)))
        elif way == "scope":
            with mixer(y) as target:
                output = model(x)
            loss = target.blend(lambda label, output=output: F.cross_entropy(output, label))
        else:
            loss = mixer.loss(nn.CrossEntropyLoss())(model(x), y)
        loss.backward()
        losses.append((loss.item(), model.stem.weight.grad))
    for loss, gradient in losses[1:]:
        assert loss == pytest.approx(losses[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, losses[0][1])


def test_nothing_is_mixed_unless_asked():
    plain, model, (x, y) = net(), wrap(net(), layers=LAYERS), batch()
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)
    with torch.no_grad():
        output, target = model(x, target=y)
    torch.testing.assert_close(output, plain(x), rtol=0, atol=0)
    assert (target.s, target.layer, target.mixed, target.y is y) == (0.0, None, False, True)
    plain.eval(), model.eval()
    with get_mixer(model)(y) as target:
        output = model(x)
    assert torch.equal(output, plain(x)) and target.blend(lambda label: label is y)
    criterion = get_mixer(model).loss(nn.CrossEntropyLoss())
    assert criterion(model(x), y) == F.cross_entropy(plain(x), y)
    assert get_mixer(model).step == 0


def test_the_model_stays_what_it_was():
    model, x = net(), batch()[0]
    keys, names, signature = list(model.state_dict()), set(vars(model)), inspect.signature(model.forward)
    before = model.eval()(x)
    assert wrap(model.train(), example=x) is model and type(model) is Net
    cross_entropy(*model(x, target=batch()[1])).backward()
    assert (list(model.state_dict()), set(vars(model)), inspect.signature(model.forward)) == (
        keys,
        names,
        signature,
    )
    fresh = net()
    fresh.load_state_dict(model.state_dict())
    unwrap(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model.eval()(x), fresh.eval()(x)) and not torch.equal(model(x), before)
    with pytest.raises(ValueError, match="not wrapped"):
        unwrap(model)


def test_auto_chooses_at_the_first_batch_or_from_an_example():
    x, y = batch()
    early, late = wrap(net(), example=x), wrap(net())
    assert get_mixer(early).places == ("input", "layer1", "layer2") and get_mixer(late).places is None
    late(x, target=y)
    assert get_mixer(late).places == ("input", "layer1", "layer2")
    every = wrap(net(), layers="stages", example=(x,))
    assert get_mixer(every).places == ("input", "layer1", "layer2", "layer3")


@pytest.mark.parametrize(
    "method", [Mixup(), CutMix(), OneOf({Mixup(): 1.0, CutMix(): 1.0}), Scheduled(Mixup())]
)
def test_input_methods_need_no_layers(method):
    model, (x, y) = wrap(net(), method), batch()
    kept = x.clone()
    output, target = model(x, target=y)
    cross_entropy(output, target).backward()
    assert target.layer == "input" and torch.equal(x, kept) and 0.0 <= accuracy(output, target) <= 1.0


def test_input_presets_attach_as_they_stand():
    for name in ("mixup-cifar", "cutmix-imagenet"):
        mixer = Mixer(net(), PRESETS[name].method, PRESETS[name].layers)
        assert mixer.places == ("input",)


def copies():
    def through_torch(model):
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        return torch.load(file, weights_only=False)

    return [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_torch]


@pytest.mark.parametrize("copied", copies(), ids=["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize("when", ["before", "after a step"])
def test_a_copy_has_its_own_mixer_and_weights(copied, when):
    model, (x, y) = wrap(net(), layers=lambda name, module: name in LAYERS), batch()
    mixer = get_mixer(model)
    if when != "before":
        model(x, target=y)
    twin = copied(model)
    assert get_mixer(twin) is not mixer and get_mixer(twin).step == mixer.step
    step = mixer.step
    with torch.no_grad():
        twin.layer1.conv.weight.zero_()
    ours, theirs = model(x, target=y)[0], twin(x, target=y)[0]
    assert not torch.equal(ours, theirs) and mixer.last.to_dict() == get_mixer(twin).last.to_dict()
    assert (mixer.step, get_mixer(twin).step) == (step + 1, step + 1)
    unwrap(twin)
    assert get_mixer(model) is mixer and len(model.layer1._forward_hooks) == 1


def test_resume_equals_an_uninterrupted_run():
    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            cross_entropy(*model(*batch()[:1], target=batch()[1])).backward()
            optimizer.step()

    def start():
        model = wrap(net(), layers=LAYERS, seed=11)
        return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    whole, optimizer = start()
    steps(whole, optimizer, 7)
    first, optimizer = start()
    steps(first, optimizer, 4)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict(), get_mixer(first).state_dict()))
    second, optimizer = start()
    for part, state in zip((second, optimizer, get_mixer(second)), saved, strict=True):
        part.load_state_dict(state)
    steps(second, optimizer, 3)
    assert saved[2] == {"step": 4} and get_mixer(second).step == get_mixer(whole).step == 7
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    with pytest.raises(ValueError, match=r'\{"step": n\}'):
        get_mixer(second).load_state_dict({"epoch": 3})


def test_global_random_states_do_not_move():
    import random

    model, (x, y) = wrap(net(), PatchUp("soft")), batch()
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    cross_entropy(*model(x, target=y)).backward()
    after = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_labels_may_be_soft_or_several():
    model, (x, y) = wrap(net(), Mixup(lam_per="sample", pairs="different_class")), batch()
    _, target = model(x, target=F.one_hot(y, 4).float())
    assert (y[target.plan.perm] != y).any() and torch.allclose(target.soft(4).sum(1), torch.ones(6))
    model = wrap(net(), ManifoldMixup(), LAYERS)
    _, target = model(x, target={"shape": y, "colour": y.float()})
    loss = target.blend(lambda labels: labels["colour"].mean() + labels["shape"].float().mean())
    assert isinstance(target, MixedTarget) and loss > 0
