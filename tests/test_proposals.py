"""Student distributions with the moments of draws, and weights that are made milder."""

import numpy as np
import pytest
from scipy.stats import multivariate_t

from abmtools.diagnostics.proposals import fit_student, temper
from abmtools.heterogeneity.labels import _propose


def ess(log_weights):
    weights = np.exp(log_weights - log_weights.max())
    return weights.sum() ** 2 / np.square(weights).sum()


@pytest.mark.parametrize("dim", [1, 3])
def test_moments_are_those_of_the_weighted_draws(dim):
    u = np.random.default_rng(6).normal(size=(40_000, dim))
    student = fit_student(u, degrees=7, widened=2.0, log_weights=u[:, 0])  # moves the mean by one
    np.testing.assert_allclose(student.loc, np.eye(dim)[0], atol=0.05)
    np.testing.assert_allclose(student.shape, 2 * np.eye(dim), atol=0.15)
    assert student.df == 7


def test_equal_weights_are_none():
    u = np.random.default_rng(6).normal(size=(50, 2))
    plain, weighted = fit_student(u, degrees=5), fit_student(u, degrees=5, log_weights=np.ones(50))
    np.testing.assert_allclose(weighted.loc, plain.loc)
    np.testing.assert_allclose(weighted.shape, plain.shape)
    np.testing.assert_allclose(plain.shape, np.cov(u.T))


def test_bad_weights_are_tempered_until_a_fifth_of_the_draws_is_in_effect():
    rng = np.random.default_rng(7)
    mild, bad = rng.normal(size=(2, 500)) * np.array([[0.1], [50]])
    assert np.array_equal(temper(mild), mild)
    np.testing.assert_allclose(ess(temper(bad)), 100, rtol=1e-6)


def test_impossible_draws_stay_impossible_and_do_not_count():
    log_weights = 50 * np.random.default_rng(8).normal(size=500)
    log_weights[:450] = -np.inf
    tempered = temper(log_weights)
    assert np.isneginf(tempered[:450]).all()
    np.testing.assert_allclose(ess(tempered[450:]), 10, rtol=1e-6)


def test_each_data_set_has_its_own_proposal():
    rng = np.random.default_rng(9)
    u = rng.normal(size=(2, 2000, 3)) + np.array([0.0, 5.0])[:, None, None]
    draws, log_density = _propose(rng, u, np.zeros((2, 2000)))
    np.testing.assert_allclose(draws.mean(axis=(1, 2)), [0, 5], atol=0.1)
    for own, found, given in zip(draws, log_density, u, strict=True):
        expected = multivariate_t(given.mean(axis=0), np.cov(given.T), df=7).logpdf(own)
        np.testing.assert_allclose(found, expected)
