"""Inference: what training learns, that runs repeat and resume, and what posteriors hold."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import arviz as az
import bayesflow as bf
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from conftest import lognormal_model, to_numpy
from scipy.special import softmax
from scipy.stats import chisquare

from abmtools import (
    ExtrapolationWarning,
    GaussianMixture,
    Independent,
    MixtureEstimator,
    MixtureModel,
    MixturePosterior,
    MixtureWorkflow,
    diagnostics,
    load_pretrained,
    positive,
    stan,
)
from abmtools.inference import checkpoint
from abmtools.inference.adapter import PackObservations
from abmtools.inference.dataset import BLOCK, SeededDataset
from abmtools.inference.datatree import INDICATOR_DIMS
from abmtools.models.names import RESERVED
from abmtools.networks import EmissionScorer, ObservationEncoder, SetSummary

LOSSES = {"loss", "posterior_loss", "membership_loss"}
TINY = {"num_batches_per_epoch": 3, "batch_size": 8, "verbose": 0}


def same_weights(a, b) -> bool:
    pairs = zip(a.estimator.get_weights(), b.estimator.get_weights(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def true_parameters(workflow, data):
    """The parameters that data were simulated with, as one draw per data set."""
    return {name: data[name][:, None] for name in workflow.model.parameter_names}


# --- training ---------------------------------------------------------------------------------


def test_training_lowers_both_losses(workflow):
    assert set(workflow.losses) == LOSSES
    for name, values in workflow.losses.items():
        assert len(values) == 4, name
        assert values[-1] < values[0], name
    assert workflow.history.history == workflow.losses


def test_membership_is_learned(workflow, rng):
    """Cross-entropy of the true indicators: near the exact one, far from the prior's."""
    data = workflow.model.simulate(2000, rng=rng, num_obs=12, num_reps=2)
    parameters = true_parameters(workflow, data)

    def cross_entropy(probabilities):
        chosen = np.take_along_axis(probabilities[:, 0], data["z"][..., None], axis=-1)
        return -np.log(chosen).mean()

    exact = cross_entropy(workflow.model.exact_membership(data, parameters))
    learned = cross_entropy(workflow.membership(data, parameters))
    prior = cross_entropy(np.repeat(parameters["weights"][:, :, None], 12, axis=2))
    assert exact < learned < exact + 0.03 < prior - 0.1


def test_posterior_is_learned(workflow, rng):
    """log q(u | y) of the true u beats a normal density with the prior's moments."""
    model = workflow.model
    data = model.simulate(1000, rng=rng, num_obs=12, num_reps=2)
    u = model.unconstrain({name: data[name] for name in model.parameter_names})
    learned = workflow.log_prob_unconstrained(data, u[:, None]).mean()
    entropy_of_normal = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(u.T))[1]
    assert learned > -entropy_of_normal + 1.0


def test_losses_are_those_of_the_factors(workflow, rng):
    """In validation the loss is -log q(u | y) - log q(z | y, u), evaluated part by part."""
    data = workflow.model.simulate(20, rng=rng, num_obs=12, num_reps=2)
    adapted = workflow.adapter(data)
    metrics = workflow.estimator.compute_metrics(**adapted, stage="validation")
    membership = workflow.membership(data, true_parameters(workflow, data))[:, 0]
    log_membership = np.log(np.take_along_axis(membership, data["z"][..., None], axis=-1))
    u = to_numpy(adapted["inference_variables"])[:, None]
    log_posterior = workflow.log_prob_unconstrained(data, u)
    scale = workflow.estimator.standardize_layers["inference_variables"].moving_std(0)
    standardized = -log_posterior.mean() - np.log(to_numpy(scale)).sum()
    assert float(metrics["membership_loss"]) == pytest.approx(-log_membership.mean(), rel=1e-4)
    assert float(metrics["posterior_loss"]) == pytest.approx(standardized, rel=1e-4)
    total = standardized - log_membership.sum(axis=(1, 2)).mean()
    assert float(metrics["loss"]) == pytest.approx(total, rel=1e-4)


def test_masked_observations_do_not_enter_the_loss(workflow, rng):
    data = workflow.model.simulate(6, rng=rng, num_obs=12, num_reps=2)
    estimator = workflow.estimator
    expected = estimator.compute_metrics(**workflow.adapter(data), stage="validation")
    padding = rng.normal(50, 50, (6, 8, 2))
    padded = data | {
        "y": np.concatenate([data["y"], np.where(padding > 50, padding, np.nan)], axis=1),
        "z": np.concatenate([data["z"], rng.integers(2, size=(6, 8))], axis=1),
        "mask": np.tile(np.arange(20) < 12, (6, 1)),
    }
    got = estimator.compute_metrics(**workflow.adapter(padded), stage="validation")
    for name in LOSSES:
        assert float(got[name]) == pytest.approx(float(expected[name]), rel=1e-4), name


@pytest.mark.parametrize("masked", ["none", "last", "first", "anywhere"])
def test_random_subset_of_observations_is_unbiased(small_model, rng, masked):
    """Training scores `num_scored` observations; on average that is the loss of all of them."""
    workflow = MixtureWorkflow(small_model, num_scored=4, seed=1)
    data = small_model.simulate(64, rng=rng, num_obs=16, num_reps=2)
    observed = np.arange(16) >= rng.integers(0, 16, (64, 1))
    masks = {
        "last": observed[:, ::-1],
        "first": observed,
        "anywhere": rng.permuted(observed, axis=1),
    }
    if masked in masks:
        data["mask"] = masks[masked]
    adapted = workflow.adapter(data)
    names = ("inference_variables", "summary_variables", "indicators", "summary_mask")
    given = [adapted.get(name) for name in names]
    loss = workflow.estimator.membership_loss
    loss(*given, stage="training")  # takes the moments of the parameters
    expected = [float(x) for x in loss(*given, stage="validation")]
    draws = [loss(*given, stage="training") for _ in range(200)]
    draws = np.array([[float(x) for x in draw] for draw in draws])
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.all(draws.std(axis=0) > 0)
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 4 * error)


def test_padding_to_one_shape_changes_nothing(small_model):
    histories = []
    for pad in (False, True):
        workflow = MixtureWorkflow(small_model, num_scored=4, seed=1)
        histories.append(workflow.fit_online(epochs=2, **TINY, pad=pad).history)
    for name in LOSSES:
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-3)


def test_gradient_reaches_every_weight(workflow, rng):
    estimator = workflow.estimator
    batch = estimator.adapter(workflow.model.simulate(64, rng=rng))
    estimator.zero_grad()
    with torch.enable_grad():
        estimator.compute_metrics(**batch, stage="validation")["loss"].backward()
    for variable in estimator.trainable_variables:
        gradient = variable.value.grad
        assert gradient is not None, variable.path
        assert torch.any(gradient != 0), variable.path


def test_encoder_is_shared(workflow):
    estimator = workflow.estimator
    assert isinstance(estimator, MixtureEstimator)
    assert isinstance(estimator, bf.estimators.BasicEstimator)
    assert estimator.encoder is workflow.summary_network.encoder
    ids = [id(variable) for variable in estimator.weights]
    assert len(set(ids)) == len(ids)
    assert {id(variable) for variable in estimator.encoder.weights} < set(ids)


def test_moments_are_those_of_the_prior(workflow, rng):
    """Training standardizes parameters by the moments of all that it has seen."""
    model = workflow.model
    prior = model.prior(rng, 20_000)
    u = model.unconstrain(prior)
    layer = workflow.estimator.standardize_layers["inference_variables"]
    np.testing.assert_allclose(to_numpy(layer.moving_mean[0]), u.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(to_numpy(layer.moving_std(0)), u.std(axis=0), rtol=0.1)
    constrained = np.concatenate(list(prior.values()), axis=-1)
    layer = workflow.estimator.parameter_standardizer
    np.testing.assert_allclose(to_numpy(layer.moving_mean[0]), constrained.mean(axis=0), atol=0.1)


def test_progress_bar_shows_both_losses(small_model, capsys):
    workflow = MixtureWorkflow(small_model, seed=1)
    workflow.fit_online(epochs=1, num_batches_per_epoch=2, batch_size=8, verbose=1)
    shown = capsys.readouterr().out
    assert "posterior_loss" in shown
    assert "membership_loss" in shown


def test_scores_make_membership(workflow, rng):
    """With the structure's weights; where an observation is masked, by those alone."""
    data = workflow.model.simulate(3, rng=rng, num_obs=12, num_reps=2)
    given = {"y": data["y"], "mask": np.arange(36).reshape(3, 12) % 5 > 0}
    parameters = {
        name: np.repeat(x, 2, axis=1) for name, x in true_parameters(workflow, data).items()
    }
    scores = workflow.scores(given, parameters)
    assert scores.shape == (3, 2, 12, 2)
    assert not scores[~np.broadcast_to(given["mask"][:, None], (3, 2, 12))].any()
    expected = softmax(np.log(parameters["weights"])[:, :, None] + scores, axis=-1)
    np.testing.assert_allclose(workflow.membership(given, parameters), expected, atol=1e-5)


# --- repeating and resuming -------------------------------------------------------------------


def test_seed_repeats_a_run(small_model):
    first, second, other = (MixtureWorkflow(small_model, seed=seed) for seed in (5, 5, 6))
    assert same_weights(first, second)
    assert not same_weights(first, other)
    histories = [w.fit_online(epochs=2, **TINY).history for w in (first, second)]
    assert histories[0] == histories[1]
    assert same_weights(first, second)


def test_simulations_do_not_repeat_training_data(small_model):
    """Neither within training, nor in what the workflow simulates for tests."""
    workflow = MixtureWorkflow(small_model, seed=1)
    dataset = SeededDataset(
        small_model,
        batch_size=4,
        num_batches=2 * BLOCK,
        adapter=workflow.adapter,
        seed=workflow.seed,
    )
    seen = [to_numpy(dataset[i]["inference_variables"]) for i in range(2 * BLOCK)]
    again = to_numpy(dataset[3]["inference_variables"])
    np.testing.assert_array_equal(again, seen[3])
    dataset.epoch = 1
    seen += [to_numpy(dataset[i]["inference_variables"]) for i in range(BLOCK)]
    test = workflow.simulate(4 * BLOCK)
    seen.append(small_model.unconstrain({k: test[k] for k in small_model.parameter_names}))
    values = np.concatenate(seen)[:, 1].astype("float32")
    assert len(np.unique(values)) == len(values)


def test_every_epoch_has_new_data(small_model):
    seen = []
    workflow = MixtureWorkflow(small_model, seed=1)
    workflow.fit_online(epochs=3, **TINY, augmentations=lambda b: seen.append(b["y"][0, 0, 0]) or b)
    assert len(set(seen)) == 3


class Interrupt(keras.callbacks.Callback):
    """As a user's Ctrl-C at the start of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def make_workflow(model, path=None, **options):
    # fewer scored observations than there are: which ones is a matter of chance
    return MixtureWorkflow(model, num_scored=4, checkpoint=path, seed=3, **options)


def interrupt(workflow, *, after):
    with pytest.raises(KeyboardInterrupt):
        workflow.fit_online(epochs=4, **TINY, callbacks=[Interrupt(after)])


def test_resumed_run_equals_uninterrupted_one(small_model, tmp_path):
    whole = make_workflow(small_model)
    whole.fit_online(epochs=4, **TINY)
    path = tmp_path / "folder" / "run.npz"
    interrupt(make_workflow(small_model, path), after=2)
    resumed = make_workflow(small_model, path)
    history = resumed.fit_online(epochs=4, **TINY, resume=True)
    assert same_weights(whole, resumed)
    assert resumed.losses == whole.losses
    assert history.epoch == [2, 3]
    # a finished run has nothing left to do
    finished = make_workflow(small_model, path)
    finished.fit_online(epochs=4, **TINY, resume=True)
    assert same_weights(whole, finished)
    assert finished.losses == whole.losses


def test_same_workflow_resumes(small_model, tmp_path):
    whole, resumed = make_workflow(small_model), make_workflow(small_model, tmp_path / "run.npz")
    whole.fit_online(epochs=4, **TINY)
    interrupt(resumed, after=1)
    resumed.fit_online(epochs=4, **TINY, resume=True)
    assert same_weights(whole, resumed)


def test_an_interrupted_second_run_resumes_with_its_own_data(small_model, tmp_path):
    whole = make_workflow(small_model)
    whole.fit_online(epochs=1, **TINY)
    whole.fit_online(epochs=4, **TINY)
    path = tmp_path / "run.npz"
    interrupted = make_workflow(small_model, path)
    interrupted.fit_online(epochs=1, **TINY)
    interrupt(interrupted, after=2)
    resumed = make_workflow(small_model, path)
    resumed.fit_online(epochs=4, **TINY, resume=True)
    assert resumed.losses == whole.losses
    assert same_weights(whole, resumed)
    assert resumed.num_fits == 2


def test_a_second_stage_does_not_take_the_first_ones_file_for_its_own(small_model, tmp_path):
    """It trains, and a new process that repeats both stages then goes on with the second."""
    whole = make_workflow(small_model)
    staged = make_workflow(small_model, tmp_path / "run.npz")
    for workflow, resume in ((whole, False), (staged, True)):
        for _ in range(2):
            history = workflow.fit_online(epochs=2, **TINY, resume=resume)
            assert history.epoch == [0, 1]
    assert same_weights(whole, staged)


def test_what_was_trained_for_another_prior_is_refused(small_model, tmp_path):
    path = tmp_path / "run.npz"
    make_workflow(small_model, path).fit_online(epochs=1, **TINY)
    small_model = copy.copy(small_model)
    prior = small_model.prior
    small_model.prior = lambda rng, size: {name: x[::-1] for name, x in prior(rng, size).items()}
    other = make_workflow(small_model, path)
    before = [x.copy() for x in other.estimator.get_weights()]
    with pytest.raises(ValueError, match="expected a training of this model, got one whose prior"):
        other.fit_online(epochs=2, **TINY, resume=True)
    pairs = zip(before, other.estimator.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_where_the_optimizer_does_not_fit_nothing_is_loaded(small_model, tmp_path):
    path = tmp_path / "run.npz"
    make_workflow(small_model, path).fit_online(epochs=1, **TINY)
    other = make_workflow(small_model, path, optimizer=keras.optimizers.SGD(1e-3))
    before = [x.copy() for x in other.estimator.get_weights()]
    with pytest.raises(ValueError, match=r"expected \d+ optimizer arrays"):
        other.fit_online(epochs=2, **TINY, resume=True)
    pairs = zip(before, other.estimator.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_a_checkpoint_is_no_folder(small_model, tmp_path):
    with pytest.raises(ValueError, match="checkpoint: expected a file, got the folder"):
        make_workflow(small_model, tmp_path)


@pytest.mark.parametrize("name", ["learning_rate", "seed", "num_epochs"])
def test_unknown_options_are_refused(small_model, name):
    data = small_model.simulate(8, rng=np.random.default_rng(1))
    workflow = make_workflow(small_model)
    for fit in (workflow.fit_online, lambda **options: workflow.fit_offline(data, **options)):
        with pytest.raises(TypeError, match=f"{name}: expected an option of"):
            fit(epochs=1, **{name: 1})


def test_validation_data_are_checked(small_model):
    data = small_model.simulate(8, rng=np.random.default_rng(1))
    wrong = data | {"z": data["z"] + 1}
    workflow = make_workflow(small_model)
    for fit in (workflow.fit_online, lambda **options: workflow.fit_offline(data, **options)):
        with pytest.raises(ValueError, match="z"):
            fit(epochs=1, validation_data=wrong)


def test_a_resumed_run_has_the_seed_of_the_interrupted_one(small_model, tmp_path):
    whole, path = make_workflow(small_model), tmp_path / "run.npz"
    whole.fit_online(epochs=4, **TINY)
    interrupt(make_workflow(small_model, path), after=2)
    other = MixtureWorkflow(small_model, num_scored=4, checkpoint=path, seed=99)
    other.fit_online(epochs=4, **TINY, resume=True)
    assert other.seed == whole.seed
    assert other.losses == whole.losses


@pytest.mark.parametrize("name", ["epochs", "num_batches_per_epoch", "batch_size"])
def test_training_of_no_size_is_refused(small_model, name):
    sizes = {"epochs": 1} | TINY
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got 0"):
        make_workflow(small_model).fit_online(**sizes | {name: 0})


def test_resume_without_a_file_starts(small_model, tmp_path):
    workflow = make_workflow(small_model, tmp_path / "run.npz")
    assert workflow.fit_online(epochs=1, **TINY, resume=True).epoch == [0]
    assert (tmp_path / "run.npz").is_file()
    with pytest.raises(ValueError, match="resume: expected a workflow with a checkpoint file"):
        make_workflow(small_model).fit_online(epochs=1, **TINY, resume=True)


def test_rare_checkpoints(small_model, tmp_path):
    """Written every third epoch, and at the end."""
    path = tmp_path / "run.npz"
    interrupt(make_workflow(small_model, path, checkpoint_every=3), after=2)
    assert not path.exists()
    workflow = make_workflow(small_model, path, checkpoint_every=3)
    workflow.fit_online(epochs=4, **TINY)
    optimizer = workflow.build_optimizer(4, 3, strategy="online")
    found = checkpoint.load_checkpoint(workflow.estimator, optimizer, path)
    assert found == (4, workflow.losses, 0, workflow.seed)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None], ids=repr)
def test_checkpoints_that_never_come(small_model, tmp_path, every):
    match = f"checkpoint_every: expected a positive integer, got {every!r}"
    with pytest.raises(ValueError, match=match):
        MixtureWorkflow(small_model, checkpoint=tmp_path / "file.npz", checkpoint_every=every)


@pytest.mark.parametrize("rate", ["1e-3", 0, -1.0, np.nan, None], ids=repr)
def test_learning_rates_that_are_none(small_model, rate):
    with pytest.raises(ValueError, match="initial_learning_rate: expected a positive number, got"):
        MixtureWorkflow(small_model, initial_learning_rate=rate)


def test_a_workflow_of_a_workflow(small_model):
    workflow = MixtureWorkflow(small_model)
    with pytest.raises(TypeError, match="model: expected a MixtureModel, got MixtureWorkflow"):
        MixtureWorkflow(workflow)
    with pytest.raises(TypeError, match="model: expected a MixtureModel, got MixtureWorkflow"):
        stan.sample(workflow, {"y": np.zeros(20)})


def test_interrupted_write_keeps_the_old_checkpoint(small_model, tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    workflow = make_workflow(small_model, path)
    workflow.fit_online(epochs=1, **TINY)
    before = path.read_bytes()

    def broken(file, **arrays):
        Path(file).write_bytes(before[: len(before) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="No space left"):
        workflow.fit_online(epochs=1, **TINY)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_holds_weights(small_model, tmp_path):
    """`load_weights` reads a checkpoint, and what `save_weights` wrote."""
    path = tmp_path / "run.npz"
    trained = make_workflow(small_model, path)
    trained.fit_online(epochs=1, **TINY)
    checkpoint.save_weights(trained.estimator, tmp_path / "weights.npz")
    for name in ("run.npz", "weights.npz"):
        fresh = make_workflow(small_model)
        assert not same_weights(fresh, trained)
        checkpoint.load_weights(fresh.estimator, tmp_path / name)
        assert same_weights(fresh, trained)


def corrupt(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        middle = len(content) // 3
        path.write_bytes(content[:middle] + b"\x00" * 64 + content[middle + 64 :])
    elif how == "text":
        path.write_text("weights")
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"weights": 1}))
    elif how == "array":
        np.save(path.with_suffix(".npy"), np.ones(3))
        path.with_suffix(".npy").replace(path)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "text", "pickle", "array"])
def test_corrupted_weights(workflow, tmp_path, how):
    path = tmp_path / "weights.npz"
    checkpoint.save_weights(workflow.estimator, path)
    corrupt(path, how)
    before = workflow.estimator.get_weights()
    with pytest.raises(
        ValueError, match=r"weights\.npz is corrupted and cannot be read as weights"
    ):
        checkpoint.load_weights(workflow.estimator, path)
    for a, b in zip(before, workflow.estimator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_weights(workflow, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No weights file at .*missing\.npz"):
        checkpoint.load_weights(workflow.estimator, tmp_path / "missing.npz")


@pytest.mark.parametrize("what", ["order", "constraint"])
def test_weights_for_other_parameters(tmp_path, what):
    """Weights have the same shapes, but the flow's numbers mean something else."""
    model = lognormal_model(num_obs=9)
    path = tmp_path / "file.npz"
    checkpoint.save_weights(MixtureWorkflow(model, seed=1).estimator, path)

    def reversed_prior(rng, batch_size):
        return dict(reversed(model.prior(rng, batch_size).items()))

    changed = {"order": {"prior": reversed_prior}, "constraint": {"constraints": {}}}[what]
    other = MixtureWorkflow(lognormal_model(num_obs=9, **changed), seed=2)
    before = other.estimator.get_weights()
    with pytest.raises(ValueError, match=r"file\.npz: expected weights for .*, got weights for "):
        checkpoint.load_weights(other.estimator, path)
    for a, b in zip(before, other.estimator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_another_architecture(workflow, small_model, tmp_path):
    other = MixtureWorkflow(small_model, emission_scorer=EmissionScorer(2, rank=3))
    checkpoint.save_weights(other.estimator, tmp_path / "shape.npz")
    other = MixtureWorkflow(
        small_model, emission_scorer=EmissionScorer(2, parameter_widths=(8, 8, 8))
    )
    checkpoint.save_weights(other.estimator, tmp_path / "number.npz")
    before = workflow.estimator.get_weights()
    with pytest.raises(ValueError, match=r"shape\.npz: expected weights/\d+ of shape \(.*got \("):
        checkpoint.load_weights(workflow.estimator, tmp_path / "shape.npz")
    with pytest.raises(ValueError, match=r"number\.npz: expected \d+ weights arrays for this arch"):
        checkpoint.load_weights(workflow.estimator, tmp_path / "number.npz")
    for a, b in zip(before, workflow.estimator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_are_no_checkpoint(small_model, tmp_path):
    workflow = make_workflow(small_model, tmp_path / "run.npz")
    checkpoint.save_weights(workflow.estimator, tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"run\.npz: expected \d+ \w+ arrays .* got 0"):
        workflow.fit_online(epochs=1, **TINY, resume=True)


# --- training as in BayesFlow -----------------------------------------------------------------


def test_fit_offline(small_model, rng):
    workflow = MixtureWorkflow(small_model, seed=1)
    simulated = small_model.simulate(64, rng=rng, num_obs=12, num_reps=2)
    history = workflow.fit_offline(
        simulated,
        epochs=3,
        batch_size=16,
        validation_data=small_model.simulate(16, rng=rng, num_obs=14, num_reps=3),
        verbose=0,
    ).history
    assert set(history) == LOSSES | {f"val_{name}" for name in LOSSES}
    assert history["loss"][-1] < history["loss"][0]
    assert np.all(np.isfinite(history["val_loss"]))


def test_fit_disk(small_model, rng, tmp_path):
    simulated = small_model.simulate(12, rng=rng, num_obs=12, num_reps=2)
    for i in range(12):
        sample = {name: value[i] for name, value in simulated.items()}
        (tmp_path / f"{i}.pkl").write_bytes(pickle.dumps(sample))
    workflow = MixtureWorkflow(small_model, seed=1)
    history = workflow.fit_disk(tmp_path, epochs=2, batch_size=4, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


def test_options_of_fit_online(small_model):
    """Validation data by number, augmentations, callbacks and a user's optimizer."""
    workflow = MixtureWorkflow(small_model, seed=1, optimizer=keras.optimizers.SGD(1e-3))
    seen = []

    def shift(batch):
        seen.append(batch["y"].shape)
        return batch | {"y": batch["y"] + 1.0}

    class Count(keras.callbacks.Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1

    count = Count()
    history = workflow.fit_online(
        epochs=2,
        **TINY,
        validation_data=8,
        augmentations=shift,
        callbacks=[count],
        keep_optimizer=True,
    )
    assert {f"val_{name}" for name in LOSSES} < set(history.history)
    assert seen
    assert count.batches == 6
    assert isinstance(workflow.optimizer, keras.optimizers.SGD)
    workflow.fit_online(epochs=1, **TINY)  # and training may go on


def test_every_part_can_be_passed_in(small_model):
    encoder = ObservationEncoder(replicates=True, width=3)
    parts = {
        "summary_network": SetSummary(encoder, summary_dim=5),
        "inference_network": bf.networks.CouplingFlow(depth=2),
        "emission_scorer": EmissionScorer(2, rank=3),
    }
    workflow = MixtureWorkflow(small_model, **parts, num_scored=None)
    for name, part in parts.items():
        assert getattr(workflow.estimator, name) is part
    assert workflow.estimator.encoder is encoder
    assert MixtureWorkflow(small_model, encoder=encoder).estimator.encoder is encoder
    with pytest.raises(ValueError, match="encoder: leave it out, the summary_network holds"):
        MixtureWorkflow(small_model, encoder=encoder, summary_network=parts["summary_network"])
    with pytest.raises(ValueError, match=r"emission_scorer: expected num_components=2 .*got 3"):
        MixtureWorkflow(small_model, emission_scorer=EmissionScorer(3))


@pytest.mark.parametrize("model", ["gaussian", "own"])
def test_default_diagnostics(workflow, model):
    if model == "own":
        workflow = MixtureWorkflow(lognormal_model(), seed=1)
        workflow.fit_online(epochs=2, **TINY)
    table = workflow.compute_default_diagnostics(40, num_samples=30)
    expected = {
        "gaussian": ["weights_0", "weights_1", "means_0", "means_1"],
        "own": ["locations_0", "locations_1", "sigma", "shift"],
    }
    assert list(table.columns) == expected[model]
    assert np.all(np.isfinite(table))
    figures = workflow.plot_default_diagnostics(40, num_samples=30)
    assert {"losses", "recovery", "calibration_ecdf"} < set(figures)
    plt.close("all")


def test_bayesflow_diagnostics_take_a_posterior(workflow, simulated):
    posterior = workflow.sample(conditions=simulated, num_samples=50, seed=1)
    metric = bf.diagnostics.metrics.root_mean_squared_error(posterior.parameters, simulated)
    assert np.shape(metric["values"]) == (4,)


# --- sampling ---------------------------------------------------------------------------------


def test_sample(workflow, simulated):
    posterior = workflow.sample(conditions=simulated, num_samples=40, seed=1)
    assert isinstance(posterior, MixturePosterior)
    assert (posterior.num_datasets, posterior.num_samples) == (5, 40) == (len(posterior), 40)
    assert {name: x.shape for name, x in posterior.parameters.items()} == {
        "weights": (5, 40, 2),
        "means": (5, 40, 2),
    }
    assert posterior.membership.shape == (5, 40, 12, 2)
    assert posterior.log_prob.shape == (5, 40)
    assert set(posterior.data) == {"y"}
    np.testing.assert_allclose(posterior.parameters["weights"].sum(axis=-1), 1.0)
    assert np.all(np.diff(posterior.parameters["means"], axis=-1) > 0)
    np.testing.assert_allclose(posterior.membership.sum(axis=-1), 1.0, rtol=1e-5)
    for name, x in workflow.model.constrain(posterior.unconstrained).items():
        np.testing.assert_array_equal(posterior.parameters[name], x)


def test_sample_is_repeatable(workflow, simulated):
    first, second, other, free = (
        workflow.sample(conditions=simulated, num_samples=10, seed=seed).unconstrained
        for seed in (1, np.int64(1), 2, None)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.any(first == other)
    assert not np.any(first == free)


def test_one_data_set_equals_a_batch_of_one(workflow, simulated):
    y = simulated["y"]
    alone = workflow.sample(conditions={"y": y[0]}, num_samples=20, seed=1)
    batch = workflow.sample(conditions={"y": y[:1]}, num_samples=20, seed=1)
    np.testing.assert_array_equal(alone.unconstrained, batch.unconstrained)
    np.testing.assert_array_equal(alone.membership, batch.membership)
    assert alone.num_datasets == 1


def test_many_data_sets_with_one_draw_go_in_parts(workflow, simulated, monkeypatch):
    """Their observations are what fills memory; the answers do not depend on the parts."""
    truth = true_parameters(workflow, simulated)
    u = workflow.model.unconstrain(truth)
    functions = (
        lambda: workflow.membership(simulated, truth),
        lambda: workflow.log_prob_unconstrained(simulated, u),
    )
    together = [function() for function in functions]
    sizes, encode = [], type(workflow.estimator.encoder).call

    def count(layer, x, **kwargs):
        sizes.append(len(x))
        return encode(layer, x, **kwargs)

    monkeypatch.setattr("abmtools.inference.workflow.OBSERVATIONS_AT_ONCE", 24)  # two data sets
    monkeypatch.setattr(type(workflow.estimator.encoder), "call", count)
    for function, expected in zip(functions, together, strict=True):
        np.testing.assert_allclose(function(), expected, rtol=1e-4, atol=1e-5)
    assert sorted(sizes) == [1, 1, 2, 2, 2, 2]


def test_batches_of_data_sets(workflow, simulated):
    """Draws use one random stream after the other, so only their distribution is the same.

    What is computed from the draws does not depend on the batches at all.
    """
    together = workflow.sample(conditions=simulated, num_samples=2000, seed=1)
    apart = workflow.sample(conditions=simulated, num_samples=2000, seed=1, batch_size=2)
    np.testing.assert_array_equal(together.unconstrained[:2].shape, apart.unconstrained[:2].shape)
    difference = (together.unconstrained - apart.unconstrained).mean(axis=1)
    spread = together.unconstrained.std(axis=1)
    assert np.all(np.abs(difference) < 5 * spread * np.sqrt(2 / 2000))
    for b in range(5):
        one = {"y": simulated["y"][b]}
        parameters = {name: x[b : b + 1] for name, x in together.parameters.items()}
        np.testing.assert_allclose(
            workflow.membership(one, parameters), together.membership[b : b + 1], atol=1e-5
        )
        np.testing.assert_allclose(
            workflow.log_prob_unconstrained(one, together.unconstrained[b : b + 1]),
            together.log_prob[b : b + 1],
            rtol=1e-3, atol=1e-3,
        )  # fmt: skip


def test_membership_by_hand(workflow, simulated):
    """Softmax of the log weights plus the network's scores, draw by draw."""
    posterior = workflow.sample(conditions=simulated, num_samples=4, seed=1)
    observations = workflow.adapter({"y": simulated["y"]}, strict=False)["summary_variables"]
    for s in range(4):
        u = keras.ops.convert_to_tensor(posterior.unconstrained[:, s].astype("float32"))
        scores = workflow.estimator.scores(observations, u, workflow.model.constrain(u))
        log_weights = np.log(posterior.parameters["weights"][:, s])
        expected = softmax(log_weights[:, None] + to_numpy(scores), axis=-1)
        np.testing.assert_allclose(posterior.membership[:, s], expected, atol=1e-5)


def test_log_prob_is_that_of_bayesflow(workflow, simulated):
    """BayesFlow's is a density of theta: log q(theta) = log q(u) + log |du/dtheta|."""
    model = workflow.model
    parameters = {name: simulated[name] for name in model.parameter_names}
    u = model.unconstrain(parameters)
    expected = workflow.estimator.log_prob(simulated) - model.log_det_jacobian(parameters)
    got = workflow.log_prob_unconstrained(simulated, u[:, None])[:, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_draws_are_those_of_bayesflow(workflow, simulated):
    draws = workflow.estimator.sample(conditions=simulated, num_samples=20, seed=4)
    posterior = workflow.sample(conditions=simulated, num_samples=20, seed=4)
    assert set(draws) == set(posterior.parameters)
    for name, x in draws.items():
        np.testing.assert_allclose(x, posterior.parameters[name], rtol=1e-4, atol=1e-5)


def test_density_integrates_to_one_and_fits_the_draws():
    """Two unconstrained coordinates, so that a grid will do."""

    def prior(rng, batch_size):
        return {"shift": rng.normal(size=batch_size), "scale": rng.gamma(3.0, 0.3, batch_size)}

    def emission(rng, parameters, z):
        centre = parameters["shift"][:, None] + 3.0 * z
        return {"y": centre + parameters["scale"][:, None] * rng.normal(size=z.shape)}

    model = MixtureModel(
        prior=prior,
        structure=Independent([0.4, 0.6]),
        emission=emission,
        constraints={"scale": positive},
        num_obs=5,
    )
    workflow = MixtureWorkflow(model, seed=1)
    workflow.fit_online(epochs=1, num_batches_per_epoch=20, batch_size=16, verbose=0)
    data = {"y": model.simulate(1, rng=np.random.default_rng(2))["y"]}
    axis = np.linspace(-9, 9, 241)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(1, -1, 2)
    density = np.exp(workflow.log_prob_unconstrained(data, u))[0]
    area = (axis[1] - axis[0]) ** 2
    assert density.sum() * area == pytest.approx(1.0, abs=5e-3)
    draws = workflow.sample(conditions=data, num_samples=10_000, seed=1).unconstrained[0]
    mean = (density[:, None] * u[0]).sum(axis=0) * area
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.05)


def test_masks_equal_dropping(workflow, simulated, rng):
    """Masked observations and replicates, NaN or anything, leave the posterior as it is."""
    y = simulated["y"]
    reference = workflow.sample(conditions={"y": y}, num_samples=30, seed=1)
    padded = np.full((5, 16, 3), np.nan)
    order = rng.permutation(16)[:12]
    padded[:, order, :2] = y
    padded[:, :, 2] = 1e5
    data = {
        "y": padded,
        "mask": np.tile(np.isin(np.arange(16), order), (5, 1)),
        "replicate_mask": np.tile(np.arange(3) < 2, (5, 16, 1)),
    }
    posterior = workflow.sample(conditions=data, num_samples=30, seed=1)
    np.testing.assert_allclose(
        posterior.unconstrained, reference.unconstrained, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(posterior.membership[:, :, order], reference.membership, atol=1e-3)
    masked = np.setdiff1d(np.arange(16), order)
    prior = posterior.parameters["weights"][:, :, None]
    np.testing.assert_allclose(
        posterior.membership[:, :, masked], np.repeat(prior, 4, axis=2), atol=1e-5
    )
    np.testing.assert_allclose(posterior.log_prob, reference.log_prob, rtol=1e-2, atol=1e-2)


# pytest.warns repeats what else was warned of, without the module that pyproject.toml goes by
keras_arrays = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZES = {
    "few": ((3, 7, 2), r"trained on 8 to 16 observations, these data have 7 to 7"),
    "many": ((3, 40, 2), r"trained on 8 to 16 observations, these data have 40 to 40"),
    "replicates": ((3, 10, 5), r"trained on 1 to 3 replicates, these data have 5 to 5"),
}


@keras_arrays
@pytest.mark.parametrize(("shape", "match"), SIZES.values(), ids=SIZES)
def test_extrapolation_warning(workflow, shape, match):
    with pytest.warns(ExtrapolationWarning, match=f"GaussianMixture: the networks were {match}"):
        workflow.sample(conditions={"y": np.zeros(shape)}, num_samples=2)


@keras_arrays
def test_extrapolation_counts_what_is_observed(workflow):
    y, mask = np.zeros((2, 40, 6)), np.zeros((2, 40), dtype=bool)
    mask[:, ::3] = True
    replicate_mask = np.tile(np.arange(6) < 3, (2, 40, 1))
    data = {"y": y, "mask": mask, "replicate_mask": replicate_mask}
    workflow.sample(conditions=data, num_samples=2)  # 14 observations, 3 replicates: no warning
    mask[1, 5:] = False
    with pytest.warns(ExtrapolationWarning, match="these data have 2 to 14"):
        workflow.sample(conditions=data, num_samples=2)


BAD_CONDITIONS = {
    "NaN": ({"conditions": {"y": np.full((12, 2), np.nan)}}, ValueError, "got nan at index"),
    "rank": ({"conditions": {"y": np.zeros(12)}}, ValueError, r"expected shape \(B, N, R\)"),
    "key": ({"conditions": {"x": np.zeros((12, 2))}}, ValueError, "expected the key 'y'"),
    "array": ({"conditions": np.zeros((12, 2))}, TypeError, "expected a dictionary with key 'y'"),
    "all masked": (
        {"conditions": {"y": np.zeros((12, 2)), "mask": np.zeros(12)}},
        ValueError,
        "every observation is masked",
    ),
    "no draws": ({"num_samples": 0}, ValueError, "num_samples: expected a positive integer, got 0"),
    "fraction": ({"num_samples": 2.5}, ValueError, "num_samples: .*got 2.5"),
    "batches": ({"batch_size": 0}, ValueError, "batch_size: expected a positive integer, got 0"),
}


@pytest.mark.parametrize(("change", "error", "match"), BAD_CONDITIONS.values(), ids=BAD_CONDITIONS)
def test_bad_conditions(workflow, change, error, match):
    arguments = {"conditions": {"y": np.zeros((12, 2))}, "num_samples": 3} | change
    with pytest.raises(error, match=match):
        workflow.sample(**arguments)


@pytest.mark.parametrize("shape", [(5, 3), (4, 10, 3), (5, 10, 4), (5, 2, 10, 3)], ids=str)
def test_bad_draws_for_log_prob(workflow, simulated, shape):
    with pytest.raises(ValueError, match=r"u: expected shape \(5, S, 3\), got \("):
        workflow.log_prob_unconstrained(simulated, np.zeros(shape))


BAD_LEADING_AXES = {
    "no axis of draws": lambda x: x[:, 0],
    "too few data sets": lambda x: x[:3],
    "data sets for draws": lambda x: np.swapaxes(x, 0, 1),
    "no draws": lambda x: x[:, :0],
    "one axis more": lambda x: x[None],
}


@pytest.mark.parametrize("change", BAD_LEADING_AXES.values(), ids=BAD_LEADING_AXES)
@pytest.mark.parametrize("what", ["membership", "scores"])
def test_parameters_of_other_data_sets(workflow, simulated, what, change):
    parameters = true_parameters(workflow, simulated)
    assert getattr(workflow, what)(simulated, parameters).shape == (5, 1, 12, 2)
    bad = {name: change(x) for name, x in parameters.items()}
    with pytest.raises(ValueError, match=r"parameters: expected leading axes \(B, S\) = \(5, S\)"):
        getattr(workflow, what)(simulated, bad)


def test_parameters_of_other_sequences_and_with_a_bound():
    """Filtering checks, too, and a bound that depends on the data does not get in its way."""
    workflow = load_pretrained("evidence_hmm")
    simulated = workflow.model.simulate(3, rng=np.random.default_rng(1), num_obs=100)
    parameters = true_parameters(workflow, simulated)
    assert workflow.filtering(simulated, parameters).shape == (3, 1, 100, 2)
    for rows in ([0, 1], [0, 1, 2, 0]):
        bad = {name: x[rows] for name, x in parameters.items()}
        for method in (workflow.filtering, workflow.membership, workflow.scores):
            with pytest.raises(ValueError, match=r"parameters: .* \(3, S\), got \([24], 1\)"):
                method(simulated, bad)


def test_what_bayesflow_has_under_another_name(workflow, posterior):
    with pytest.raises(AttributeError, match=r"estimate: .*mean\(\), std\(\) or quantile"):
        workflow.estimate(conditions=posterior.data)
    assert workflow.samples_to_data_frame(posterior).equals(posterior.to_pandas())


# --- the posterior ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def posterior(workflow, simulated):
    return workflow.sample(conditions=simulated, num_samples=60, seed=2)


def test_indexing(posterior):
    assert posterior[1].num_datasets == 1
    np.testing.assert_array_equal(posterior[-1].unconstrained, posterior.unconstrained[4:])
    np.testing.assert_array_equal(posterior[1:3].membership, posterior.membership[1:3])
    np.testing.assert_array_equal(posterior[np.int64(2)].data["y"], posterior.data["y"][2:3])
    np.testing.assert_allclose(posterior[3].log_prob, posterior.log_prob[3:4], rtol=1e-3, atol=1e-3)
    with pytest.raises(IndexError, match="dataset 5 is out of range for 5 data sets"):
        posterior[5]
    chosen = posterior[[3, 0]]
    np.testing.assert_array_equal(chosen.unconstrained, posterior.unconstrained[[3, 0]])
    kept = posterior[np.arange(5) > 2]
    np.testing.assert_array_equal(kept.data["y"], posterior.data["y"][3:])
    for index in (np.s_[:, :2], np.s_[0, 1], None, True, 1.0, "y", [[0]], [0.5]):
        with pytest.raises(TypeError, match="index: expected an integer, a slice, or a list"):
            posterior[index]
    assert len(list(posterior)) == 5
    assert repr(posterior) == (
        "MixturePosterior(GaussianMixture, num_datasets=5, num_samples=60, "
        "parameters=['weights', 'means'])"
    )


def test_resample(posterior, rng):
    indices = rng.integers(60, size=(5, 9))
    fewer = posterior.resample(indices)
    for b in range(5):
        np.testing.assert_array_equal(
            fewer.parameters["means"][b], posterior.parameters["means"][b, indices[b]]
        )
        np.testing.assert_array_equal(fewer.membership[b], posterior.membership[b, indices[b]])
    with pytest.raises(ValueError, match="log_prob: these draws come without the network"):
        _ = fewer.log_prob


def test_draw_indicators(workflow, simulated):
    posterior = workflow.sample(conditions={"y": simulated["y"][0]}, num_samples=4000, seed=1)
    z = posterior.draw_indicators(seed=1)
    assert z.shape == (1, 4000, 12)
    assert z.dtype.kind == "i"
    np.testing.assert_array_equal(z, posterior.draw_indicators(seed=1))
    expected = posterior.membership.mean(axis=1)[0].astype("float64")
    for i in range(12):
        counts = np.bincount(z[0, :, i], minlength=2)
        probabilities = expected[i] / expected[i].sum()
        assert chisquare(counts, 4000 * probabilities).pvalue > 1e-4


def test_arviz_dimensions(posterior):
    tree = posterior.to_arviz()
    assert set(tree.children) == {"posterior", "observed_data"}
    dims = {name: variable.dims for name, variable in tree["posterior"].data_vars.items()}
    assert dims == {
        "weights": ("chain", "draw", "dataset", "component"),
        "means": ("chain", "draw", "dataset", "component"),
        "membership": ("chain", "draw", "dataset", "obs", "component"),
    }
    assert dict(tree["posterior"].sizes) == {
        "chain": 1, "draw": 60, "dataset": 5, "component": 2, "obs": 12
    }  # fmt: skip
    np.testing.assert_array_equal(tree["posterior"]["component"], [0, 1])
    np.testing.assert_array_equal(tree["posterior"]["obs"], np.arange(12))
    assert tree["observed_data"]["y"].dims == ("dataset", "obs", "replicate")
    chosen = tree["posterior"]["means"].sel(chain=0, draw=7, dataset=3)
    np.testing.assert_array_equal(chosen, posterior.parameters["means"][3, 7])
    chosen = tree["posterior"]["membership"].sel(chain=0, draw=7, dataset=3, obs=4)
    np.testing.assert_array_equal(chosen, posterior.membership[3, 7, 4])
    assert tree["posterior"].attrs["inference_library"] == "abmtools"


def test_what_is_missing_leaves_as_nan(workflow, posterior):
    mask = np.ones((5, 12), dtype=bool)
    mask[:, 9:] = False
    y = posterior.data["y"]
    found = workflow.sample(conditions={"y": y, "mask": mask}, num_samples=10, seed=1)
    observed = found.to_arviz()["observed_data"]["y"].values
    np.testing.assert_array_equal(np.isnan(observed), ~np.broadcast_to(mask[..., None], y.shape))
    np.testing.assert_array_equal(observed[:, :9], y[:, :9])


def test_arviz_of_one_data_set(posterior):
    tree = posterior[2].to_arviz()
    assert tree["posterior"]["membership"].dims == ("chain", "draw", "obs", "component")
    assert tree["observed_data"]["y"].dims == ("obs", "replicate")
    np.testing.assert_array_equal(tree["observed_data"]["y"], posterior.data["y"][2])
    summary = az.summary(tree, var_names=["weights", "means"])
    assert list(summary.index) == ["weights[0]", "weights[1]", "means[0]", "means[1]"]
    by_hand = posterior.parameters["means"][2].mean(axis=0)
    np.testing.assert_allclose(summary["mean"].astype(float)[2:], by_hand, atol=0.06)


@pytest.mark.parametrize("name", ["gaussian_mixture", "gaussian_hmm"])
def test_names_beside_the_parameters_are_reserved(name):
    workflow = load_pretrained(name)
    sizes = {"num_obs": workflow.model.num_obs[0], "num_reps": 3}
    data = workflow.model.simulate(2, rng=np.random.default_rng(1), **sizes)
    posterior = workflow.sample(conditions={"y": data["y"], "mask": data["z"] >= 0}, num_samples=4)
    tree = replace(posterior, log_weights=np.full((2, 4), np.log(0.25))).to_arviz()
    groups = [group.to_dataset() for group in tree.children.values()]
    names = {str(name) for group in groups for name in (*group.variables, *group.dims)}
    assert set(workflow.model.parameter_names) < names
    assert names - set(workflow.model.parameter_names) <= RESERVED
    assert set(INDICATOR_DIMS) | set(PackObservations.NAMES.values()) <= RESERVED


def test_pandas_table(posterior):
    table = posterior.to_pandas()
    assert list(table) == ["weights[0]", "weights[1]", "means[0]", "means[1]"]
    assert table.index.names == ["dataset", "draw"]
    np.testing.assert_array_equal(table.loc[3, "means[1]"], posterior.parameters["means"][3, :, 1])
    assert len(table) == 5 * 60


def test_pandas_table_of_scalars_and_weights():
    workflow = MixtureWorkflow(lognormal_model(), seed=1)
    posterior = workflow.sample(conditions=workflow.simulate(2), num_samples=30, seed=1)
    weighted = diagnostics.importance(posterior).correct(posterior)
    table = weighted.to_pandas()
    for name, shape in workflow.model.parameter_shapes.items():
        assert (name in table) == (shape == ())
    np.testing.assert_allclose(table["weight"].groupby("dataset").sum(), 1)


def test_netcdf_round_trip(posterior, tmp_path):
    tree = posterior.to_arviz()
    tree.to_netcdf(tmp_path / "posterior.nc")
    with xr.open_datatree(tmp_path / "posterior.nc") as loaded:
        for group in ("posterior", "observed_data"):
            xr.testing.assert_equal(loaded[group].to_dataset(), tree[group].to_dataset())
        assert loaded["posterior"]["membership"].dims == tree["posterior"]["membership"].dims


def test_masks_are_observed_data(workflow, tmp_path):
    mask = np.arange(12) > 2
    data = {"y": np.zeros((12, 2)), "mask": mask, "replicate_mask": np.ones((12, 2))}
    tree = workflow.sample(conditions=data, num_samples=3, seed=1).to_arviz()
    np.testing.assert_array_equal(tree["observed_data"]["mask"], mask)
    assert tree["observed_data"]["mask"].dims == ("obs",)
    assert tree["observed_data"]["replicate_mask"].dims == ("obs", "replicate")
    tree.to_netcdf(tmp_path / "posterior.nc")


# --- a model of one's own, end to end ---------------------------------------------------------


def test_own_model_end_to_end(rng):
    model = lognormal_model()
    workflow = MixtureWorkflow(model, seed=1)
    history = workflow.fit_online(epochs=3, num_batches_per_epoch=15, batch_size=16, verbose=0)
    assert history.history["posterior_loss"][-1] < history.history["posterior_loss"][0]
    data = model.simulate(4, rng=rng, num_obs=15)
    posterior = workflow.sample(conditions=data, num_samples=25, seed=1)
    shapes = {name: x.shape for name, x in posterior.parameters.items()}
    assert shapes == {"locations": (4, 25, 2), "sigma": (4, 25), "shift": (4, 25)}
    assert np.all(posterior.parameters["sigma"] > 0)
    shift = posterior.parameters["shift"]
    assert np.all((shift > 0) & (shift < 0.5))
    assert posterior.membership.shape == (4, 25, 15, 2)
    u = model.unconstrain({name: data[name] for name in model.parameter_names})
    got = workflow.log_prob_unconstrained(data, u[:, None])[:, 0]
    jacobian = model.log_det_jacobian({name: data[name] for name in model.parameter_names})
    np.testing.assert_allclose(got, workflow.estimator.log_prob(data) - jacobian, rtol=1e-3)
    draws = workflow.estimator.sample(conditions=data, num_samples=25, seed=1)
    np.testing.assert_allclose(draws["sigma"], posterior.parameters["sigma"], rtol=1e-4)
    tree = posterior.to_arviz()
    assert tree["posterior"]["sigma"].dims == ("chain", "draw", "dataset")
    assert tree["posterior"]["locations"].dims == ("chain", "draw", "dataset", "component")
    assert tree["observed_data"]["y"].dims == ("dataset", "obs")
    one = workflow.sample(conditions={"y": data["y"][0]}, num_samples=5)
    assert list(az.summary(one.to_arviz(), var_names=["sigma"]).index) == ["sigma"]


def test_emission_with_missing_data(rng):
    """A simulator may return data sets of different lengths, padded with NaN under a mask."""

    def emission(rng, parameters, z):
        y = lognormal_model().emission(rng, parameters, z)["y"]
        length = rng.integers(2, z.shape[1] + 1, size=len(z))
        mask = np.arange(z.shape[1]) < length[:, None]
        return {"y": np.where(mask, y, np.nan), "mask": mask}

    model = lognormal_model(emission=emission)
    workflow = MixtureWorkflow(model, num_scored=4, seed=1)
    history = workflow.fit_online(epochs=2, **TINY, validation_data=8).history
    assert all(np.all(np.isfinite(values)) for values in history.values())
    assert np.all(np.isfinite(workflow.estimator.get_weights()[0]))
    data = model.simulate(3, rng=rng, num_obs=20)
    data["mask"][:, :10] = True
    data["y"] = np.where(data["mask"], np.nan_to_num(data["y"], nan=1.0), np.nan)
    posterior = workflow.sample(conditions=data, num_samples=5, seed=1)
    assert np.all(np.isfinite(posterior.unconstrained))


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("num_reps", [None, (1, 3)])
def test_shapes_of_observations(features, num_reps):
    """(N), (N, D), (N, R) and (N, R, D) all train and sample."""

    def prior(rng, batch_size):
        return {"centre": rng.normal(size=(batch_size, features))}

    def emission(rng, parameters, z, *size):
        mean = parameters["centre"][:, None] * (2 * z[..., None] - 1)
        mean = mean[:, :, None] if size else mean
        y = rng.normal(mean, 1.0, (*z.shape, *size, features))
        return {"y": y[..., 0] if features == 1 else y}

    with_reps = lambda rng, parameters, z, num_reps: emission(rng, parameters, z, num_reps)  # noqa: E731
    model = MixtureModel(
        prior=prior,
        structure=Independent([0.3, 0.3, 0.4]) if features == 1 else Independent([0.4, 0.6]),
        emission=with_reps if num_reps else lambda rng, parameters, z: emission(rng, parameters, z),
        num_obs=6,
        num_reps=num_reps,
    )
    workflow = MixtureWorkflow(model, seed=1)
    workflow.fit_online(epochs=1, **TINY)
    data = model.simulate(2, rng=np.random.default_rng(1))
    posterior = workflow.sample(conditions=data, num_samples=3)
    assert posterior.parameters["centre"].shape == (2, 3, features)
    assert posterior.membership.shape == (2, 3, 6, model.num_components)
    dims = posterior.to_arviz()["observed_data"]["y"].dims
    expected = ["dataset", "obs"] + ["replicate"] * bool(num_reps) + ["feature"] * (features > 1)
    assert list(dims) == expected


def test_components_are_as_many_as_asked(rng):
    model = GaussianMixture(5, num_obs=10, num_reps=1)
    workflow = MixtureWorkflow(model, seed=1)
    posterior = workflow.sample(conditions=workflow.simulate(2), num_samples=3)
    assert posterior.membership.shape == (2, 3, 10, 5)


def test_draws_that_blow_up_are_drawn_again(workflow, simulated, monkeypatch):
    """A flow's rare draws far outside the prior are replaced, and only these."""
    estimator = workflow.estimator
    data = workflow.model.check_data(simulated)
    sample = type(estimator.sampler).sample
    spoiled = [(0, 3), (0, 7), (2, 0)]

    def blow_up(self, *args, num_samples, **kwargs):
        draws = to_numpy(sample(self, *args, num_samples=num_samples, **kwargs)).copy()
        if num_samples == 30:
            for row, where in spoiled:
                draws[row, where] = [1e20, np.nan, np.inf][where % 3]
        return keras.ops.convert_to_tensor(draws)

    expected = workflow.sample(conditions=data, num_samples=30, seed=1).unconstrained
    monkeypatch.setattr(type(estimator.sampler), "sample", blow_up)
    got = workflow.sample(conditions=data, num_samples=30, seed=1)
    same = np.ones((5, 30), dtype=bool)
    same[tuple(np.transpose(spoiled))] = False
    np.testing.assert_array_equal(got.unconstrained[same], expected[same])
    assert np.all(np.isfinite(got.unconstrained))
    assert np.all(np.isfinite(got.membership))


def test_draws_that_stay_far_out_are_refused(workflow, simulated, monkeypatch):
    def explode(self, *args, num_samples, conditions, **kwargs):
        return keras.ops.full((len(conditions), num_samples, 3), 1e6)

    monkeypatch.setattr(type(workflow.estimator.sampler), "sample", explode)
    with pytest.raises(ValueError, match="sample: draws for 5 of 5 data sets are more than 20"):
        workflow.sample(conditions=workflow.model.check_data(simulated), num_samples=4)
