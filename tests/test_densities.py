"""Densities of priors: against SciPy's, by simulation, and that whole priors integrate to one."""

from math import factorial

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp, ndtr

from abmtools import (
    EvidenceAccumulationHMM,
    GaussianHMM,
    GaussianLocationMixture,
    GaussianMixture,
)
from abmtools.diagnostics.proposals import fit_student
from abmtools.models import densities


def test_densities_are_those_of_scipy(rng):
    x = rng.uniform(0.1, 0.9, size=(7, 3))
    truncated = stats.truncnorm(-0.5 / 0.3, np.inf, 0.5, 0.3)
    for found, expected in [
        (densities.log_normal(x, 0.2, 1.5), stats.norm.logpdf(x, 0.2, 1.5)),
        (densities.log_positive_normal(x, 0.5, 0.3), truncated.logpdf(x)),
        (densities.log_beta(x, 16, 4), stats.beta.logpdf(x, 16, 4)),
    ]:
        np.testing.assert_allclose(found, expected, atol=1e-12)
    weights = rng.dirichlet([1, 1, 1], size=7)
    expected = [stats.dirichlet.logpdf(row, [2.5] * 3) for row in weights]
    np.testing.assert_allclose(densities.log_dirichlet(weights, 2.5), expected, atol=1e-12)
    np.testing.assert_allclose(densities.log_dirichlet(np.ones((2, 1)), 2.5), 0)


def test_probability_of_an_order(rng):
    for size in (2, 3, 6):
        same = densities.log_order_probability(np.full(size, 1.7), 0.4)
        assert np.exp(same) == pytest.approx(1 / factorial(size), rel=1e-6)
    two = densities.log_order_probability([-1.0, 1.0], 3.0)
    assert np.exp(two) == pytest.approx(ndtr(2 / (3 * np.sqrt(2))), abs=1e-8)
    assert densities.log_order_probability([-1e6, 0.0, 1e6], 0.1) == pytest.approx(0, abs=1e-8)
    location = [-1.0, 0.0, 0.5, 2.0]
    drawn = rng.normal(location, 1.3, size=(200_000, 4))
    share = np.mean(np.all(np.diff(drawn, axis=1) > 0, axis=1))
    found = np.exp(densities.log_order_probability(location, 1.3))
    assert abs(found - share) < 4 * np.sqrt(share / len(drawn))


MODELS = {
    "mixture": GaussianMixture(means_location=[-1.0, 0.5, 1.0], concentration=1.5),
    "hmm": GaussianHMM(means_scale=0.7),
    "hmm of three": GaussianHMM(3, concentration=3.0),
    "location mixture": GaussianLocationMixture(3),
    "evidence": EvidenceAccumulationHMM(guessing_threshold=(0.5, 0.6)),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_priors_integrate_to_one(model, rng):
    """By importance sampling; slow responses leave the non-decision time its range."""
    data = {"y": np.full((1, 3, 2), [5.0, 1.0])} if model.space.bounded else None
    theta = {name: x[None] for name, x in model.prior(rng, 5000).items()}
    student = fit_student(model.unconstrain(theta, data)[0], degrees=5, widened=1.5)
    u = student.rvs(40_000, random_state=rng)
    parameters = model.constrain(u[None], data)
    log_p = model.log_prior(parameters) - model.log_det_jacobian(parameters, data)
    ratio = log_p[0] - student.logpdf(u)
    error = np.std(np.exp(ratio)) / np.sqrt(len(u))
    assert error < 0.02
    assert abs(np.exp(logsumexp(ratio)) / len(u) - 1) < 4 * error
