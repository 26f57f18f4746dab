"""Differences seed by seed against values worked out by hand."""

import pytest

from mixlayers.cli.paired import Paired, paired


def test_differences_by_hand() -> None:
    # gaps 2, 0, 4: mean 2, standard deviation 2, over the root of 3; an equal row is no win
    found = paired([5.0, 3.0, 9.0], [3.0, 3.0, 5.0])
    assert (found.mean, found.wins, found.rows) == (2.0, 2, 3)
    assert found.error == pytest.approx(2.0 / 3**0.5)
    assert found.text(1) == "+2.0 ± 1.2, 2 of 3"


def test_the_spread_that_all_rows_share_does_not_count() -> None:
    own, other = [0.11, 0.51, 0.91], [0.1, 0.5, 0.9]
    assert paired(own, other).error == pytest.approx(0.0, abs=1e-12)


def test_smaller_may_be_better() -> None:
    found = paired([0.2, 0.4], [0.3, 0.3], smaller_is_better=True)
    assert found.wins == 1
    assert paired([0.2], [0.3], smaller_is_better=True) == Paired(pytest.approx(-0.1), None, 1, 1)


def test_one_row_has_no_error() -> None:
    assert paired([0.52], [0.5]).text(1, 100.0) == "+2.0, 1 of 1"


@pytest.mark.parametrize(("own", "other"), [([1.0], [1.0, 2.0]), ([], [])])
def test_rows_must_be_pairs(own: list[float], other: list[float]) -> None:
    with pytest.raises(
        ValueError, match=f"got {len(own)} and {len(other)} values: compare runs of equal seeds"
    ):
        paired(own, other)
