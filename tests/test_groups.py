"""Groups of tokens: who belongs where, and back in order."""

import numpy as np
import pytest

from moespec import indexing


def test_members_are_listed_by_ascending_group_and_token():
    group = np.array([4, 0, 4, 2, 0])
    assert [own.tolist() for own in indexing.members(group, 5)] == [[1, 4], [3], [0, 2]]
    assert [own.tolist() for own in indexing.members(np.array([2, 0]), 2, groups=3)] == [[1], [], [0]]
    assert [own.tolist() for own in indexing.members(None, 3)] == [[0, 1, 2]]
    assert [own.tolist() for own in indexing.members(np.zeros(0, int), 0)] == [[]]


@pytest.mark.parametrize("groups", [None, 5])
def test_rejoin_undoes_the_split(groups):
    rng = np.random.default_rng(0)
    x, group = rng.standard_normal((20, 3)), rng.integers(0, 5, 20)
    owners = indexing.members(group, 20, groups)
    np.testing.assert_array_equal(indexing.rejoin([x[own] for own in owners], owners), x)


def test_a_negative_group_is_refused():
    with pytest.raises(ValueError, match=r"^op: group holds -2, wanted at least 0 \(group has shape \(2,\)\)"):
        indexing.require_groups("op", np.array([0, -2]))


def test_what_is_not_finite_counts_as_the_smallest_finite_score():
    scores = np.array([[1.0, np.nan], [np.inf, -3.0], [-np.inf, 2.0]])
    assert indexing.finite_scores(scores).tolist() == [[1, -3], [-3, -3], [-3, 2]]
    assert indexing.finite_scores(np.full((1, 2), np.nan)).tolist() == [[0, 0]]
