"""`mixer.history`: every mixed forward is told once, in every framework."""

import copy

import numpy as np
import pytest

from mixlayers import CutMix, History, ManifoldMixup, OneOf, PatchUp

LAYERS = ["input", "layer1", "layer2"]
METHOD = OneOf({ManifoldMixup(lam_per="sample"): 2, PatchUp("soft", block_size=3): 2, CutMix(): 1}, prob=0.8)


def test_what_was_mixed_is_told_once(fw):
    model, (x, y) = fw.face.wrap(fw.net(), METHOD, LAYERS), fw.batch()
    mixer, expected = fw.face.get_mixer(model), []
    for step in range(12):
        output, target = model(x, target=y)
        fw.face.cross_entropy(output, target).backward()
        s = np.mean(fw.numpy(target.s) if hasattr(target.s, "ndim") else target.s)
        expected.append((step, target.layer, np.mean(mixer.last.lam), s))
    assert [(record.step, record.layer) for record in mixer.history] == [row[:2] for row in expected]
    found = [(record.lam, record.s) for record in mixer.history]
    np.testing.assert_allclose(found, [row[2:] for row in expected], rtol=1e-6)
    assert len(mixer.history.counts) == 4  # three layers and clean steps


@pytest.mark.parametrize("way", ["scope", "loss"])
def test_each_way_is_told(fw, way):
    model, (x, y) = fw.net(), fw.batch()
    mixer = fw.face.Mixer(model, ManifoldMixup(), LAYERS)
    for _ in range(3):
        if way == "scope":
            with mixer(y) as target:
                output = model(x)
            fw.face.cross_entropy(output, target).backward()
        else:
            mixer.loss(fw.criterion())(model(x), y).backward()
    assert mixer.history.steps == mixer.history.mixed == mixer.step == 3


def test_what_was_not_to_be_mixed_is_not_counted(fw):
    model, (x, y) = fw.face.wrap(fw.net()), fw.batch()
    mixer = fw.face.get_mixer(model)
    model(x)
    with fw.evaluating(model):
        model(x, target=y)
    with fw.no_grad():
        model(x, target=y)
    assert mixer.history.steps == 0
    output, target = model(x, target=y)  # with the audit that chooses the layers
    fw.face.cross_entropy(output, target).backward()
    assert mixer.history.steps == 1


def test_what_runs_again_in_backward_is_not_counted_again(fw):
    for kind in (*fw.Recomputed, None):
        model, (x, y) = fw.face.wrap(fw.net(kind), ManifoldMixup(), ["layer1", "layer2"]), fw.batch()
        x = fw.tensor(fw.numpy(x).astype(np.float32))
        mixer = fw.face.get_mixer(model)
        for _ in range(3):
            if kind is None:  # the whole model is recomputed
                with mixer(y) as target:
                    output = fw.recompute(model, x)
            else:
                output, target = model(x, target=y)
            fw.face.cross_entropy(output, target).backward()
        assert [record.step for record in mixer.history] == [0, 1, 2], kind


def test_a_forward_that_failed_is_not_counted(fw):
    model, (x, y) = fw.face.wrap(fw.net(), ManifoldMixup(), "layer1"), fw.batch()
    mixer = fw.face.get_mixer(model)
    with pytest.raises(Exception):  # noqa: B017, PT011  # each framework has its own
        model(x[:, :2], target=y)
    assert mixer.history.steps == 0
    fw.face.cross_entropy(*model(x, target=y)).backward()
    assert mixer.history.steps == 1


def test_a_copy_starts_its_own_and_a_checkpoint_has_none(fw):
    model, (x, y) = fw.face.wrap(fw.net(), ManifoldMixup(), LAYERS), fw.batch()
    fw.face.cross_entropy(*model(x, target=y)).backward()
    mixer, its = fw.face.get_mixer(model), fw.face.get_mixer(copy.deepcopy(model))
    assert (mixer.history.steps, its.history.steps, its.step) == (1, 0, 1)
    assert isinstance(its.history, History) and its.history is not mixer.history
    assert mixer.state_dict() == {"step": 1}
    mixer.load_state_dict({"step": 7})
    fw.face.cross_entropy(*model(x, target=y)).backward()
    assert [record.step for record in mixer.history] == [0, 7]
