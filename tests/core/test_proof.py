"""The audit's experiment, on models that are a few lines of NumPy."""

import numpy as np
import pytest

from mixlayers._core.audit.proof import EVERYTHING, Argument, NotOnce, culprits, prove
from mixlayers._core.audit.samples import differing

N = 4
GENERATOR = np.random.default_rng(0)
X, IDS = GENERATOR.normal(size=(N, 5)), GENERATOR.integers(0, 9, (N, 3))


class Toy:
    """x -> a -> b -> output; `side(x, ids, a)` is added to the output, by whatever way round."""

    def __init__(self, side=lambda x, ids, a: 0.0, drift=0.0):
        self.side, self.drift, self.runs = side, drift, 0

    def __call__(self, shifts):
        self.runs += 1
        x, ids = X, IDS
        held = None
        for key, by in shifts.items():
            if key == EVERYTHING:
                x, ids = np.roll(x, by, 0), np.roll(ids, by, 0)
            if isinstance(key, Argument):
                held = key.held
                x, ids = (np.roll(X, by, 0), ids) if key.name == "x" else (x, np.roll(IDS, by, 0))
        a = np.tanh((X if held == "a" else x) @ WEIGHT)
        a = np.roll(a, shifts.get("a", 0), 0)
        b = np.roll(np.sin(a * 2), shifts.get("b", 0), 0)
        b = np.sin(np.tanh(X @ WEIGHT) * 2) if held == "b" else b
        output = b.sum(1) + self.side(x, ids, a)
        return [output + self.drift * np.arange(N), output[:, None] * np.ones(3)]


WEIGHT = GENERATOR.normal(size=(5, 6))
LEAK = lambda x, ids, a: ids.sum(1) * 0.1  # noqa: E731  # one of several toys, side by side


def proved(toy, places=("a", "b"), **kwargs):
    return prove(toy, toy({}), places, N, **kwargs)


def test_two_true_places_take_one_forward():
    toy = Toy()
    assert {place: proof.verdict for place, proof in proved(toy).items()} == {"a": "yes", "b": "yes"}
    assert toy.runs == 2


def test_what_goes_round_is_found_at_the_place_that_it_goes_round():
    found = proved(Toy(lambda x, ids, a: a.sum(1)))
    assert (found["a"].verdict, found["b"].verdict) == ("yes", "no")
    assert "off by" in found["b"].reason and found["b"].off > 0.1


def test_a_leak_is_seen_at_all_places_and_its_argument_named():
    toy = Toy(LEAK)
    found = proved(toy)
    assert {proof.verdict for proof in found.values()} == {"no"}
    for place in found:
        assert culprits(toy, toy({}), place, ["x", "ids"], N) == ("ids",)


def test_several_culprits():
    toy = Toy(lambda x, ids, a: x[:, 0] + ids[:, 0])
    assert culprits(toy, toy({}), "b", ["x", "ids"], N) == ("x", "ids")


def test_a_model_that_knows_positions_is_undecided():
    found = proved(Toy(drift=1.0))
    assert {proof.verdict for proof in found.values()} == {"undecided"}
    assert "by their position" in found["a"].reason


def test_small_noise_does_not_refute():
    found = proved(Toy(drift=1e-4))
    assert {proof.verdict for proof in found.values()} == {"yes"}
    assert found["a"].noise > 1e-6


def test_small_noise_does_not_hide_a_leak():
    assert proved(Toy(LEAK, drift=1e-4))["a"].verdict == "no"


@pytest.mark.parametrize(
    ("size", "verdict"), [(0.5e-5, "yes"), (5e-5, "undecided"), (2e-4, "no")], ids=["yes", "undecided", "no"]
)
def test_the_thresholds(size, verdict):
    """A leak of a known share of the samples' distance."""
    outputs = Toy()({})[0]
    apart = max(np.abs(outputs - np.roll(outputs, by)).max() for by in range(1, N))
    leak = np.array([1.0, 0.0, 0.0, 0.0]) * size * apart
    toy = Toy(lambda x, ids, a: leak if x is X else np.roll(leak, 1))
    assert prove(toy, toy({}), ["a"], N)["a"].verdict == verdict


def test_more_places_than_samples_take_more_forwards():
    clean = [X.sum(1)]
    asked = []

    def run(shifts):
        asked.append(dict(shifts))
        return [np.roll(clean[0], sum(shifts.values()))]

    found = prove(run, clean, list("abcdefg"), N)
    assert [list(shifts) for shifts in asked] == [list("abc"), list("def"), ["g"]]
    assert all(proof.verdict == "yes" for proof in found.values())


def test_a_way_round_never_comes_back_in_step():
    """Whatever part of the places a path goes round, the outputs are not swapped alike."""
    for skipped in range(1, 4):

        def run(shifts, skipped=skipped):
            by = sum(shifts.values())
            round_by = by if EVERYTHING in shifts else max(by - skipped, 0)
            return [np.roll(X, by, 0) + np.roll(X, round_by, 0) ** 2]

        assert prove(run, run({}), list("abc"), N)["a"].verdict == "no"


def test_outputs_that_do_not_tell_samples_apart():
    assert prove(lambda _: [np.ones((N, 2))], [np.ones((N, 2))], ["a"], N)["a"].reason == (
        "the outputs do not differ between the samples"
    )
    assert prove(lambda _: [np.array(3.0)], [np.array(3.0)], ["a"], N)["a"].verdict == "undecided"


def test_blocks_of_rows_and_other_axes():
    rows = GENERATOR.normal(size=(N * 3, 2))
    run = lambda shifts: [np.roll(rows, 3 * sum(shifts.values()), 0), np.roll(X.T, sum(shifts.values()), 1)]  # noqa: E731
    assert prove(run, run({}), ["a"], N)["a"].verdict == "yes"


def test_scores_of_each_sample_with_each_other():
    """CLIP's logits: a true place swaps rows and columns, one tower's swaps the rows alone."""
    text = GENERATOR.normal(size=(N, 5))
    clean = [X @ text.T, X, text]

    def run(shifts):
        both = shifts.get("fused", 0) + shifts.get(EVERYTHING, 0)
        images, texts = np.roll(X, both + shifts.get("images", 0), 0), np.roll(text, both, 0)
        return [images @ texts.T, images, texts]

    found = prove(run, clean, ["images", "fused"], N)
    assert (found["images"].verdict, found["fused"].verdict) == ("no", "yes")
    assert found["images"].noise == 0.0


def test_infinite_scores_are_scores():
    masked = np.where(X > 0, -np.inf, X)
    run = lambda shifts: [np.roll(masked, sum(shifts.values()), 0)]  # noqa: E731
    assert prove(run, run({}), ["a"], N)["a"].verdict == "yes"


def test_an_error_of_the_model_is_the_reason():
    def run(shifts):
        if "b" in shifts:
            raise NotOnce("ran 2 times in one forward") if len(shifts) == 1 else RuntimeError("no")
        return [np.roll(X, sum(shifts.values()), 0)]

    found = prove(run, [X], ["a", "b"], N)
    assert (found["a"].verdict, found["b"].verdict) == ("yes", "undecided")
    assert found["b"].reason == "ran 2 times in one forward"


def test_processes_that_run_together_do_the_same():
    """One of them alone sees a leak: both run the same forwards, and come to the same verdict."""
    toys = [Toy(), Toy(LEAK)]
    numbers = [[], []]
    expected = {
        p: proof.verdict for p, proof in proved(toys[1], worst=lambda x: _noted(numbers[1], x)).items()
    }
    asked = iter(numbers[1])
    found = proved(toys[0], worst=lambda x: max(x, next(asked)))
    assert {p: proof.verdict for p, proof in found.items()} == expected == {"a": "no", "b": "no"}
    assert toys[0].runs == toys[1].runs


def _noted(numbers, x):
    numbers.append(x)
    return x


def test_the_samples_differ_in_length_as_far_as_the_batch_does():
    lengths = np.array([5, 5, 5, 2, 5, 1, 5, 5, 4])
    mask = np.arange(5) < lengths[:, None]
    ids = np.where(mask, GENERATOR.integers(1, 50, mask.shape), 0)
    taken = differing([ids, mask], len(lengths))
    assert {0, 5} <= set(taken) and taken == sorted(taken) and len(taken) == 4


def test_without_whole_numbers_the_first_samples_are_taken():
    assert differing([], 9) == [0, 1, 2, 3]
    assert differing([], 2) == [0, 1]
    assert len(set(differing([np.zeros((9, 2), int)], 9))) == 4
