"""Self-consistency: zero where a network is exact, the divergence near it, mild far from it."""

import numpy as np
import pytest
from conftest import to_numpy
from scipy.stats import norm

from abmtools.inference.consistency import inconsistency


def measure(log_ratio):
    return to_numpy(inconsistency(log_ratio))


def test_constant_ratios_are_consistent():
    ratio = np.repeat([[3.0], [-700.0]], 12, axis=1)
    np.testing.assert_allclose(measure(ratio), 0, atol=1e-12)


@pytest.mark.parametrize(("shift", "scale"), [(0.1, 1.0), (0.0, 1.05), (-0.1, 0.95)])
def test_near_the_posterior_it_is_the_divergence(shift, scale):
    """With draws of the network."""
    u = norm(shift, scale).rvs(400_000, random_state=1)
    ratio = norm.logpdf(u) - norm.logpdf(u, shift, scale)
    np.testing.assert_allclose(measure(ratio), -ratio.mean(), rtol=0.15)


def test_a_constant_changes_nothing():
    ratio = np.random.default_rng(1).normal(size=(5, 24))
    np.testing.assert_allclose(measure(ratio + 100), measure(ratio), rtol=1e-5)


def test_one_draw_in_a_tail_is_not_all_of_it():
    ratio = np.random.default_rng(1).normal(0, 0.1, size=24)
    ratio[3] = -1000.0
    assert measure(ratio) < 45  # of 1000 / 24, where half a variance is 20,000
    ratio[3] = -2000.0
    assert measure(ratio) < 90
