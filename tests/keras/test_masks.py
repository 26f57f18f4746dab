"""Padding masks: what runs after the mixed layer sees either sample's tokens."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import mixlayers.keras as mixing
from mixlayers import ManifoldMixup, MixStyle
from tests.keras.acts_by_hand import acted
from tests.keras.keras_nets import blended, close, compiled, mixed_by_hand, seeded, stepped, weights


class Sentences(keras.Model):
    """Words, of which 0 is none: Keras hands the mask on with the features."""

    def __init__(self):
        super().__init__()
        self.words = layers.Embedding(20, 5, mask_zero=True, name="words")
        self.read, self.head = layers.SimpleRNN(7, name="read"), layers.Dense(4, name="head")

    def call(self, tokens):
        return self.head(self.read(self.words(tokens)))


def subclassed():
    seeded()
    model = Sentences()
    model(padded())
    return model


def in_a_row():
    seeded()
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(20, 5, mask_zero=True, name="words"),
            layers.SimpleRNN(7, name="read"),
            layers.Dense(4, name="head"),
        ]
    )


def functional():
    seeded()
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(20, 5, mask_zero=True, name="words")(tokens)
    return keras.Model(tokens, layers.Dense(4, name="head")(layers.SimpleRNN(7, name="read")(h)))


def cloned():
    """Whose graph computes each mask once more."""
    model = functional()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def padded():
    """Sentences (8, 6) of several lengths."""
    tokens = np.random.default_rng(0).integers(1, 20, size=(8, 6))
    for at, length in enumerate((1, 6, 3, 2, 5, 6, 4, 2)):
        tokens[at, length:] = 0
    return tokens


def by_hand(net, tokens, y, plan, mix, mask):
    """The weights after a step: words mixed, and the mask that the recurrence is given."""
    model = net()

    def value():
        h, s = mix(model.get_layer("words")(tokens))
        h = model.get_layer("read")(h, mask=ops.convert_to_tensor(mask))
        return blended(model.get_layer("head")(h), y, plan, s)

    return stepped(model, value)


@pytest.mark.parametrize("net", [subclassed, in_a_row, functional, cloned], ids=lambda net: net.__name__)
def test_padding_masks_see_either_samples_tokens(net):
    """By hand: a position is real if it is so in the sample or in its partner."""
    tokens, y, method = padded(), np.arange(8) % 4, ManifoldMixup()
    plan = method.plan(step=0, batch_size=8, places=["words"])
    either = (tokens != 0) | (tokens[plan.perm] != 0)
    expected = by_hand(net, tokens, y, plan, lambda h: mixed_by_hand(h, plan), either)
    model = compiled(mixing.wrap(net(), method, "words"))
    kinds = [type(layer) for layer in model.layers]
    before = model.predict(tokens, verbose=0)
    model.fit(tokens, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)
    report = mixing.get_mixer(model).audit
    assert report["words"].true and report["read"].true and not report.float_input
    assert [type(layer) for layer in model.layers] == kinds
    model.set_weights(net().get_weights())
    np.testing.assert_allclose(model.predict(tokens, verbose=0), before, rtol=1e-6)


def residual():
    """Attention takes the mask off its input, which goes round it too; the graph gives the mean its mask."""
    seeded()
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(20, 5, mask_zero=True, name="words")(tokens)
    for name in ("lower", "upper"):
        h = layers.LayerNormalization(name=name)(layers.Add()([h, layers.MultiHeadAttention(2, 3)(h, h)]))
    return keras.Model(tokens, layers.Dense(4, name="head")(layers.GlobalAveragePooling1D(name="mean")(h)))


@pytest.mark.parametrize("place", ["upper", "mean"])
def test_masks_follow_the_residual_round_an_attention(place):
    tokens, y, method = padded(), np.arange(8) % 4, ManifoldMixup()
    plan, model = method.plan(step=0, batch_size=8, places=[place]), residual()
    below = keras.Model(model.input, model.get_layer(place).output)

    def value():
        h, s = mixed_by_hand(below(ops.convert_to_tensor(tokens)), plan)
        if place == "upper":
            either = ((tokens != 0) | (tokens[plan.perm] != 0)).astype("float32")
            h = ops.einsum("nt,ntc->nc", ops.convert_to_tensor(either / either.sum(1, keepdims=True)), h)
        return blended(model.get_layer("head")(h), y, plan, s)

    expected = stepped(model, value)
    model = compiled(mixing.wrap(residual(), method, place))
    model.fit(tokens, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_masks_stay_where_labels_do():
    """MixStyle gives a sample other statistics, and no other tokens."""
    tokens, y, method = padded(), np.arange(8) % 4, MixStyle(prob=1.0)
    plan = method.plan(step=0, batch_size=8, places=["words"])
    how = plan.blend((8, 6, 5), -1)
    expected = by_hand(functional, tokens, y, plan, lambda h: acted(h, how), tokens != 0)
    model = compiled(mixing.wrap(functional(), method, "words"))
    model.fit(tokens, y, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_masks_that_the_author_gives_go_round_the_layer():
    seeded()
    tokens, real = keras.Input((6,), dtype="int32"), keras.Input((6,), dtype="bool")
    h = layers.Embedding(20, 5, name="words")(tokens)
    model = keras.Model([tokens, real], layers.Dense(4)(layers.SimpleRNN(7)(h, mask=real)))
    given = padded()
    with pytest.raises(ValueError, match=r"'words' (is not a true mixing point|cannot be mixed)"):
        mixing.wrap(model, ManifoldMixup(), "words", example=[given, given != 0])


class Tagger(keras.Model):
    """A label for each word; the mask goes through to the predictions."""

    def __init__(self, between=None):
        super().__init__()
        self.words = layers.Embedding(20, 5, mask_zero=True, name="words")
        self.read = layers.SimpleRNN(7, return_sequences=True, name="read")
        self.between, self.head = between, layers.Dense(4, name="head")

    def call(self, tokens):
        h = self.read(self.words(tokens))
        return self.head(h if self.between is None else self.between(h))


def tagger(between=None):
    seeded()
    model = Tagger(between)
    model(padded())
    return model


class OtherMask(keras.Layer):
    """Makes a mask of its own from the one that comes."""

    supports_masking = True

    def call(self, x):
        return 1.0 * x

    def compute_mask(self, x, mask=None):
        return None if mask is None else ops.logical_and(mask, mask)


@pytest.mark.parametrize(
    ("method", "place", "weighted"),
    [
        (ManifoldMixup(), "words", False),
        (ManifoldMixup(), "read", True),
        (ManifoldMixup(lam_per="sample"), "words", True),
        (ManifoldMixup(lam_per="sample"), "read", False),
    ],
    ids=str,
)
def test_labels_of_padding_never_count(method, place, weighted):
    """By hand: a mean over the own tokens of the own labels, and one over the partner's tokens of the partner's."""
    tokens, rng = padded(), np.random.default_rng(1)
    y, weight = rng.integers(0, 4, tokens.shape), rng.uniform(0.5, 1.5, tokens.shape) if weighted else None
    plan, model = method.plan(step=0, batch_size=8, places=[place]), tagger()

    def value():
        real = ops.convert_to_tensor(tokens != 0)
        either = ops.convert_to_tensor((tokens != 0) | (tokens[plan.perm] != 0))
        h = model.get_layer("words")(tokens)
        if place == "words":
            h, s = mixed_by_hand(h, plan)
        h = model.get_layer("read")(h, mask=either if place == "words" else real)
        if place == "read":
            h, s = mixed_by_hand(h, plan)
        logits, terms = model.get_layer("head")(h), []
        for labels, own, share in ((y, tokens, 1.0 - s), (y[plan.perm], tokens[plan.perm], s)):
            counts = (own != 0) * (1.0 if weight is None else weight if labels is y else weight[plan.perm])
            each = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            share = ops.reshape(ops.convert_to_tensor(share, "float32"), (-1, 1))
            terms.append(ops.sum(each * ops.convert_to_tensor(counts, "float32") * share) / (own != 0).sum())
        return terms[0] + terms[1]

    expected = stepped(model, value)
    model = compiled(mixing.wrap(tagger(), method, place))
    model.fit(tokens, y, sample_weight=weight, batch_size=8, shuffle=False, verbose=0)
    close(weights(model), expected)


def test_a_mask_whose_padding_is_not_known_is_refused_unless_weights_say_it():
    tokens, y = padded(), np.random.default_rng(1).integers(0, 4, (8, 6))
    wrapped = [compiled(mixing.wrap(tagger(OtherMask()), ManifoldMixup(), "words")) for _ in range(2)]
    with pytest.raises(ValueError, match=r"padding mask \(8, 6\).*give fit sample weights"):
        wrapped[0].fit(tokens, y, batch_size=8, verbose=0)
    wrapped[1].fit(tokens, y, sample_weight=(tokens != 0).astype("float32"), batch_size=8, verbose=0)
