"""Weighted draws: everything that reads a posterior sees its weights, as if draws were repeated."""

from dataclasses import replace

import arviz_base
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

import abmtools as abm
from abmtools import diagnostics, plots
from abmtools.diagnostics import Draws
from abmtools.structures.categorical import draw_systematic

COUNTS = np.array([[1, 2, 0, 3, 1, 1], [0, 0, 4, 1, 1, 2]])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def plain():
    """Six draws for each of two sequences of a hidden Markov model."""
    model = abm.GaussianHMM(num_obs=15)
    rng = np.random.default_rng(1)
    data = model.check_data({"y": model.simulate(2, rng=rng, num_reps=2)["y"]})
    u = rng.normal(size=(2, 6, model.num_unconstrained))
    parameters = model.constrain(u)
    return abm.MixturePosterior(
        model,
        data,
        u,
        membership=model.exact_membership(data, parameters),
        filtering=model.exact_filtering(data, parameters),
        scores=model.emission_scores(data, parameters),
    )


@pytest.fixture(scope="module")
def weighted(plain):
    with np.errstate(divide="ignore"):
        return replace(plain, log_weights=np.log(COUNTS / 8))


@pytest.fixture(scope="module")
def repeated(plain):
    """The same distribution, as eight draws of equal weight."""
    return plain.resample(np.stack([np.repeat(np.arange(6), count) for count in COUNTS]))


# --- the posterior --------------------------------------------------------------------------------


@pytest.mark.parametrize("summary", ["mean", "std"])
def test_moments_are_those_of_repeated_draws(weighted, repeated, summary):
    expected = getattr(repeated, summary)()
    for name, value in getattr(weighted, summary)().items():
        assert value.shape == (2, *weighted.model.parameter_shapes[name])
        np.testing.assert_allclose(value, expected[name], rtol=1e-12)


@pytest.mark.parametrize("q", [0.3, [0.0, 0.2, 0.55, 1.0]])
def test_quantiles_are_those_of_repeated_draws(weighted, repeated, q):
    for name, value in weighted.quantile(q).items():
        draws = repeated.parameters[name]
        np.testing.assert_array_equal(value, np.quantile(draws, q, axis=1, method="inverted_cdf"))
        assert repeated.quantile(q)[name].shape == value.shape


def test_mean_indicators_are_those_of_repeated_draws(weighted, repeated):
    for kind in ("membership", "smoothing", "filtering"):
        mean = getattr(weighted, f"mean_{kind}")()
        assert mean.shape == (2, 15, 2)
        np.testing.assert_allclose(mean, getattr(repeated, kind).mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(mean.sum(axis=-1), 1.0)


def test_equal_weights_change_nothing(plain):
    equal = replace(plain, log_weights=np.full((2, 6), -np.log(6)))
    for name, value in plain.mean().items():
        np.testing.assert_allclose(equal.mean()[name], value)
        np.testing.assert_allclose(equal.std()[name], plain.parameters[name].std(axis=1))
    np.testing.assert_allclose(plain.weights, equal.weights)


def test_order_is_needed_for_filtering(posterior):
    for kind in ("filtering", "smoothing"):
        with pytest.raises(ValueError, match="expected draws from a network with ordered"):
            getattr(posterior, f"mean_{kind}")()


def test_choosing_data_sets_keeps_weights_and_choosing_draws_drops_them(weighted):
    np.testing.assert_allclose(weighted[1].weights, COUNTS[1:] / 8)
    np.testing.assert_allclose(weighted[::-1].weights, COUNTS[::-1] / 8)
    assert weighted.resample(np.zeros((2, 3), dtype=int)).log_weights is None
    assert "weighted" in repr(weighted)
    assert "weighted" not in repr(weighted.with_equal_weights())


def test_equal_weights_repeat_each_draw_as_its_weight_says(weighted, plain, repeated):
    np.testing.assert_array_equal(
        weighted.with_equal_weights(8).unconstrained, repeated.unconstrained
    )
    assert weighted.with_equal_weights().num_samples == 6
    assert plain.with_equal_weights() is plain
    np.testing.assert_array_equal(plain.with_equal_weights(6).unconstrained, plain.unconstrained)
    with pytest.raises(ValueError, match="num_samples: expected a positive integer, got 0"):
        weighted.with_equal_weights(0)


def test_systematic_draws_copy_a_category_as_often_as_its_probability_says(rng):
    probabilities = rng.dirichlet(np.ones(50), size=3)
    drawn = draw_systematic(rng, 7 * probabilities, 1000)
    counts = np.stack([np.bincount(row, minlength=50) for row in drawn])
    assert np.abs(counts - 1000 * probabilities).max() < 1
    assert np.all(np.diff(drawn) >= 0)


# --- importance -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def posterior(workflow, simulated):
    data = {"y": simulated["y"][:2]}
    return workflow.sample(conditions=data, num_samples=500, seed=1)


def test_corrected_means_are_the_limit_of_resampling(posterior):
    result = diagnostics.importance(posterior)
    corrected = result.correct(posterior)
    assert corrected.unconstrained is posterior.unconstrained
    np.testing.assert_allclose(corrected.weights.sum(axis=1), 1.0)
    resampled = result.resample(posterior, 200_000, seed=1)
    for summary in ("mean", "std"):
        for name, value in getattr(corrected, summary)().items():
            np.testing.assert_allclose(value, getattr(resampled, summary)()[name], atol=2e-3)
    np.testing.assert_allclose(
        corrected.mean_membership(), resampled.membership.mean(axis=1), atol=2e-3
    )
    np.testing.assert_array_equal(corrected.log_prob, posterior.log_prob)


def test_correct_refuses_another_posterior(posterior):
    with pytest.raises(ValueError, match="expected 2 data sets with 500 draws, got 1 with 500"):
        diagnostics.importance(posterior).correct(posterior[0])


# --- DataTree, comparisons, plots -----------------------------------------------------------------


def test_tree_carries_the_weights(weighted, plain, tmp_path):
    tree = weighted.to_arviz()
    log_weight = tree["sample_stats"]["log_weight"]
    assert log_weight.dims == ("chain", "draw", "dataset")
    np.testing.assert_allclose(np.exp(log_weight.values[0].T), COUNTS / 8)
    assert "sample_stats" not in plain.to_arviz().children
    one = weighted[0].to_arviz()
    assert one["sample_stats"]["log_weight"].dims == ("chain", "draw")
    one.to_netcdf(tmp_path / "one.nc")
    with xarray.open_datatree(tmp_path / "one.nc") as again:
        np.testing.assert_allclose(np.exp(again["sample_stats"]["log_weight"][0]), COUNTS[0] / 8)
    weights = np.exp(one["sample_stats"]["log_weight"].values.ravel())
    drawn = arviz_base.extract(one, num_samples=4, weights=weights, random_seed=1)
    assert set(drawn["draw"].values) <= set(np.flatnonzero(COUNTS[0]))


def test_draws_have_equal_weights_whatever_they_come_from(weighted):
    draws = Draws.of(weighted[0])
    tree = Draws.of(weighted[0].to_arviz())
    values = weighted[0].parameters["means"][0]
    counts = [(draws.parameters["means"] == value).all(axis=1).sum() for value in values]
    assert np.all(np.abs(counts - 6 * COUNTS[0] / 8) < 1)
    assert counts[2] == 0
    for label, column in draws.columns.items():
        np.testing.assert_array_equal(column, tree.columns[label])
    np.testing.assert_array_equal(draws.membership, tree.membership)
    np.testing.assert_array_equal(draws.filtering, tree.filtering)


def test_comparisons_see_the_weights(posterior):
    shifted = posterior.unconstrained - posterior.unconstrained[:, :1]
    log_weights = -np.square(shifted).sum(axis=-1)  # around the first draw
    log_weights -= np.log(np.exp(log_weights).sum(axis=1, keepdims=True))
    heavy = replace(posterior, log_weights=log_weights)[0]
    found = diagnostics.compare(heavy, heavy.with_equal_weights(), c2st=False)
    assert found.largest == found.membership == 0
    assert diagnostics.compare(heavy, posterior[0], c2st=False).largest > 0.1


def test_plots_see_the_weights(plain):
    """All weight is on a draw whose states are all 1; in the others they are all 0."""
    scores = np.zeros((1, 6, 15, 2))
    scores[..., 0] = 50.0
    scores[:, 4] = [0.0, 50.0]
    log_weights = np.full((1, 6), -np.inf)
    log_weights[:, 4] = 0.0
    membership = scores / 50.0
    one = replace(
        plain[0], scores=scores, membership=membership, filtering=membership,
        log_weights=log_weights,
    )  # fmt: skip
    ax = plots.paths(one, num_paths=6)
    image = ax.images[0].get_array()
    np.testing.assert_array_equal(image.compressed(), 1)
    ax = plots.membership_scatter(one, one)
    for k, line in enumerate(ax.lines[1:]):
        np.testing.assert_array_equal(line.get_ydata(), k)
    ax = plots.state_probabilities(one, state=1)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), 1.0)
