"""Outputs that a forward keeps to itself, or returns nothing at all, in every framework."""

import threading

import pytest

from mixlayers import MixingError
from tests.support.passing import blended, by_hand, implicit


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
