"""Refinement: good draws are resampled, bad ones replaced by NUTS, and all end up exact."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import lognormal_model

import abmtools as abm
from abmtools import refinement, stan
from abmtools.diagnostics import compare, importance

NARROW = 0.4
QUICK = {"engine": "stanli", "chains": 4, "draws": 500}


@pytest.fixture(scope="module")
def posterior():
    """Three sequences; draws of the middle one are too narrow, so that their weights are bad."""
    workflow = abm.load_pretrained("gaussian_hmm")
    data = workflow.model.simulate(3, rng=np.random.default_rng(2), num_obs=100, num_reps=3)
    drawn = workflow.sample(conditions={"y": data["y"]}, num_samples=1000, seed=1)
    center = drawn.unconstrained.mean(axis=1, keepdims=True)
    scale = np.array([1.0, NARROW, 1.0])[:, None, None]

    def log_prob(data, u):
        wide = workflow.log_prob_unconstrained(data, center + (u - center) / scale)
        return wide - u.shape[-1] * np.log(scale[..., 0])

    u = center + scale * (drawn.unconstrained - center)
    return replace(drawn, unconstrained=u, log_prob_function=log_prob)


@pytest.fixture(scope="module")
def refined(posterior):
    return abm.refine(posterior, seed=3, **QUICK)


def test_each_data_set_takes_the_route_that_its_weights_call_for(posterior, refined):
    assert refined.route == ["amortized", "nuts", "amortized"]
    assert list(refined.runs) == [1]
    weights = importance(posterior)
    np.testing.assert_array_equal(refined.pareto_k, weights.pareto_k)
    np.testing.assert_array_equal(refined.ess, weights.ess)
    lines = str(refined).splitlines()
    assert lines[0] == "3 data sets x 1000 draws, 1 by NUTS"
    assert [line.split()[-1] for line in lines[-3:]] == refined.route


def test_all_draws_are_those_of_the_exact_posterior(posterior, refined):
    assert refined.posterior.num_samples == 1000
    assert refined.posterior.log_weights is None
    for index in range(3):
        data = {"y": posterior.data["y"][index]}
        reference = stan.sample(posterior.model, data, engine="stanli", seed=9, warmup=500)
        found = compare(refined.posterior[index], reference, c2st=False)
        assert found.differences["mean"].abs().max() < 0.15
        assert found.membership < 0.02


def test_indicators_are_exact(refined):
    posterior, model = refined.posterior, refined.posterior.model
    for name, function in {
        "membership": model.exact_membership,
        "filtering": model.exact_filtering,
        "scores": model.emission_scores,
    }.items():
        expected = function(posterior.data, posterior.parameters)
        assert getattr(posterior, name).shape == (3, 1000, 100, 2)
        np.testing.assert_allclose(getattr(posterior, name), expected, rtol=1e-4, atol=1e-4)
    assert posterior.sample_paths(seed=1).shape == (3, 1000, 100)


def test_chains_start_from_different_likely_draws(posterior, monkeypatch):
    calls = []

    def sample(model, data, **options):
        calls.append(options)
        raise RuntimeError("far enough")

    monkeypatch.setattr(stan, "sample", sample)
    with pytest.raises(RuntimeError, match="far enough"):
        abm.refine(posterior, seed=3, chains=3)
    options, *again = calls
    assert len(again) == 2  # tries
    assert (options["chains"], options["draws"], options["seed"]) == (3, 1000, 3)
    starts = posterior.model.unconstrain(options["inits"])
    draws = posterior.unconstrained[1]
    distance, weights = np.abs(starts[:, None] - draws).max(axis=-1), importance(posterior)
    assert distance.min(axis=1).max() < 1e-6
    assert len({int(i) for i in distance.argmin(axis=1)}) == 3
    assert np.all(weights.log_weights[1, distance.argmin(axis=1)] > -12)


def test_a_threshold_and_a_number_of_draws_choose_the_route(posterior, monkeypatch):
    routed = []
    monkeypatch.setattr(refinement, "_nuts", lambda model, seed, start: routed.append(start))
    monkeypatch.setattr(refinement, "_thinned", lambda one, run: one.unconstrained[0])
    assert abm.refine(posterior, threshold=np.inf, min_ess=1).route == ["amortized"] * 3
    assert not routed
    assert abm.refine(posterior, threshold=-np.inf).route == ["nuts"] * 3
    assert abm.refine(posterior, threshold=np.inf, min_ess=1000).route == ["nuts"] * 3
    assert [data["y"].tolist() for data, _ in routed[:3]] == posterior.data["y"][:, None].tolist()


def test_an_exchangeable_mixture_has_membership_alone(workflow, simulated):
    posterior = workflow.sample(conditions={"y": simulated["y"]}, num_samples=50, seed=1)
    refined = abm.refine(posterior, threshold=np.inf, min_ess=1).posterior
    expected = refined.model.exact_membership(refined.data, refined.parameters)
    np.testing.assert_allclose(refined.membership, expected, atol=1e-6)
    assert refined.filtering is None
    assert refined.scores is None


def test_refine_refuses(posterior, workflow, simulated):
    with pytest.raises(ValueError, match="expected at least min_ess = 400 draws, got 100; sample"):
        abm.refine(posterior.resample(np.zeros((3, 100), dtype=int)))
    with pytest.raises(ValueError, match="without the network"):
        abm.refine(posterior.resample(np.zeros((3, 500), dtype=int)))
    with pytest.raises(ValueError, match="draws: expected at least 1000 from all chains together"):
        abm.refine(posterior, draws=20)
    model = lognormal_model(log_emission=None)
    drawn = workflow.sample(conditions={"y": simulated["y"]}, num_samples=50, seed=1)
    with pytest.raises(ValueError, match="an exact density needs a model with log_prior and"):
        abm.refine(replace(drawn, model=model), min_ess=1)


def test_refine_is_imported_when_it_is_used():
    assert abm.refine is refinement.refine


def test_what_is_no_posterior_is_refused():
    with pytest.raises(TypeError, match=r"posterior: expected a MixturePosterior, .* got dict"):
        abm.refine({})
