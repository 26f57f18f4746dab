"""What the audit refutes, what it proves and what it leaves alone, in every framework.

The truth of each place is set by hand: the network says where its samples go.
"""

import random

import numpy as np
import pytest

from mixlayers import MixingError, Mixup
from tests.support.audited import PLACES, net, weighted_batch


def in_training(fw, model):
    if fw.name.startswith("chainer"):
        import chainer

        return chainer.config.train
    return model.training


def floats(fw, ids):
    """Whole numbers as float32, which no gradient follows."""
    if fw.name == "torch":
        return ids.float()
    return ids.astype("float32")


class Auxiliary:
    """A second head behind layer1, in training alone (GoogLeNet's pattern)."""

    fw = None

    def forward(self, x):
        h = self.layer1(self.stem(x))
        main = self.head(self.fw.pooled(self.layer3(self.layer2(h))))
        return (main, self.head(self.fw.pooled(h * 2.0))) if in_training(self.fw, self) else main


class Weighted:
    """Pools by weights that come beside the images: a padding mask, by whatever name and way."""

    fw = None

    def forward(self, x, weights):
        weights = weights["weights"] if isinstance(weights, dict) else weights
        weights = floats(self.fw, weights).reshape((-1, 1, 1, 1))
        return self.head(self.fw.pooled(self.trunk(x) * weights))


class Detached:
    """The stem's features reach the head a second way, which no gradient follows."""

    fw = None

    def forward(self, x):
        h = self.stem(x)
        side = self.fw.pooled(self.fw.tensor(self.fw.numpy(h).astype(np.float32)) ** 2)
        return self.head(self.fw.pooled(self.layer3(self.layer2(self.layer1(h)))) + side)


class LastRow:
    """Reads each sample's own last row, as classifiers read their last token: of what is mixed, the wrong one."""

    fw = None

    def forward(self, x, lengths):
        h = self.trunk(x)
        samples = self.fw.tensor(np.arange(len(h)))
        rows = h[samples, :, lengths - 1]
        return self.head(self.fw.pooled(rows.reshape((*rows.shape[:2], 1, -1))))


class Reversible:
    """layer2 in a function with a backward of its own: of what layer2 is made of, or of layer2 as it is called."""

    fw, called = None, False

    def trunk(self, x):
        again = self.layer2 if self.called else self.layer2.forward
        return self.layer3(self.fw.own_backward(self.layer2, again, self.layer1(self.stem(x))))


class Skipping:
    """Leaves layer2 out by chance."""

    def trunk(self, x):
        h = self.layer1(self.stem(x))
        if random.random() > 0.9:
            h = self.layer2(h)
        return self.layer3(h)


def test_true_places_are_proved_in_both_ways(fw):
    report = fw.face.audit(fw.net(), fw.batch()[0])
    for place in PLACES:
        assert report[place].true and report[place].swap.verdict == "yes"
    assert report["layer1.conv"].swap is None  # the graph says no
    assert report.chosen == ("input", "layer1", "layer2")
    assert "graph  swap  mixes everything?" in str(report)


def test_heads_in_training_alone(fw):
    report = fw.face.audit(net(fw, Auxiliary), fw.batch()[0])
    assert [report[place].true for place in PLACES] == [True, False, False]
    model, (x, y) = fw.face.wrap(net(fw, Auxiliary), layers="layer2"), fw.batch()
    with pytest.raises(ValueError, match="'layer2' is not a true mixing point"):
        model(x, target=y)
    model = fw.face.wrap(net(fw, Auxiliary), example=x)
    assert not {"layer2", "layer3"} & set(fw.face.get_mixer(model).places)


def test_what_no_gradient_follows(fw):
    report = fw.face.audit(net(fw, Detached), fw.batch()[0])
    assert report["stem"].true
    for place in PLACES:
        assert not report[place].true and report[place].swap.verdict == "no"


@pytest.mark.parametrize("way", ["by position", "by name", "in a dict"])
def test_a_mask_that_goes_round_is_named(fw, way):
    x, weights, y = weighted_batch(fw)
    call, says = {
        "by position": (((x, weights), {}), "argument 'weights' reaches"),
        "by name": (((x,), {"weights": weights}), "argument 'weights' reaches"),
        "in a dict": (((x, {"weights": weights}), {}), "argument \"weights\\['weights'\\]\" reaches"),
    }[way]
    model = fw.face.wrap(net(fw, Weighted), layers="layer1")
    with pytest.raises(ValueError, match=f"'layer1' is not a true mixing point.*{says}.*trust="):
        model(*call[0], **call[1], target=y)
    fw.face.unwrap(model)
    fw.face.wrap(model, layers="layer1", trust=["layer1"])
    assert model(*call[0], **call[1], target=y)[1].mixed
    model = fw.face.wrap(net(fw, Weighted))
    with pytest.raises(ValueError, match=r"layers='auto'.*no hidden layer"):
        model(*call[0], **call[1], target=y)


def test_an_input_beside_whole_numbers(fw):
    """Mixup mixes the images, but not what comes with them."""
    x, weights, y = weighted_batch(fw)
    model = fw.face.wrap(net(fw, Weighted), Mixup())
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"the input is not a true mixing point.*'weights' reaches it another"
        ):
            model(x, weights, target=y)
    same = fw.tensor(np.ones(8, dtype=int))
    assert model(x, same, target=y)[1].mixed


def test_a_batch_that_refutes_later_is_refused(fw):
    """A leak that no batch so far has shown, found by the proof at forward 2, 4, 8, ..."""
    x, weights, y = weighted_batch(fw)
    same = fw.tensor(np.ones(8, dtype=int))
    model = fw.face.wrap(net(fw, Weighted), layers="layer1")
    for _ in range(3):
        assert model(x, same, target=y)[1].mixed
    with pytest.raises(
        MixingError, match=r"in this batch, though not in one before.*'weights' reaches it another way"
    ):
        model(x, weights, target=y)


def test_pooling_at_each_samples_own_position(fw):
    x, lengths, y = weighted_batch(fw)
    report = fw.face.audit(net(fw, LastRow), (x, lengths))
    assert [report[place].swap.verdict for place in PLACES] == ["no"] * 3
    model = fw.face.wrap(net(fw, LastRow), layers="layer1")
    with pytest.raises(
        ValueError, match=r"'layer1' is not a true mixing point.*'lengths' reaches it another way"
    ):
        model(x, lengths, target=y)
    same = fw.tensor(np.full(8, 3))
    assert model(x, same, target=y)[1].mixed


def test_a_backward_of_a_functions_own_must_follow_the_swap(fw):
    x, y = fw.batch()
    model = fw.face.wrap(net(fw, Reversible), layers="layer2")
    before = {name: gradient.copy() for name, gradient in trained(fw, model, x).items()}
    with pytest.raises(ValueError, match=r"own backward does not follow the swap: gradients are off by"):
        model(x, target=y)
    after = fw.gradients(model)
    assert after.keys() == before.keys() and all(np.array_equal(after[name], before[name]) for name in after)
    fw.face.wrap(net(fw, Reversible, called=True), layers="layer2", example=x)


def trained(fw, model, x):
    """The gradients of a plain step, which an audit must leave alone."""
    fw.squares(model(x)).backward()
    return fw.gradients(model)


def test_layers_that_chance_leaves_out(fw):
    model = net(fw, Skipping)
    report = fw.face.audit(model, fw.batch()[0])
    assert report["layer1"].true and not report["layer2"].true


def test_a_single_sample_is_enough(fw):
    report = fw.face.audit(fw.net(), fw.batch(1)[0])
    assert report.chosen == ("input", "layer1", "layer2")


class Beside:
    """Returns an early head's scores beside the logits."""

    fw = None

    def forward(self, x):
        h = self.layer1(self.stem(x))
        logits = self.head(self.fw.pooled(self.layer3(self.layer2(h))))
        return {"logits": logits, "early": self.head(self.fw.pooled(h)) * 2.0}


def test_an_output_that_the_place_does_not_reach_must_not_be_trained(fw):
    x, y = fw.batch()
    for place, refused in (("layer1", False), ("layer2", True)):
        model = fw.face.wrap(net(fw, Beside), layers=place)
        output, target = model(x, target=y)
        fw.face.cross_entropy(
            output["logits"], target
        ).backward()  # which the early scores' features lead to, too
        output, target = model(x, target=y)
        loss = fw.face.cross_entropy(output["logits"], target) + fw.face.cross_entropy(
            output["early"], target
        )
        if refused:
            with pytest.raises(fw.unused[0], match=r"'early' gets a gradient.*'layer2'"):
                loss.backward()
        else:
            loss.backward()
