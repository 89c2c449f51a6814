"""Pickling: models, workflows and posteriors go through the standard library's pickle."""

import copy
import pickle

import numpy as np
import pytest
from conftest import to_numpy

import abmtools as abm
from abmtools.models.constraints import below

CONSTRAINTS = {
    "positive": (abm.positive, np.array([0.5, 2.0])),
    "interval": (abm.interval(-1, 3), np.array([0.5, 2.0])),
    "simplex": (abm.simplex, np.array([[0.2, 0.3, 0.5]])),
    "ordered": (abm.ordered, np.array([[-1.0, 0.5, 2.0]])),
    "positive_ordered": (abm.positive_ordered, np.array([[0.1, 0.5, 2.0]])),
    "unconstrained": (abm.unconstrained, np.array([-1.0, 2.0])),
}
MODELS = {
    "mixture": lambda: abm.GaussianMixture(num_obs=20),
    "chain": lambda: abm.GaussianHMM(num_obs=20),
    "location mixture": lambda: abm.GaussianLocationMixture(num_obs=20),
    "evidence": lambda: abm.EvidenceAccumulationHMM(num_obs=20),
    "own": lambda: abm.MixtureModel(
        prior=own_prior, structure=abm.Independent("weights"), emission=own_emission, num_obs=20,
        constraints={"weights": abm.simplex, "shift": below(smallest), "scale": abm.positive},
    ),
}  # fmt: skip


def own_prior(rng, batch_size):
    return {
        "weights": rng.dirichlet([2, 2], batch_size),
        "shift": rng.uniform(0, 1, batch_size),
        "scale": rng.gamma(5.0, 0.2, batch_size),
    }


def own_emission(rng, parameters, z):
    waited = rng.exponential(np.where(z == 0, 1.0, 3.0))
    return {"y": parameters["shift"][:, None] + parameters["scale"][:, None] * waited + 1e-3}


def smallest(data):
    return np.asarray(data["y"]).min(axis=1)


def through_pickle(x):
    return pickle.loads(pickle.dumps(x))


@pytest.fixture(scope="module", params=MODELS, ids=str)
def model(request):
    return MODELS[request.param]()


def data_of(model):
    """Two data sets without their truth."""
    simulated = model.simulate(2, rng=np.random.default_rng(1))
    return {key: simulated[key] for key in ("y", "replicate_mask") if key in simulated}


@pytest.mark.parametrize("clone", [through_pickle, copy.deepcopy])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraint(name, clone):
    constraint, x = CONSTRAINTS[name]
    found = clone(constraint)
    assert repr(found) == repr(constraint)
    u = to_numpy(constraint.unconstrain(x))
    for method, value in {"unconstrain": x, "constrain": u, "log_det_jacobian": x}.items():
        ours, theirs = (to_numpy(getattr(y, method)(value)) for y in (constraint, found))
        np.testing.assert_array_equal(theirs, ours)
    found.check(x)
    with pytest.raises(ValueError, match="x: expected"):
        found.check(np.full_like(x, np.nan))
    if name != "unconstrained":
        with pytest.raises(ValueError, match=f"x: expected {constraint.requirement}"):
            found.check(-x)


@pytest.mark.parametrize("clone", [through_pickle, copy.deepcopy])
def test_model(model, clone):
    found = clone(model)
    a, b = (x.simulate(3, rng=np.random.default_rng(2)) for x in (model, found))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    data = {key: a[key] for key in ("y", "replicate_mask") if key in a}
    parameters = {name: a[name][:, None] for name in model.parameter_names}
    u = model.unconstrain(parameters, data)
    np.testing.assert_array_equal(found.unconstrain(parameters, data), u)
    if model.has_likelihood:
        np.testing.assert_array_equal(*(x.log_joint(data, parameters) for x in (model, found)))


def test_model_that_numba_simulates():
    pytest.importorskip("numba")
    model = abm.LeakyAccumulatorHMM(num_obs=20)
    a, b = (x.simulate(2, rng=np.random.default_rng(2)) for x in (model, through_pickle(model)))
    np.testing.assert_array_equal(a["y"], b["y"])


@pytest.mark.parametrize("clone", [through_pickle, copy.deepcopy])
def test_workflow_and_posterior(model, clone):
    workflow = abm.MixtureWorkflow(model, seed=1)
    workflow.fit_online(epochs=1, num_batches_per_epoch=2, batch_size=8, verbose=0)
    data = data_of(model)
    posterior = workflow.sample(conditions=data, num_samples=5, seed=1)
    log_prob = posterior.log_prob
    for found in (clone(posterior), clone(workflow).sample(conditions=data, num_samples=5, seed=1)):
        np.testing.assert_array_equal(found.membership, posterior.membership)
        for name, values in posterior.parameters.items():
            np.testing.assert_array_equal(found.parameters[name], values)
        np.testing.assert_allclose(found.log_prob, log_prob, rtol=1e-6)


def test_a_pickled_workflow_trains_on(small_model):
    sizes = {"epochs": 1, "num_batches_per_epoch": 2, "batch_size": 8, "verbose": 0}
    workflow = abm.MixtureWorkflow(small_model, num_scored=None, seed=1)
    workflow.fit_online(**sizes)
    found = through_pickle(workflow)
    assert found.fit_online(**sizes).history == workflow.fit_online(**sizes).history


@pytest.mark.parametrize("clone", [through_pickle, copy.deepcopy])
@pytest.mark.parametrize("name", ["location mixtures", "with features"])
def test_comparison(name, clone):
    models = {
        "location mixtures": {k: abm.GaussianLocationMixture(k, num_obs=20) for k in (1, 2)},
        "with features": {
            mean: abm.EvidenceAccumulationHMM(num_obs=20, non_decision_time=mean)
            for mean in (0.2, 0.3)
        },
    }[name]
    workflow = abm.MixtureComparisonWorkflow(models, seed=1)
    sizes = {"epochs": 1, "num_batches_per_epoch": 2, "batch_size": 8, "verbose": 0}
    workflow.fit_online(**sizes, fit_parameters=True)
    found = clone(workflow)
    data = {"y": workflow.simulate(3)["y"]}
    ours, theirs = (x.sample(conditions=data, num_samples=4, seed=1) for x in (workflow, found))
    for result in (theirs, clone(ours)):
        np.testing.assert_array_equal(result.probabilities, ours.probabilities)
        for key in models:
            np.testing.assert_array_equal(result[key].unconstrained, ours[key].unconstrained)
            np.testing.assert_array_equal(result[key].membership, ours[key].membership)
    assert found.fit_online(**sizes).history == workflow.fit_online(**sizes).history
