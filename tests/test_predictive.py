"""Predictive checks: replicated data follow the posterior, misfits show in their state."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import kstest

import abmtools as abm
from abmtools import plots
from abmtools.diagnostics import PredictiveCheck, posterior_predictive, predictive_check

TRUTH = {"weights": [0.4, 0.6], "means": [-4.0, 4.0]}
LEVELS = [0.1, 0.5, 0.9]


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def at_truth(data, num_samples=100, model=None):
    """A posterior all of whose draws are the truth."""
    model = model or abm.GaussianMixture(2)
    data = model.check_data(data)
    size = (len(data["y"]), num_samples)
    parameters = {name: np.broadcast_to(x, (*size, len(x))) for name, x in TRUTH.items()}
    return abm.MixturePosterior(
        model,
        data,
        model.unconstrain(parameters),
        membership=model.exact_membership(data, parameters),
    )


def simulate(size, num_obs, num_reps=2, seed=1):
    model = abm.GaussianMixture(2)
    parameters = {name: np.broadcast_to(x, (size, len(x))) for name, x in TRUTH.items()}
    rng = np.random.default_rng(seed)
    return model.simulate_data(parameters, rng=rng, num_obs=num_obs, num_reps=num_reps)


# --- posterior_predictive -------------------------------------------------------------------------


def test_replicated_data_follow_their_parameters():
    posterior = at_truth({"y": simulate(2, 50)["y"]})
    found = posterior_predictive(posterior, num_draws=80, seed=3)
    assert found["y"].shape == (2, 80, 50, 2)
    assert found["z"].shape == (2, 80, 50)
    assert abs(found["z"].mean() - 0.6) < 0.02
    for k in range(2):
        y = found["y"][found["z"] == k].ravel()
        assert abs(y.mean() - TRUTH["means"][k]) < 0.05
        assert abs(y.std() - 1.0) < 0.05
    again = posterior_predictive(posterior, num_draws=80, seed=3)
    np.testing.assert_array_equal(found["y"], again["y"])


def test_replicated_data_come_from_draws_of_the_posterior_by_their_weights():
    posterior = at_truth({"y": simulate(1, 50)["y"]}, num_samples=2)
    shifted = posterior.unconstrained.copy()
    shifted[:, 1, 1] += 100.0  # the first mean, and with it the second
    both = replace(posterior, unconstrained=shifted)
    high = posterior_predictive(both, num_draws=40)["y"].mean(axis=(2, 3)) > 50
    assert high.sum() == 20
    with np.errstate(divide="ignore"):
        weighted = replace(both, log_weights=np.log([[0.0, 1.0]]))
    assert np.all(posterior_predictive(weighted, num_draws=40)["y"] > 50)


def test_replicated_data_have_the_masks_of_the_data():
    data = simulate(2, 30)
    mask, replicate_mask = np.ones((2, 30), dtype=bool), np.ones((2, 30, 2), dtype=bool)
    mask[1, 20:], replicate_mask[0, :5, 1] = False, False
    posterior = at_truth({"y": data["y"], "mask": mask, "replicate_mask": replicate_mask})
    found = posterior_predictive(posterior, num_draws=3)
    for key, expected in {"mask": mask, "replicate_mask": replicate_mask}.items():
        for m in range(3):
            np.testing.assert_array_equal(found[key][:, m], expected)
    for number in (0, 2.5):
        with pytest.raises(ValueError, match=f"num_draws: expected a positive .* got {number}"):
            posterior_predictive(posterior, num_draws=number)
    with pytest.raises(TypeError, match=r"posterior: expected a MixturePosterior, .* got dict"):
        posterior_predictive(posterior.parameters)


# --- predictive_check -----------------------------------------------------------------------------


def test_statistics_are_of_each_state():
    """Components are so far apart that every observation's state is certain."""
    data = simulate(3, 40)
    check = predictive_check(at_truth({"y": data["y"]}), len, num_draws=20)
    assert check.observed.shape == check.replicated.shape == (3, 20, 2)
    count = np.stack([(data["z"] == k).sum(axis=1) for k in range(2)], axis=-1)
    np.testing.assert_array_equal(check.observed, np.broadcast_to(count[:, None], (3, 20, 2)))
    np.testing.assert_array_equal(check.replicated.sum(axis=2), 40)
    quantiles = predictive_check(
        at_truth({"y": data["y"]}), lambda y: np.quantile(y, LEVELS), num_draws=5
    )
    assert quantiles.observed.shape == (3, 5, 2, 3)
    inside = data["y"][1][data["z"][1] == 0]
    np.testing.assert_allclose(quantiles.observed[1, 0, 0], np.quantile(inside, LEVELS))
    everything = predictive_check(at_truth({"y": data["y"]}), np.mean, by_state=False, num_draws=5)
    assert everything.observed.shape == (3, 5, 1)
    np.testing.assert_allclose(everything.observed[:, 0, 0], data["y"].mean(axis=(1, 2)), rtol=1e-5)


def test_statistics_of_observations_and_their_states():
    data = simulate(3, 40)
    for by_state in (True, False):
        check = predictive_check(
            at_truth({"y": data["y"]}),
            lambda y, z: [len(y), y[z == 1].mean()],
            with_states=True,
            by_state=by_state,
            num_draws=5,
        )
        assert check.observed.shape == check.replicated.shape == (3, 5, 1, 2)
        assert not check.by_state
        np.testing.assert_array_equal(check.replicated[..., 0], 40)
        inside = [y[z == 1].mean() for y, z in zip(data["y"], data["z"], strict=True)]
        np.testing.assert_allclose(check.observed[:, 0, 0, 1], inside, rtol=1e-5)


def test_p_values_are_uniform_at_the_true_parameters():
    data = {"y": simulate(150, 30)["y"]}
    check = predictive_check(at_truth(data), lambda y: y.mean(), num_draws=60)
    for k in range(2):
        assert kstest(check.p_value[:, k], "uniform").pvalue > 0.01


def test_a_misfit_shows_in_its_state():
    """In state 1 observations are twice as wide as the model has them."""
    data = simulate(20, 100)
    wide = TRUTH["means"][1] + 2.0 * (data["y"] - TRUTH["means"][1])
    y = np.where((data["z"] == 1)[..., None], np.maximum(wide, 0.5), data["y"])
    check = predictive_check(at_truth({"y": y}), np.std, num_draws=100)
    assert check.p_value[:, 1].max() == 0
    assert 0.05 < check.p_value[:, 0].mean() < 0.95


def test_what_is_missing_is_left_out():
    data = simulate(1, 30)
    mask, replicate_mask = np.ones((1, 30), dtype=bool), np.ones((1, 30, 2), dtype=bool)
    mask[0, 20:], replicate_mask[0, :5, 1] = False, False
    y = np.where(mask[..., None] & replicate_mask, data["y"], 1e9)
    posterior = at_truth({"y": y, "mask": mask, "replicate_mask": replicate_mask})

    def statistic(y):
        return [len(y), np.isnan(y).sum(), np.nanmax(np.abs(y))]

    check = predictive_check(posterior, statistic, by_state=False, num_draws=4)
    for side in (check.observed, check.replicated):
        np.testing.assert_array_equal(side[0, :, 0, 0], 20)
        np.testing.assert_array_equal(side[0, :, 0, 1], 5)
        assert side[0, :, 0, 2].max() < 100


def test_states_of_a_chain_are_drawn_as_paths():
    model = abm.GaussianHMM(num_obs=20)
    truth = {"stay": np.array([[0.8, 0.7]]), "means": np.array([[-0.5, 0.5]])}
    rng = np.random.default_rng(1)
    data = model.check_data({"y": model.simulate_data(truth, rng=rng, num_reps=2)["y"]})
    parameters = {name: np.repeat(x[:, None], 10, axis=1) for name, x in truth.items()}
    posterior = abm.MixturePosterior(
        model,
        data,
        model.unconstrain(parameters),
        membership=model.exact_membership(data, parameters),
        filtering=model.exact_filtering(data, parameters),
        scores=model.emission_scores(data, parameters),
    )
    check = predictive_check(posterior, len, num_draws=10)
    np.testing.assert_array_equal(np.nansum(check.observed, axis=2), 20)
    assert len(np.unique(check.observed[0, :, 0])) > 1


def test_states_without_scores_are_drawn_one_by_one():
    """Right for means of a state's observations, too regular for how many these are."""
    model = abm.GaussianHMM(num_obs=60)
    truth = {"stay": np.array([[0.97, 0.97]]), "means": np.array([[-0.2, 0.2]])}
    rng = np.random.default_rng(1)
    data = model.check_data({"y": model.simulate_data(truth, rng=rng, num_reps=1)["y"]})
    parameters = {name: np.repeat(x[:, None], 400, axis=1) for name, x in truth.items()}
    paths = abm.MixturePosterior(
        model,
        data,
        model.unconstrain(parameters),
        membership=model.exact_membership(data, parameters),
        filtering=model.exact_filtering(data, parameters),
        scores=model.emission_scores(data, parameters),
    )
    single = replace(paths, scores=None)

    def statistic(y):
        return [y.sum(), len(y)]

    drawn = [
        np.nan_to_num(predictive_check(x, statistic, num_draws=400).observed[0, :, 0])
        for x in (paths, single)
    ]
    np.testing.assert_allclose(drawn[0].mean(axis=0), drawn[1].mean(axis=0), atol=3.0)
    assert drawn[0][:, 1].std() > 2 * drawn[1][:, 1].std()


def test_an_empty_state_has_no_statistic():
    data = simulate(1, 40)
    y = np.where(data["z"][..., None] == 1, -4.0, data["y"])
    check = predictive_check(at_truth({"y": y}), np.mean, num_draws=10)
    assert np.isnan(check.observed[0, :, 1]).all()
    assert np.isnan(check.p_value[0, 1])
    assert np.isfinite(check.p_value[0, 0])
    assert len(str(check).splitlines()) == 4


def test_the_statistic_keeps_its_shape():
    posterior = at_truth({"y": simulate(1, 40)["y"]})
    with pytest.raises(ValueError, match=r"statistic: expected the same shape of every state"):
        predictive_check(posterior, lambda y: y[:, 0], num_draws=5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"statistic": lambda y: None}, ValueError, "statistic: expected .* got NaN or None"),
        ({"statistic": lambda y: [np.nan] * 2}, ValueError, "statistic: .* got NaN or None"),
        ({"statistic": 3.0}, TypeError, "statistic: expected a callable, got float"),
        ({"num_draws": 0}, ValueError, "num_draws: expected a positive integer, got 0"),
        ({"posterior": {}}, TypeError, "posterior: expected a MixturePosterior, .* got dict"),
    ],
    ids=["none", "nan", "statistic", "num_draws", "posterior"],
)
def test_predictive_check_refuses(change, error, message):
    posterior = at_truth({"y": simulate(1, 20)["y"]})
    arguments = {"posterior": posterior, "statistic": np.mean, "num_draws": 5} | change
    with pytest.raises(error, match=message):
        predictive_check(**arguments)


def by_hand():
    observed = np.array([[[1.0, 5.0], [2.0, np.nan], [3.0, 6.0], [4.0, np.nan]]])
    replicated = np.array([[[0.0, 5.0], [3.0, 1.0], [3.0, 9.0], [9.0, np.nan]]])
    return PredictiveCheck(np.concatenate([observed, observed]), np.repeat(replicated, 2, axis=0))


def test_p_values_by_hand():
    check = by_hand()
    np.testing.assert_allclose(check.p_value, [[2.5 / 4, 1.5 / 2]] * 2)
    assert len(check) == 2
    assert check[-1].observed.shape == (1, 4, 2)
    with pytest.raises(IndexError, match="dataset 2 is out of range for 2 data sets"):
        check[2]
    np.testing.assert_array_equal(check[1:].observed, check[1].observed)
    assert len(check[:2]) == 2
    assert "4 draws" in str(check)


# --- plots ----------------------------------------------------------------------------------------


def test_plot_of_a_number_and_of_a_vector():
    ax = plots.predictive_check(by_hand()[0], labels=["guessing", "controlled"])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["guessing", "controlled"]
    assert [line.get_ydata()[0] for line in ax.lines] == [2.5, 5.5]
    posterior = at_truth({"y": simulate(1, 60)["y"]})
    check = predictive_check(posterior, lambda y: np.quantile(y, LEVELS), num_draws=30)
    ax = plots.predictive_check(check, LEVELS, states=[1])
    median, dots = ax.lines[:2]
    np.testing.assert_array_equal(median.get_xdata(), LEVELS)
    np.testing.assert_allclose(dots.get_ydata(), np.median(check.observed[0, :, 1], axis=0))
    np.testing.assert_allclose(median.get_ydata(), np.median(check.replicated[0, :, 1], axis=0))
    everything = predictive_check(posterior, np.mean, by_state=False, num_draws=10)
    own = plt.subplots()[1]
    assert plots.predictive_check(everything, ax=own) is own


def test_plot_of_a_state_that_no_observation_is_in():
    check = PredictiveCheck(np.full((1, 5, 2), np.nan), np.ones((1, 5, 2)))
    ax = plots.predictive_check(check)
    assert len(ax.lines) == 0
    assert len(ax.collections) == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda check: (check, {}), ValueError, "expected the check of one data set, got 2"),
        (lambda check: ({}, {}), TypeError, "expected a PredictiveCheck, got dict"),
        (lambda check: (check[0], {"states": [2]}), ValueError, "states: expected some of 0 to 1"),
        (lambda check: (check[0], {"labels": ["a"]}), ValueError, "labels: expected 2, one a"),
        (lambda check: (check[0], {"x": [1, 2]}), ValueError, r"x: expected shape \(1,\)"),
    ],
)
def test_plot_refuses(change, error, message):
    check, options = change(by_hand())
    with pytest.raises(error, match=message):
        plots.predictive_check(check, **options)


def test_plot_refuses_a_matrix():
    matrix = PredictiveCheck(*np.zeros((2, 1, 5, 2, 3, 3)))
    with pytest.raises(ValueError, match=r"expected a number or a vector, got shape \(3, 3\)"):
        plots.predictive_check(matrix)
