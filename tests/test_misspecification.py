"""Misspecification: distances are BayesFlow's, p-values uniform under the model, misfits show."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bayesflow.metrics.functional import maximum_mean_discrepancy
from scipy.stats import kstest

import abmtools as abm
from abmtools import plots
from abmtools.diagnostics import Misspecification, misspecification
from abmtools.diagnostics.misspecification import _decorrelation, _distances, _same_design
from abmtools.diagnostics.simulated import simulate_like

SIZES = {"num_reference": 300, "num_null": 200}


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data(small_model):
    """Forty data sets of the model, and one with an outlier in each of its replicates."""
    y = small_model.simulate(41, rng=np.random.default_rng(5), num_obs=12, num_reps=2)["y"]
    y[40, 3] = 30.0
    return {"y": y}


@pytest.fixture(scope="module")
def result(workflow, data):
    return misspecification(workflow, data, **SIZES, seed=1)


def test_distances_are_those_of_bayesflow(rng):
    reference = rng.normal(size=(250, 4)) @ rng.normal(size=(4, 4)) + 3.0
    summaries = rng.normal(size=(5, 4))
    location, decorrelate = _decorrelation(reference)
    standard = (reference - location) @ decorrelate
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(np.cov(standard.T, ddof=0), np.eye(4), atol=1e-10)
    standard = keras.ops.convert_to_tensor(standard, dtype="float32")
    expected = [
        float(maximum_mean_discrepancy(keras.ops.convert_to_tensor(x, dtype="float32"), standard))
        for x in ((summaries - location) @ decorrelate)[:, None]
    ]
    np.testing.assert_allclose(_distances(summaries, reference), expected, rtol=1e-5)


def test_distances_do_not_depend_on_the_scale_of_summaries(rng):
    reference, summaries = rng.normal(size=(250, 4)), rng.normal(size=(5, 4))
    scale = np.array([1e-3, 1.0, 50.0, 1e4])
    np.testing.assert_allclose(
        _distances(summaries * scale + 2.0, reference * scale + 2.0),
        _distances(summaries, reference),
        rtol=1e-4,
    )


def test_a_summary_that_never_changes_does_no_harm(rng):
    reference, summaries = rng.normal(size=(250, 3)), rng.normal(size=(5, 3))
    reference[:, 1] = summaries[:, 1] = 7.0
    assert np.all(np.isfinite(_distances(summaries, reference)))


def test_p_values_are_uniform_under_the_model_and_small_elsewhere(result):
    assert result.mmd.shape == result.p_value.shape == result.num_obs.shape == (41,)
    assert result.null.shape == (41, 200)
    assert len(result) == 41
    inside, outlier = result.p_value[:40], result.p_value[40]
    np.testing.assert_allclose(np.quantile(inside, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.2)
    assert np.mean(inside < 0.1) < 0.25
    assert outlier == 1 / 201
    np.testing.assert_array_equal(result.null, np.broadcast_to(result.null[0], (41, 200)))


def test_a_seed_repeats_a_test(workflow, data, result):
    again = misspecification(workflow, data, **SIZES, seed=1)
    other = misspecification(workflow, data, **SIZES, seed=2)
    np.testing.assert_array_equal(again.mmd, result.mmd)
    np.testing.assert_array_equal(again.null, result.null)
    assert not np.array_equal(other.null, result.null)


def test_data_that_none_of_several_models_could_have_made():
    """The comparison itself is certain of them; two models' own data have uniform p-values."""
    comparison = abm.load_pretrained("component_count")
    rng = np.random.default_rng(6)
    y = comparison.model.simulate(61, rng=rng, num_obs=60)["y"]
    y[60] = rng.normal(size=60) * 40
    found = misspecification(comparison, {"y": y}, num_reference=400, num_null=300, seed=1)
    assert found.p_value[60] < 0.005
    assert comparison.estimate(conditions={"y": y[60]})["model_probs"].max() > 0.9
    assert kstest(found.p_value[:60], "uniform").pvalue > 0.01


def test_simulated_data_lack_what_the_observed_lack(workflow, data):
    mask = np.ones((4, 12), dtype=bool)
    mask[1:3, 8:] = False
    masked = {"y": data["y"][:4], "mask": mask}
    checked = workflow.model.check_data(masked)
    groups = [rows.tolist() for rows in _same_design(checked)]
    assert sorted(groups) == [[0, 3], [1, 2]]
    found = misspecification(workflow, masked, **SIZES, seed=1)
    np.testing.assert_array_equal(found.num_obs, [12, 8, 8, 12])
    np.testing.assert_array_equal(found.null[1], found.null[2])
    np.testing.assert_array_equal(found.null[0], found.null[3])
    assert not np.array_equal(found.null[0], found.null[1])


def test_simulate_like_has_the_size_and_the_masks_of_the_data():
    model = abm.GaussianHMM()
    rng = np.random.default_rng(1)
    data = model.simulate(5, rng=rng, num_obs=20)
    data["mask"] = rng.random((5, 20)) < 0.8
    data = model.check_data(data)
    simulated = simulate_like(model, data, model.prior(rng, 5), rng=rng)
    assert sorted(simulated) == ["mask", "replicate_mask", "y", "z"]
    assert simulated["y"].shape == data["y"].shape
    for key in ("mask", "replicate_mask"):
        np.testing.assert_array_equal(simulated[key], data[key])


def test_what_the_emission_masks_is_no_replication():
    inner = abm.GaussianMixture(2, num_obs=12, num_reps=2)

    def emission(rng, parameters, z, num_reps):
        data = inner.emission(rng, parameters, z, num_reps)
        return data | {"mask": np.arange(z.shape[1]) < rng.integers(4, 9, (len(z), 1))}

    model = abm.MixtureModel(
        prior=inner.prior,
        structure=inner.structure,
        emission=emission,
        constraints=inner.space.constraints,
        num_obs=12,
        num_reps=2,
    )
    rng = np.random.default_rng(1)
    parameters = model.prior(rng, 3)
    data = model.check_data({"y": rng.normal(size=(3, 12, 2))})
    with pytest.raises(ValueError, match=r"mask: the emission of .* masks what is observed"):
        simulate_like(model, data, parameters, rng=rng)
    data["mask"] = np.tile(np.arange(12) < 3, (3, 1))
    simulated = simulate_like(model, data, parameters, rng=rng)
    np.testing.assert_array_equal(simulated["mask"], data["mask"])


def test_one_data_set_needs_no_batch_axis(workflow, data):
    one = misspecification(workflow, {"y": data["y"][40]}, **SIZES, seed=1)
    assert one.mmd.shape == (1,)
    assert one.p_value[0] < 0.01


@pytest.mark.parametrize("number", [0, 1e3, "10"], ids=repr)
@pytest.mark.parametrize("argument", ["num_reference", "num_null"])
def test_sizes_are_positive(workflow, data, argument, number):
    with pytest.raises(
        ValueError, match=f"{argument}: expected a positive integer, got {number!r}"
    ):
        misspecification(workflow, data, **{argument: number}, seed=1)


def by_hand():
    return Misspecification(
        mmd=np.array([1.0, 2.5, 9.0]),
        null=np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]),
        num_obs=np.array([400, 400, 333]),
    )


def test_p_values_by_hand():
    np.testing.assert_allclose(by_hand().p_value, [1.0, 3 / 5, 1 / 5])
    lines = str(by_hand()).splitlines()
    assert "4 null data sets" in lines[0]
    assert lines[-1].split() == ["2", "333", "9.000", "7.850", "0.200"]


def test_plot_has_a_panel_for_each_null_distribution():
    axes = plots.misspecification(by_hand(), labels=["A", "B", "C"])
    assert [ax.get_title() for ax in axes] == ["400 observations", "333 observations"]
    texts = [[text.get_text() for text in ax.texts] for ax in axes]
    assert texts == [["A", "B"], ["C"]]
    at = [[line.get_xdata()[0] for line in ax.lines[1:]] for ax in axes]
    assert at == [[1.0, 2.5], [9.0]]
    assert sum(patch.get_height() for patch in axes[0].patches) == 4
    one = plt.subplots()[1]
    alone = Misspecification(np.array([2.0]), np.array([[1.0, 3.0]]), np.array([10]))
    assert plots.misspecification(alone, axes=one)[0] is one


def test_plot_refuses():
    with pytest.raises(TypeError, match="expected a Misspecification, got dict"):
        plots.misspecification({})
    with pytest.raises(ValueError, match="labels: expected 3, one a data set, got 2"):
        plots.misspecification(by_hand(), labels="AB")
    with pytest.raises(ValueError, match="axes: expected at least 2, got 1"):
        plots.misspecification(by_hand(), axes=plt.subplots()[1])
