"""Marginal likelihoods: quadrature, the prior's own average, and what is said of bad draws."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import lognormal_model
from scipy.special import logsumexp
from scipy.stats import multivariate_t, norm

from abmtools import GaussianLocationMixture, MixtureComparisonWorkflow, MixturePosterior
from abmtools.diagnostics import (
    ModelProbabilities,
    compare_model_probabilities,
    importance,
    log_marginal_likelihood,
    log_posterior,
)


def draws_from(model, y, location, covariance, num_samples=4000, df=7):
    """A posterior whose "network" is a multivariate Student distribution."""
    proposal = multivariate_t(location, covariance, df=df, seed=1)
    u = np.reshape(proposal.rvs(num_samples), (1, num_samples, -1))
    data = model.check_data({"y": y})
    return MixturePosterior(
        model=model,
        data=data,
        unconstrained=u,
        membership=np.ones((1, num_samples, y.shape[-1], model.num_components)),
        log_prob_function=lambda data, u: proposal.logpdf(u[0])[None],
    )


def quadrature(model, y):
    """log p(y) of one component on a grid over the mean and log sigma, with SciPy's densities."""
    mean = np.linspace(y.mean() - 2, y.mean() + 2, 801)[:, None]
    log_scale = np.linspace(np.log(y.std()) - 1.2, np.log(y.std()) + 1.2, 601)
    density = norm.logpdf(mean, model.means_location, model.means_scale)
    density = density + norm.logpdf(log_scale, *model.scale_prior)
    for value in y:
        density = density + norm.logpdf(value, mean, np.exp(log_scale))
    cell = (mean[1, 0] - mean[0, 0]) * (log_scale[1] - log_scale[0])
    return logsumexp(density) + np.log(cell)


def average_over_prior(model, y, num_samples, seed):
    """log p(y) and its error as the mean likelihood of draws of the prior."""
    rng = np.random.default_rng(seed)
    terms = []
    for _ in range(num_samples // 20_000):
        theta = {name: x[None] for name, x in model.prior(rng, 20_000).items()}
        terms.append(model.log_likelihood({"y": y}, theta)[0])
    terms = np.concatenate(terms)
    log_mean = logsumexp(terms) - np.log(len(terms))
    return log_mean, np.std(np.exp(terms - log_mean)) / np.sqrt(len(terms))


@pytest.fixture(scope="module")
def single():
    """One component, where the posterior is two-dimensional."""
    model = GaussianLocationMixture(1, num_obs=40)
    y = np.random.default_rng(2).normal(1.5, 0.8, 40)
    location = [y.mean(), np.log(y.std())]
    return model, y, location, np.diag([y.var() / 40, 1 / 80])


@pytest.mark.parametrize("defensive", [0.0, 0.3])
def test_one_component_by_quadrature(single, defensive):
    model, y, location, covariance = single
    result = log_marginal_likelihood(
        draws_from(model, y, location, covariance), defensive=defensive, seed=3
    )
    assert result.pareto_k[0] < 0.5
    assert 0.001 < result.standard_error[0] < 0.02
    expected = quadrature(model, y)
    assert abs(result.log_evidence[0] - expected) < 4 * result.standard_error[0]


def test_two_components_by_the_prior():
    """Against another estimate, from a million draws of the prior."""
    model = GaussianLocationMixture(2, num_obs=12)
    rng = np.random.default_rng(5)
    y = np.concatenate([rng.normal(-2, 0.7, 5), rng.normal(2, 0.7, 7)])
    u = model.unconstrain(model.prior(rng, 200_000))
    density = log_posterior(model, {"y": y}, u[None])[0] - _log_prior(model, u)
    weights = np.exp(density - logsumexp(density))
    location = weights @ u
    covariance = (weights * (u - location).T) @ (u - location)
    result = log_marginal_likelihood(draws_from(model, y, location, 1.5 * covariance, df=3))
    assert result.pareto_k[0] < 0.7
    expected, error = average_over_prior(model, y, 1_000_000, seed=6)
    assert error < 0.03
    total = np.hypot(error, result.standard_error[0])
    assert abs(result.log_evidence[0] - expected) < 4 * total


def _log_prior(model, u):
    theta = {name: x[None] for name, x in model.constrain(u).items()}
    return (model.log_prior(theta) - model.log_det_jacobian(theta))[0]


def test_defence_against_a_narrow_network(single):
    """Draws with half the posterior's spread miss its tails; a share of wider ones does not."""
    model, y, location, covariance = single
    narrow = draws_from(model, y, location, covariance / 6, df=100)
    plain, defended = (log_marginal_likelihood(narrow, defensive=a) for a in (0.0, 0.5))
    assert plain.pareto_k[0] > 0.7 > defended.pareto_k[0]
    error = np.array([x.log_evidence[0] - quadrature(model, y) for x in (plain, defended)])
    assert abs(error[1]) < 0.05


def test_without_defence_it_is_the_evidence_of_importance(single):
    posterior = draws_from(*single)
    result, weights = log_marginal_likelihood(posterior, defensive=0.0), importance(posterior)
    np.testing.assert_allclose(result.log_evidence, weights.log_evidence, rtol=1e-12)
    np.testing.assert_allclose(result.pareto_k, weights.pareto_k, rtol=1e-12)


def test_standard_error_is_the_spread_of_repetitions(single):
    model, y, location, covariance = single
    posterior = draws_from(model, y, location, covariance, num_samples=200)
    results = [log_marginal_likelihood(posterior, defensive=0.9, seed=seed) for seed in range(40)]
    spread = np.std([x.log_evidence[0] for x in results])
    assert 0.5 < spread / np.mean([x.standard_error[0] for x in results]) < 1.6


def test_errors(single):
    posterior = draws_from(*single)
    for share in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"defensive: expected a share from 0 to below 1"):
            log_marginal_likelihood(posterior, defensive=share)
    with pytest.raises(ValueError, match=r"posterior: expected at least 25 draws, got 10"):
        log_marginal_likelihood(draws_from(*single, num_samples=10))
    alone = replace(posterior, log_prob_function=None)
    with pytest.raises(ValueError, match="log_prob: these draws come without the network"):
        log_marginal_likelihood(alone)
    bad = replace(posterior, log_prob_function=lambda data, u: np.full((1, u.shape[1]), np.nan))
    with pytest.raises(ValueError, match=r"log_prob is not finite.*data set\(s\) \[0\]"):
        log_marginal_likelihood(bad)
    mute = replace(posterior, model=lognormal_model(log_emission=None))
    with pytest.raises(ValueError, match="an exact density needs"):
        log_marginal_likelihood(mute)
    with pytest.raises(TypeError, match=r"posterior: expected a MixturePosterior, .* got dict"):
        log_marginal_likelihood(posterior.parameters)


# --- probabilities of models --------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison():
    """One or two components after a little training."""
    models = {size: GaussianLocationMixture(size, num_obs=30) for size in (1, 2)}
    workflow = MixtureComparisonWorkflow(models, prior=[0.3, 0.7], seed=1)
    workflow.fit_online(
        epochs=4, num_batches_per_epoch=60, batch_size=64, fit_parameters=True, verbose=0
    )
    return workflow


def test_compare_model_probabilities(comparison):
    batches = [comparison.model.simulate(4, rng=np.random.default_rng(3)) for _ in range(2)]
    result = compare_model_probabilities(comparison, batches, num_samples=500, seed=2)
    together = {"y": np.concatenate([batch["y"] for batch in batches])}
    posterior = comparison.sample(conditions=together, num_samples=500, seed=2)
    np.testing.assert_allclose(result.amortized, posterior.probabilities, atol=1e-6)
    odds = np.log(result.exact[:, 1] / result.exact[:, 0])
    expected = np.log(0.7 / 0.3) + result.log_evidence[:, 1] - result.log_evidence[:, 0]
    np.testing.assert_allclose(odds, expected)
    for m, model in enumerate(comparison.models.values()):
        if m == 0:
            exact = [quadrature(model, y) for y in together["y"]]
            np.testing.assert_allclose(result.log_evidence[:, 0], exact, atol=0.1)
    assert str(result).startswith("probabilities of 2 models, 8 data sets: mean |amortized - ")


def test_one_data_set_needs_no_batch_axis(comparison):
    """It is one data set with or without it, and a mask of None is no mask."""
    y = comparison.model.simulate(1, rng=np.random.default_rng(4))["y"]
    results = [
        compare_model_probabilities(comparison, data, num_samples=200, seed=2)
        for data in ({"y": y}, {"y": y[0], "mask": None})
    ]
    for name in ("amortized", "exact", "log_evidence", "standard_error", "pareto_k"):
        expected, found = (getattr(result, name) for result in results)
        assert found.shape == (1, 2)
        np.testing.assert_allclose(found, expected)


def test_model_probabilities_ignore_the_truth_of_one_model(comparison):
    simulated = comparison.models[2].simulate(2, rng=np.random.default_rng(5))
    results = [
        compare_model_probabilities(comparison, data, num_samples=100, seed=2)
        for data in (simulated, {"y": simulated["y"]})
    ]
    np.testing.assert_array_equal(results[0].exact, results[1].exact)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: y, TypeError, "conditions: expected a dictionary .* got ndarray"),
        (lambda y: [{"y": y}, y], TypeError, "conditions: expected a dictionary .* got ndarray"),
        (lambda y: [], ValueError, "conditions: expected at least one batch"),
        (lambda y: {"x": y}, ValueError, r"data: expected the key 'y' .* got \['x'\]"),
        (lambda y: {"y": y, "masks": y > 0}, ValueError, r"got \['masks', 'y'\]"),
        (lambda y: {"y": y[None]}, ValueError, r"data\['y'\]: expected shape \(B, N\)"),
    ],
    ids=["array", "list", "empty", "no y", "misspelled", "rank"],
)
def test_model_probabilities_refuse_bad_conditions(comparison, change, error, message):
    y = comparison.model.simulate(2, rng=np.random.default_rng(6))["y"]
    with pytest.raises(error, match=message):
        compare_model_probabilities(comparison, change(y), num_samples=100)


def test_model_probabilities_refuse_bad_arguments(comparison):
    data = comparison.model.simulate(2, rng=np.random.default_rng(6))
    for size in (0, 24, 100.0):
        with pytest.raises(ValueError, match=f"num_samples: expected .* at least 25, got {size}"):
            compare_model_probabilities(comparison, data, num_samples=size)
    with pytest.raises(TypeError, match="expected a MixtureComparisonWorkflow, got MixtureWorkfl"):
        compare_model_probabilities(comparison.workflows[1], data)


def test_model_probabilities_by_hand():
    """|0.5 - 0.8| = 0.3 twice; 0.8 log(0.8 / 0.5) + 0.2 log(0.2 / 0.5) = 0.1927."""
    zeros = np.zeros((1, 2))
    result = ModelProbabilities(
        amortized=np.array([[0.5, 0.5]]),
        exact=np.array([[0.8, 0.2]]),
        log_evidence=zeros,
        standard_error=zeros,
        pareto_k=np.array([[0.1, 0.9]]),
        names=["a", "b"],
    )
    np.testing.assert_allclose(result.difference, [[0.3, 0.3]])
    np.testing.assert_allclose(result.divergence, [0.1927], atol=1e-4)
    lines = str(result).splitlines()
    assert "100.0%" in lines[2]
    assert "0.0%" in lines[3]
