"""A link is found again from its own times, with noise and outliers; what cannot be fitted is refused."""

import numpy as np
import pytest

from moespec.cost.calibrate import fit_link, relative_errors, shared
from moespec.cost.cluster import Link

SIZES = 2.0 ** np.arange(10, 25, 2)


def test_latency_and_bandwidth_are_found_again():
    link = fit_link(SIZES, 20e-6 + SIZES / 3e9)
    assert link.beyond is None
    assert (link.latency, link.bandwidth) == pytest.approx((20e-6, 3e9), rel=1e-4)


def test_two_bandwidths_are_found_again():
    link = fit_link(SIZES, 20e-6 + SIZES / 3e9 + np.maximum(SIZES - 2**18, 0) * (1 / 1e9 - 1 / 3e9))
    assert (link.latency, link.bandwidth, link.knee, link.beyond) == pytest.approx((20e-6, 3e9, 2**18, 1e9), rel=1e-3)


def test_noise_and_an_outlier_bend_little():
    rng = np.random.default_rng(0)
    seconds = (20e-6 + SIZES / 3e9) * np.exp(0.05 * rng.standard_normal(len(SIZES)))
    seconds[3] *= 20
    link = fit_link(SIZES, seconds)
    assert (link.latency, link.bandwidth) == pytest.approx((20e-6, 3e9), rel=0.15)
    between = SIZES[:-1] * 2
    assert np.abs(relative_errors(link, between, 20e-6 + between / 3e9)).max() < 0.15


def test_one_regime_is_no_two():
    """Noise of 10 % is no reason for a second bandwidth."""
    rng = np.random.default_rng(1)
    links = [fit_link(SIZES, (1e-5 + SIZES / 1e9) * np.exp(0.1 * rng.standard_normal(len(SIZES)))) for _ in range(8)]
    assert sum(link.beyond is None for link in links) >= 6


def test_errors_are_predicted_beside_measured():
    link = Link(1.0, 1.0)
    assert relative_errors(link, [1, 3], [1, 8]).tolist() == [1, -0.5]


def test_ranks_beyond_the_cores_share():
    link = Link(1e-6, 4e9, knee=10, beyond=1e9)
    assert shared(link, 2, 2) == link
    assert shared(link, 4, 2) == Link(1e-6, 2e9, knee=10, beyond=5e8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fit_link([1, 2, 2], [1, 2, 3]), "2 different sizes"),
    (lambda: fit_link([1, 2, 3], [1, 2]), r"shape \(3,\), seconds \(2,\)"),
    (lambda: fit_link([1, 2, 3], [1, 2, 0]), "above 0"),
    (lambda: fit_link([1, 2, np.nan], [1, 2, 3]), "finite"),
    (lambda: relative_errors(Link(1, 1), [1], [-1]), "relative_errors"),
    (lambda: shared(Link(1, 1), 0, 2), "shared: ranks=0 is below 1"),
    (lambda: shared(Link(1, 1), 2, 0), "shared: cores=0 is below 1"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
