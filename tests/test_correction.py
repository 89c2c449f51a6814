"""Correction: nothing while untrained, a density always, nearer to the posterior once trained."""

import pickle

import keras
import numpy as np
import pytest
from conftest import to_numpy
from scipy.special import logsumexp

import abmtools as abm
from abmtools.heterogeneity import fit_correction, heterogeneous_data
from abmtools.inference import load_weights, save_weights
from abmtools.inference.pretrained import ARCHITECTURES
from abmtools.networks import LikelihoodCorrection


def make_corrected():
    """The networks of the second case study, with a correction that is untrained."""
    keras.utils.set_random_seed(1)
    workflow = ARCHITECTURES["gaussian_hmm"](correction=LikelihoodCorrection(), seed=1)
    shipped = abm.load_pretrained("gaussian_hmm").weights
    for own, weight in zip(workflow.weights[: len(shipped)], shipped, strict=True):
        own.assign(weight)
    return workflow


def disturb(workflow, size, seed=1):
    """Random last layer of the correction."""
    rng = np.random.default_rng(seed)
    for variable in workflow.estimator.correction.projector.weights:
        variable.assign(size * rng.normal(size=variable.shape))


@pytest.fixture(scope="module")
def shipped():
    return abm.load_pretrained("gaussian_hmm")


@pytest.fixture(scope="module")
def simulated(shipped):
    return {"y": shipped.simulate(4)["y"]}


# --- probes -----------------------------------------------------------------------------------


def test_points_are_the_origin_and_two_on_each_axis():
    points = LikelihoodCorrection.points(3)
    assert points.shape == (7, 3)
    np.testing.assert_array_equal(np.count_nonzero(points, axis=1), [0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(points.mean(axis=0), 0)


def test_probes_of_an_exact_network_are_zero_whatever_the_evidence():
    log_ratio = np.repeat([[-3.0], [1e5]], 7, axis=1)
    np.testing.assert_array_equal(LikelihoodCorrection.probes(log_ratio), np.zeros((2, 6)))


def test_probes_have_the_sign_and_the_order_of_differences():
    log_ratio = np.array([[0.0, 0.1, 2.0, -0.1, -2.0]])
    probes = LikelihoodCorrection.probes(log_ratio)[0]
    assert probes[1] > probes[0] > 0 > probes[2] > probes[3]
    np.testing.assert_allclose(probes[:2], -probes[2:])


@pytest.mark.parametrize("impossible", [[1], [0], [0, 1, 2, 3, 4]])
def test_probes_are_finite_where_points_are_impossible(impossible):
    log_ratio = np.zeros((1, 5))
    log_ratio[:, impossible] = -np.inf
    probes = LikelihoodCorrection.probes(log_ratio)
    assert np.isfinite(probes).all()
    assert np.abs(probes).max() < 5


def test_probes_tell_how_far_a_flow_is_off(simulated):
    """Moved along an axis of its base space, it has more of the posterior on the other side."""
    workflow = make_corrected()
    estimator, data = workflow.estimator, workflow.model.check_data(simulated)
    summary = estimator._summarize(estimator.adapter(data, strict=False))
    before = estimator.probe(data, summary)
    from_base = estimator._from_base
    density = estimator.inference_network.base_distribution.log_prob

    def from_moved(summary, base, **kwargs):
        moved = base + keras.ops.convert_to_tensor(np.eye(4, dtype="float32")[0])
        draws, log_q = from_base(summary, moved, **kwargs)
        return draws, log_q + density(base) - density(moved)

    estimator._from_base = from_moved
    after = estimator.probe(data, summary)
    upper, lower = (after - before)[:, 0], (after - before)[:, 4]
    assert (upper < -0.3).all()
    assert (lower > 0.3).all()


# --- densities ----------------------------------------------------------------------------------


def test_an_untrained_correction_changes_nothing(shipped, simulated):
    found, expected = (
        x.sample(conditions=simulated, num_samples=50, seed=1) for x in (make_corrected(), shipped)
    )
    np.testing.assert_allclose(found.unconstrained, expected.unconstrained, atol=1e-5)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, atol=1e-4)


def test_density_is_that_of_the_draws(shipped, simulated):
    """Weighted by it, draws integrate another density to one."""
    workflow = make_corrected()
    disturb(workflow, 0.03)
    posterior = workflow.sample(conditions=simulated, num_samples=20_000, seed=1)
    other = shipped.log_prob_unconstrained(simulated, posterior.unconstrained)
    assert np.abs(other - posterior.log_prob).mean() > 0.05
    ratio = other - posterior.log_prob
    np.testing.assert_allclose(logsumexp(ratio, axis=1) - np.log(20_000), 0, atol=0.05)


def test_shift_and_scale_move_the_draws(simulated):
    workflow = make_corrected()
    estimator, data = workflow.estimator, workflow.model.check_data(simulated)
    disturb(workflow, 0.05)
    summary, shift, log_scale = estimator._known(data)
    u = workflow.sample(conditions=simulated, num_samples=5_000, seed=1).unconstrained
    base = to_numpy(estimator.to_base(summary, keras.ops.convert_to_tensor(u.astype("float32")))[0])
    np.testing.assert_allclose(np.median(base, axis=1), to_numpy(shift), atol=0.1)
    spread = np.diff(np.quantile(base, [0.25, 0.75], axis=1), axis=0)[0] / 1.349
    np.testing.assert_allclose(np.log(spread), to_numpy(log_scale), atol=0.12)


# --- training -----------------------------------------------------------------------------------


def test_training_brings_a_network_near_the_posterior(shipped):
    """One that its correction has led astray: nearer than before, and than without a correction."""
    workflow = make_corrected()
    correction = workflow.estimator.correction
    own = {id(variable) for variable in correction.weights}
    others = [variable for variable in workflow.weights if id(variable) not in own]
    kept = [to_numpy(variable.value) for variable in others]
    data, fresh = (heterogeneous_data(shipped, n, seed=n, block_size=32) for n in (512, 256))
    disturb(workflow, 0.1)
    before = fresh.inconsistency(workflow).mean()
    losses = fit_correction(workflow, data, epochs=20, batch_size=32, seed=1)["loss"]
    assert losses[-1] < losses[0]
    after = fresh.inconsistency(workflow).mean()
    assert after < 0.9 * fresh.inconsistency(shipped).mean() < before
    assert all((to_numpy(x.value) == y).all() for x, y in zip(others, kept, strict=True))
    assert not correction.trainable


def test_the_same_seed_is_the_same_training():
    found = []
    for seed in (1, 1, 2):
        workflow = make_corrected()
        data = heterogeneous_data(workflow, 32, seed=1, block_size=16)
        found.append(fit_correction(workflow, data, epochs=2, batch_size=8, seed=seed)["loss"])
    assert found[0] == found[1] != found[2]


def test_other_training_leaves_the_correction_alone():
    workflow = make_corrected()
    disturb(workflow, 0.05)
    before = [to_numpy(x.value) for x in workflow.estimator.correction.weights]
    workflow.fit_online(1, 2, 4, verbose=0)
    after = [to_numpy(x.value) for x in workflow.estimator.correction.weights]
    assert all((x == y).all() for x, y in zip(before, after, strict=True))


def test_weights_and_pickles_have_the_correction(tmp_path, simulated):
    workflow, other = make_corrected(), make_corrected()
    disturb(workflow, 0.05)
    expected = workflow.sample(conditions=simulated, num_samples=5, seed=1).unconstrained
    save_weights(workflow, tmp_path / "weights.npz")
    load_weights(other, tmp_path / "weights.npz")
    for x in (other, pickle.loads(pickle.dumps(workflow))):
        found = x.sample(conditions=simulated, num_samples=5, seed=1).unconstrained
        np.testing.assert_allclose(found, expected, atol=1e-5)


# --- errors -------------------------------------------------------------------------------------


def test_without_a_likelihood_there_is_nothing_to_correct_by():
    with pytest.raises(ValueError, match="correction: expected none, LeakyAccumulatorHMM has no"):
        abm.MixtureWorkflow(abm.LeakyAccumulatorHMM(), correction=LikelihoodCorrection())


def test_what_cannot_be_trained_is_refused(shipped):
    data = heterogeneous_data(shipped, 8, seed=1, block_size=4)
    with pytest.raises(ValueError, match="workflow: expected one with a correction"):
        fit_correction(shipped, data)
    workflow = make_corrected()
    with pytest.raises(TypeError, match="data: expected HeterogeneousData, got dict"):
        fit_correction(workflow, {})
    mixture = abm.load_pretrained("gaussian_mixture")
    with pytest.raises(ValueError, match="data: expected those of"):
        fit_correction(workflow, heterogeneous_data(mixture, 8, seed=1, block_size=4))
    for option in ({"epochs": 0}, {"batch_size": 1.5}, {"learning_rate": 0.0}, {"seed": -1}):
        (name,) = option
        with pytest.raises((TypeError, ValueError), match=name):
            fit_correction(workflow, data, **option)
