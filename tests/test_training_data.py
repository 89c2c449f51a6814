"""Training data: what would train networks to nothing, or to something else, is refused."""

import keras
import numpy as np
import pytest
from conftest import lognormal_model, to_numpy

from abmtools import MixtureWorkflow, below, ordered, positive

SIZES = {"num_batches_per_epoch": 8, "batch_size": 64, "verbose": 0}


def seldom(rng, values, wrong):
    """One in a hundred is wrong, but none of the few data sets that a workflow begins with."""
    rows = rng.random(len(values)) < 0.01 * (len(values) > 256)
    return np.where(rows.reshape(-1, *(1 for _ in values.shape[1:])), wrong, values)


@pytest.mark.parametrize(
    ("name", "wrong", "match"),
    [
        ("y", np.nan, r"y: expected finite numbers where observed, .* in \d+ of 512 data sets"),
        ("sigma", -1.0, r"sigma: expected finite numbers, .* is outside its constraint"),
        ("mask", False, r"mask: expected an observation in each data set, got none in \d+"),
    ],
)
def test_rare_bad_simulations_stop_training(name, wrong, match):
    good = lognormal_model(num_obs=9)

    def prior(rng, batch_size):
        parameters = good.prior(rng, batch_size)
        if name == "sigma":
            parameters["sigma"] = seldom(rng, parameters["sigma"], wrong)
        return parameters

    def emission(rng, parameters, z):
        data = good.emission(rng, parameters | {"sigma": np.abs(parameters["sigma"])}, z)
        data["mask"] = np.ones(z.shape, dtype=bool)
        if name in data:
            data[name] = seldom(rng, data[name], wrong)
        return data

    workflow = MixtureWorkflow(lognormal_model(num_obs=9, prior=prior, emission=emission), seed=1)
    with pytest.raises(ValueError, match=match):
        workflow.fit_online(epochs=1, **SIZES)


def test_a_prior_outside_its_constraint_makes_no_workflow():
    good = lognormal_model(num_obs=9)

    def prior(rng, batch_size):  # forgot to sort; the few draws that probe the model are in order
        locations = rng.normal(size=(batch_size, 2))
        locations = locations if batch_size > 3 else np.sort(locations, axis=-1)
        return good.prior(rng, batch_size) | {"locations": locations}

    match = r"parameters\['locations'\]: expected values that increase strictly"
    with pytest.raises(ValueError, match=match):
        MixtureWorkflow(lognormal_model(num_obs=9, prior=prior))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"z": lambda x: x + 1}, r"z: expected indicators 0 to 1 of shape \(40, 9\).* \[1 2\]"),
        ({"z": lambda x: x[:, 1:]}, r"z: expected indicators .*, got shape \(40, 8\)"),
        ({"z": None}, r"simulated: expected .* \['z'\] is missing"),
        ({"locations": np.negative}, r"parameters\['locations'\]: expected values that increase"),
        ({"y": lambda x: np.where(x > 1, np.nan, x)}, r"data\['y'\]: expected finite numbers"),
        (
            dict.fromkeys(["locations", "sigma", "shift"], lambda x: x[:5]),
            r"parameters: expected one vector for each of 40 data sets, got \(5,\)",
        ),
    ],
    ids=["from one", "short z", "no z", "order", "NaN", "rows"],
)
def test_wrong_simulations_are_not_trained_on(rng, changes, match):
    model = lognormal_model(num_obs=9)
    simulated = model.simulate(40, rng=rng)
    for name, change in changes.items():
        value = simulated.pop(name)
        if change is not None:
            simulated[name] = change(value)
    with pytest.raises(ValueError, match=match):
        MixtureWorkflow(model).fit_offline(simulated, epochs=1, verbose=0)


def test_lists_are_simulations_too(rng):
    model = lognormal_model(num_obs=9)
    simulated = model.simulate(40, rng=rng)
    lists = {name: value.tolist() for name, value in simulated.items()}
    losses = [
        MixtureWorkflow(model, seed=1).fit_offline(data, epochs=1, verbose=0).history
        for data in (simulated, lists)
    ]
    assert losses[0] == losses[1]


def test_a_loss_that_is_not_a_number_stops_and_leaves_the_checkpoint(tmp_path):
    model, path = lognormal_model(num_obs=9), tmp_path / "run.npz"
    MixtureWorkflow(model, checkpoint=path, seed=1).fit_online(epochs=1, **SIZES)
    before = path.read_bytes()
    wild = MixtureWorkflow(model, checkpoint=path, optimizer=keras.optimizers.SGD(1e30), seed=1)
    with pytest.raises(FloatingPointError, match=r"expected finite losses, got .*nan.* in epoch 1"):
        wild.fit_online(epochs=2, **SIZES)
    assert path.read_bytes() == before


def test_features_and_bounds_see_zero_where_nothing_was_observed():
    def emission(rng, parameters, z):
        mask = rng.random(z.shape) < 0.8
        y = parameters["shift"][:, None] + np.exp(rng.normal(size=z.shape))
        return {"y": np.where(mask, y, -99.0), "mask": mask}

    def squares(data):
        return np.stack([data["y"], data["y"] ** 2], axis=-1)

    def total(data):
        return np.repeat(data["y"].sum(axis=1)[:, None, None], data["y"].shape[1], axis=1)

    def smallest(data):
        return np.where(data["y"] == 0, np.inf, data["y"]).min(axis=1)

    model = lognormal_model(
        num_obs=9,
        emission=emission,
        observation_features=squares,
        dataset_features=total,
        constraints={"locations": ordered, "sigma": positive, "shift": below(smallest)},
    )
    simulated = model.simulate(20, rng=np.random.default_rng(1))
    adapter = MixtureWorkflow(model).adapter
    raw, checked = adapter(simulated), adapter(simulated | model.check_data(simulated))
    for name, value in raw.items():
        np.testing.assert_array_equal(to_numpy(value), to_numpy(checked[name]), err_msg=name)
    u = model.unconstrain({name: simulated[name] for name in model.parameter_names}, simulated)
    np.testing.assert_allclose(to_numpy(raw["inference_variables"]), u, rtol=1e-5)
