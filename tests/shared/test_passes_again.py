"""Forwards that run again in backward get the plans that they had, in every framework."""

import pytest

from mixlayers import ManifoldMixup, MixingError
from tests.support.passing import blended, by_hand, implicit


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


class Stashes:
    """Keeps its output to itself."""

    def forward(self, x):
        self.kept = super().forward(x)


def test_unwrapping_before_the_recomputation_of_what_was_kept_is_refused(fw):
    """Nothing that the model returned can tell of the gradient; PyTorch itself may see that less is recomputed."""
    for kind in (
        fw.Recomputed[:1] if fw.name == "paddle" else fw.Recomputed
    ):  # a PyLayer of Paddle tells nobody
        model, (x, y) = fw.net(type("Kept", (Stashes, kind), {})), fw.batch()
        mixer = fw.face.Mixer(model, layers=["layer1"])
        with mixer(y) as target:
            model(x)
        loss = fw.face.cross_entropy(model.kept, target)
        fw.face.unwrap(model)
        refusals = r"unwrapped after|does not run it again|different number of tensors"
        with pytest.raises((RuntimeError, OSError), match=refusals):
            loss.backward()
