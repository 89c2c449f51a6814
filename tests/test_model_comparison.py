"""Comparison of models: what is simulated, trained, estimated and averaged."""

import warnings

import keras
import numpy as np
import pytest
from conftest import to_numpy
from scipy.special import softmax

import abmtools as abm
from abmtools import GaussianLocationMixture, Independent, MixtureComparisonWorkflow, MixtureModel
from abmtools.inference import ComparisonPosterior, MixturePosterior
from abmtools.inference.checkpoint import load_weights, save_weights
from abmtools.inference.dataset import SeededDataset
from abmtools.models import ModelChoice
from abmtools.networks import ObservationEncoder, SequenceSummary, SetSummary

SIZES = {"epochs": 2, "num_batches_per_epoch": 3, "batch_size": 8, "verbose": 0}


def near_and_far(distance: float, **kwargs) -> MixtureModel:
    """Two known components, at plus and minus a distance; the same weights."""

    def prior(rng, batch_size):
        return {"weights": rng.dirichlet([2, 2], batch_size)}

    def emission(rng, parameters, z):
        return {"y": rng.normal(np.where(z == 0, -distance, distance), 1.0)}

    def log_emission(data, parameters):
        means = np.array([-distance, distance])
        scores = -0.5 * np.square(data["y"][..., None] - means) - 0.5 * np.log(2 * np.pi)
        return np.broadcast_to(
            scores[:, None], (*parameters["weights"].shape[:2], *scores.shape[1:])
        )

    return MixtureModel(
        prior=prior, structure=Independent(), emission=emission, log_emission=log_emission,
        constraints={"weights": abm.simplex}, num_obs=(5, 12), name=f"Distance{distance}", **kwargs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return {"near": near_and_far(0.5), "far": near_and_far(1.5)}


@pytest.fixture(scope="module")
def trained(models):
    workflow = MixtureComparisonWorkflow(models, prior=[0.25, 0.75], seed=1)
    workflow.fit_online(epochs=12, num_batches_per_epoch=100, batch_size=64, verbose=0)
    return workflow


def evidence(model, y, num_points=400):
    """p(y) by the trapezoidal rule over the first weight, whose prior is Beta(2, 2)."""
    weight = np.linspace(0, 1, num_points + 1)[1:-1]
    parameters = {"weights": np.stack([weight, 1 - weight], axis=-1)[None]}
    log_likelihood = model.log_likelihood({"y": y[None]}, parameters)[0]
    return np.sum(6 * weight * (1 - weight) * np.exp(log_likelihood)) / num_points


# --- simulation -----------------------------------------------------------------------------------


def test_models_are_drawn_from_their_prior(models):
    choice = ModelChoice(models, [0.2, 0.8])
    data = choice.simulate(4000, rng=np.random.default_rng(1), num_obs=12)
    assert data["model_indices"].shape == (4000, 2)
    np.testing.assert_array_equal(data["model_indices"].sum(axis=1), 1)
    assert abs(data["model_indices"][:, 1].mean() - 0.8) < 0.02  # three standard errors
    spread = [data["y"][data["model_indices"][:, m] == 1].var() for m in range(2)]
    np.testing.assert_allclose(spread, [1 + 0.5**2, 1 + 1.5**2], rtol=0.1)


def test_one_size_for_all_models_of_a_batch(models):
    choice, rng = ModelChoice(models), np.random.default_rng(1)
    sizes = {choice.simulate(4, rng=rng)["y"].shape[1] for _ in range(60)}
    assert sizes == set(range(5, 13))
    assert choice.simulate(4, rng=rng, num_obs=7)["y"].shape == (4, 7)


def test_replicates_and_masks():
    """One model masks replicates and the other does not: what it leaves alone is observed."""
    hmm = {"num_obs": 10, "num_reps": (2, 4)}
    models = {"chain": abm.GaussianHMM(**hmm), "mixture": abm.GaussianMixture(2, **hmm)}
    workflow = MixtureComparisonWorkflow(models, seed=1)
    data = workflow.simulate(30, num_reps=3)
    assert data["y"].shape == (30, 10, 3)
    mixture = data["model_indices"][:, 1] == 1
    if "replicate_mask" in data:
        assert data["replicate_mask"][mixture].all()
    assert isinstance(workflow.summary_network, SequenceSummary)
    assert workflow.estimate(conditions=data)["model_probs"].shape == (30, 2)


def test_batches_are_repeatable_and_padded(models):
    workflow = MixtureComparisonWorkflow(models, seed=1)
    settings = {"batch_size": 4, "num_batches": 3, "adapter": workflow.adapter}

    def make(seed, pad):
        batch = SeededDataset(workflow.model, seed=seed, pad=pad, **settings)[1]
        return {name: to_numpy(values) for name, values in batch.items()}

    first, again, other = make(1, False), make(1, False), make(2, False)
    y, others = first["summary_variables"], other["summary_variables"]
    np.testing.assert_array_equal(y, again["summary_variables"])
    assert not (y.shape == others.shape and np.allclose(y, others))
    padded = make(1, True)
    assert padded["summary_variables"].shape[1] in {12, 8, 6}
    np.testing.assert_array_equal(padded["inference_variables"], first["inference_variables"])
    np.testing.assert_array_equal(padded["summary_mask"].sum(axis=1), y.shape[1])


# --- training and estimates -----------------------------------------------------------------------


def test_probabilities_are_the_exact_ones(trained, models):
    """Against the evidence by quadrature over the one free parameter."""
    data = trained.model.simulate(200, rng=np.random.default_rng(5), num_obs=12)
    evidences = [[evidence(model, y) for model in models.values()] for y in data["y"]]
    exact = np.array(evidences) * [0.25, 0.75]
    exact /= exact.sum(axis=1, keepdims=True)
    estimate = trained.estimate(conditions={"y": data["y"]})
    assert np.abs(estimate["model_probs"] - exact).mean() < 0.03
    odds = estimate["log_odds"]
    np.testing.assert_allclose(softmax(odds, axis=1), estimate["model_probs"], atol=1e-5)
    np.testing.assert_allclose(odds[:, 1] - estimate["log_bayes_factors"][:, 1], np.log(3), 1e-5)


def test_many_data_sets_go_in_parts(trained, monkeypatch):
    data = trained.model.simulate(7, rng=np.random.default_rng(8), num_obs=12)
    together = trained.estimate(conditions={"y": data["y"]})
    monkeypatch.setattr("abmtools.inference.workflow.OBSERVATIONS_AT_ONCE", 36)  # three data sets
    apart = trained.estimate(conditions={"y": data["y"]})
    assert apart.keys() == together.keys()
    for name, values in together.items():
        np.testing.assert_allclose(apart[name], values, rtol=1e-4, atol=1e-5)


def test_calibrated(trained):
    """Of data sets that the network gives probability p, the share p is from the model."""
    data = trained.model.simulate(2000, rng=np.random.default_rng(6))
    far = trained.estimate(conditions=data)["model_probs"][:, 1]
    truth = data["model_indices"][:, 1]
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 1.0)):
        chosen = (low <= far) & (far < high)
        error = np.sqrt(far[chosen].mean() * (1 - far[chosen].mean()) / chosen.sum())
        assert abs(truth[chosen].mean() - far[chosen].mean()) < 0.02 + 3 * error


def test_diagnostics_of_the_parent(trained):
    data = trained.simulate(50)
    table = trained.compute_default_diagnostics(data)
    assert list(table.columns) == ["near", "far"]
    assert np.isfinite(table.to_numpy()).all()
    figures = trained.plot_default_diagnostics(data)
    assert {"loss", "calibration"} <= set(figures)


def test_seed(models):
    def losses(seed):
        workflow = MixtureComparisonWorkflow(models, seed=seed)
        history = workflow.fit_online(**SIZES, fit_parameters=True).history["loss"]
        return history, workflow

    first, workflow = losses(3)
    again, same = losses(3)
    assert first == again
    pairs = list(zip(workflow.weights, same.weights, strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert losses(4)[0] != first


def test_fit_parameters(models):
    workflow = MixtureComparisonWorkflow(models, seed=1)
    before = [x.estimator.get_weights() for x in workflow.workflows.values()]
    workflow.fit_online(**SIZES)
    unchanged = [x.estimator.get_weights() for x in workflow.workflows.values()]
    for old, new in zip(before, unchanged, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    workflow.fit_online(**SIZES, fit_parameters=True)
    assert all(len(x.losses["posterior_loss"]) == 2 for x in workflow.workflows.values())


@pytest.mark.parametrize("name", ["resume", "simulator", "validation_data"])
def test_what_is_about_one_network_does_not_go_to_all(models, name):
    workflow = MixtureComparisonWorkflow(models, seed=1)
    with pytest.raises(ValueError, match=f"{name}: cannot be given with fit_parameters=True"):
        workflow.fit_online(**SIZES, fit_parameters=True, **{name: {"y": 1}})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y": np.full((4, 6), np.nan)}, "data\\['y'\\]"),
        ({"model_indices": np.array([0, 1, 0, 1])}, "zeros and ones of shape \\(4, 2\\)"),
        ({"model_indices": np.ones((4, 2))}, "expected a single one in each row"),
    ],
)
def test_offline_data_of_comparisons_are_checked(models, change, match):
    workflow = MixtureComparisonWorkflow(models, seed=1)
    data = workflow.model.simulate(4, rng=np.random.default_rng(1), num_obs=6)
    for wrong, right in [(data | change, None), (data, data | change)]:
        with pytest.raises(ValueError, match=match):
            workflow.fit_offline(wrong, epochs=1, batch_size=4, validation_data=right, verbose=0)
    with pytest.raises(ValueError, match="expected 'model_indices'"):
        workflow.fit_offline({"y": data["y"]}, epochs=1, batch_size=4)
    history = workflow.fit_offline(
        data, epochs=1, batch_size=4, validation_data=data, verbose=0
    ).history
    assert {"loss", "val_loss"} <= history.keys()


def test_another_prior_is_not_asked_of_the_network(trained):
    with pytest.raises(TypeError, match="model_prior"):
        trained.estimate(conditions={"y": np.zeros((1, 6))}, model_prior=[0.5, 0.5])


def test_resume(models, tmp_path):
    """An interrupted run ends with the weights of one that was not."""
    whole = MixtureComparisonWorkflow(models, checkpoint=tmp_path / "a.npz", seed=1)
    whole.fit_online(**SIZES)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                raise KeyboardInterrupt

    path = tmp_path / "b.npz"
    interrupted = MixtureComparisonWorkflow(models, checkpoint=path, seed=1)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit_online(**SIZES, callbacks=[Stop()])
    resumed = MixtureComparisonWorkflow(models, checkpoint=path, seed=1)
    resumed.fit_online(**SIZES, resume=True)
    pairs = zip(whole.estimator.get_weights(), resumed.estimator.get_weights(), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_save_and_load(models, trained, tmp_path):
    """One file for all networks."""
    save_weights(trained, tmp_path / "weights.npz")
    other = MixtureComparisonWorkflow(models, prior=[0.25, 0.75], seed=2)
    load_weights(other, tmp_path / "weights.npz")
    data = trained.simulate(5)
    draws = [x.sample(conditions={"y": data["y"]}, num_samples=4, seed=1) for x in (trained, other)]
    np.testing.assert_array_equal(draws[0].probabilities, draws[1].probabilities)
    for name in models:
        np.testing.assert_array_equal(draws[0][name].membership, draws[1][name].membership)


# --- what is asked of it --------------------------------------------------------------------------


def test_sample(trained, models):
    data = trained.simulate(3, num_obs=8)
    posterior = trained.sample(conditions={"y": data["y"]}, num_samples=6, seed=2)
    assert posterior.names == ["near", "far"]
    assert posterior.probabilities.dtype == "float64"
    np.testing.assert_allclose(posterior.probabilities.sum(axis=1), 1, rtol=1e-12)
    for name, model in models.items():
        assert isinstance(posterior[name], MixturePosterior)
        assert posterior[name].model is model
        alone = trained.workflows[name].sample(conditions={"y": data["y"]}, num_samples=6, seed=2)
        np.testing.assert_array_equal(posterior[name].unconstrained, alone.unconstrained)
    assert repr(posterior) == "ComparisonPosterior(models=['near', 'far'], num_datasets=3)"
    with pytest.raises(KeyError, match=r"expected one of the models .*got 'x'"):
        posterior["x"]


def test_one_data_set_and_missing_values(trained):
    """What is masked changes nothing, whatever it holds."""
    y = trained.simulate(1, num_obs=7)["y"][0]
    alone = trained.estimate(conditions={"y": y})["model_probs"]
    assert alone.shape == (1, 2)
    longer = np.append(y, [np.nan, 1e6])
    mask = np.arange(9) < 7
    masked = trained.estimate(conditions={"y": longer, "mask": mask})["model_probs"]
    np.testing.assert_allclose(masked, alone, atol=1e-5)


def test_order_does_not_matter_for_independent_observations(trained):
    y = trained.simulate(4)["y"]
    forwards, backwards = (
        trained.estimate(conditions={"y": x})["model_probs"] for x in (y, y[:, ::-1].copy())
    )
    np.testing.assert_allclose(forwards, backwards, atol=1e-5)
    assert isinstance(trained.summary_network, SetSummary)
    assert not isinstance(trained.summary_network, SequenceSummary)


def test_extrapolation_is_said_once(trained):
    data = {"y": np.zeros((1, 40))}
    for function in (trained.estimate, trained.sample):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(conditions=data)
        found = [w for w in caught if w.category is abm.ExtrapolationWarning]
        assert len(found) == 1
        assert "trained on 5 to 12 observations" in str(found[0].message)
        assert found[0].filename == __file__


def test_bad_data(trained):
    for function in (trained.estimate, trained.sample):
        with pytest.raises(TypeError, match="data: expected a dictionary"):
            function(conditions=np.zeros((1, 8)))
        with pytest.raises(ValueError, match=r"data\['y'\]: expected finite numbers"):
            function(conditions={"y": np.full((1, 8), np.nan)})


def posterior_of(values, probabilities, prior=(0.5, 0.5)):
    """A comparison whose "posteriors" are numbers."""
    posteriors = dict(zip("ab", values, strict=True))
    return ComparisonPosterior(np.array(probabilities), posteriors, np.array(prior))


def test_average_by_hand():
    """0.25 x 4 + 0.75 x 8 = 7, and 0.5 x 2 + 0.5 x 6 = 4."""
    values = np.array([[4.0, 2.0], [8.0, 6.0]])
    posterior = posterior_of(values, [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(posterior.average(lambda x: x), [7, 4])
    np.testing.assert_allclose(posterior.average(lambda x: np.stack([x, x], axis=1))[:, 1], [7, 4])
    with pytest.raises(ValueError, match=r"quantity: expected the same shape \(2, \.\.\.\)"):
        posterior.average(lambda x: x[:1])


def test_other_prior_by_hand():
    """Odds 1 : 3 under equal priors are 1 x 0.9 : 3 x 0.1 = 3 : 1 under 0.9 and 0.1."""
    posterior = posterior_of([0, 0], [[0.25, 0.75]])
    changed = posterior.with_prior([0.9, 0.1])
    np.testing.assert_allclose(changed.probabilities, [[0.75, 0.25]])
    np.testing.assert_allclose(changed.with_prior([0.5, 0.5]).probabilities, [[0.25, 0.75]])
    with pytest.raises(ValueError, match="prior: expected 2 positive numbers that sum to one"):
        posterior.with_prior([1.0])


# --- construction ---------------------------------------------------------------------------------


def test_ready_parts(models):
    ready = abm.MixtureWorkflow(models["far"], seed=5)
    summary = SetSummary(ObservationEncoder(), summary_dim=7)
    workflow = MixtureComparisonWorkflow(models, workflows={"far": ready}, summary_network=summary)
    assert workflow.workflows["far"] is ready
    assert workflow.workflows["near"].model is models["near"]
    assert workflow.summary_network is summary
    with pytest.raises(ValueError, match=r"workflows: expected models of .*got \['x'\]"):
        MixtureComparisonWorkflow(models, workflows={"x": ready})
    with pytest.raises(ValueError, match=r"workflows\['near'\]: expected one of models\['near'\]"):
        MixtureComparisonWorkflow(models, workflows={"near": ready})


def test_counts_of_one_model_leave_the_numbers_of_another(rng):
    numbers, counts = near_and_far(1.0), near_and_far(1.0)

    def rounded(rng, parameters, z):
        return {"y": np.round(numbers.emission(rng, parameters, z)["y"]).astype(int)}

    counts.emission = rounded
    for models in ({"a": counts, "b": numbers}, {"b": numbers, "a": counts}):
        simulated = ModelChoice(models).simulate(40, rng=rng)
        whole = np.all(simulated["y"] == np.round(simulated["y"]), axis=1)
        is_counts = simulated["model_indices"][:, list(models).index("a")] == 1
        np.testing.assert_array_equal(whole, is_counts)


@pytest.mark.parametrize(
    ("second", "match"),
    [
        (lambda: GaussianLocationMixture(2, num_obs=9), "num_obs=.* as in the first model"),
        (lambda: abm.GaussianMixture(2, num_obs=8, num_reps=2), "num_reps=None"),
        (
            lambda: near_and_far(1.0, observation_features=lambda data: data["y"][..., None] ** 2),
            "the observation_features of the first model",
        ),
    ],
    ids=["sizes", "replicates", "features"],
)
def test_models_that_disagree(second, match):
    first = near_and_far(1.0)
    first.num_obs = (8, 8)
    second = second()
    if "features" in match:
        second.num_obs = (8, 8)
    with pytest.raises(ValueError, match=rf"models\['b'\]: expected .*{match}"):
        ModelChoice({"a": first, "b": second})


def test_wrong_models(models):
    with pytest.raises(TypeError, match="models: expected a dictionary of models, got list"):
        ModelChoice(list(models.values()))
    with pytest.raises(ValueError, match=r"models: expected at least two, got \['near'\]"):
        ModelChoice({"near": models["near"]})
    for prior in ([0.5], [0.5, 0.6], [0.0, 1.0]):
        with pytest.raises(ValueError, match="prior: expected 2 positive numbers"):
            ModelChoice(models, prior)


def test_models_of_speeded_decisions_agree():
    """A chain with features and a bound that depends on the data, with and without likelihood."""
    models = {"wald": abm.EvidenceAccumulationHMM(), "leaky": abm.LeakyAccumulatorHMM()}
    workflow = MixtureComparisonWorkflow(models, seed=1)
    data = workflow.simulate(4, num_obs=100)
    posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=3, seed=1)
    assert posterior["leaky"].smoothing.shape == (4, 3, 100, 2)
    assert isinstance(workflow.summary_network, SequenceSummary)
