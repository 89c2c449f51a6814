"""Heterogeneous data: whose parameters made them, and what a network learns from them."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cloudpickle
import keras
import numpy as np
import pytest
from conftest import to_numpy
from scipy.special import softmax
from scipy.stats import kstest

import abmtools as abm
from abmtools import diagnostics
from abmtools.diagnostics.exact import log_posterior
from abmtools.heterogeneity import (
    HeterogeneousData,
    heterogeneous_data,
    simulate_heterogeneous,
)
from abmtools.heterogeneity.simulation import _vary
from abmtools.models.parameters import ParameterSpace


def make_transparent_model(num_obs=60):
    """A model whose data are the means of their components: they show whose parameters they had."""
    return abm.MixtureModel(
        prior=lambda rng, size: {"means": np.sort(rng.normal(size=(size, 2)), axis=1)},
        structure=abm.Independent(weights=[0.5, 0.5]),
        emission=lambda rng, parameters, z: {
            "y": np.take_along_axis(parameters["means"], z, axis=1)
        },
        constraints={"means": abm.ordered},
        num_obs=num_obs,
    )


@pytest.fixture(scope="module")
def workflow():
    return abm.load_pretrained("gaussian_hmm")


@pytest.fixture(scope="module")
def data(workflow):
    return heterogeneous_data(workflow, 24, seed=1, block_size=16, num_samples=1000, num_draws=200)


# --- data -----------------------------------------------------------------------------------------


def test_without_spread_all_observations_of_a_component_have_the_same_parameters():
    y = simulate_heterogeneous(
        make_transparent_model(), 50, rng=np.random.default_rng(1), spread=0.0
    )["y"]
    assert max(len(np.unique(row.round(9))) for row in y) <= 2


def test_sources_take_turns_or_follow_each_other():
    """By the number of times that the smaller observations, of component one mostly, change."""
    y = simulate_heterogeneous(
        make_transparent_model(num_obs=200), 200, rng=np.random.default_rng(1), spread=1.0
    )["y"]
    number = np.array([len(np.unique(row)) for row in y.round(9)])
    assert number.max() > 4  # two components times several sources
    assert (number == 2).sum() > 10  # parameters that do not vary
    first = [row[row <= np.median(row)] for row in y[number > 4]]
    changes = np.array([np.mean(np.diff(row) != 0) for row in first])
    assert changes.min() < 0.1
    assert changes.max() > 0.4


def test_most_data_sets_have_a_few_strays():
    """With hardly any spread, these are the observations that are far from the two means."""
    model = make_transparent_model(num_obs=400)
    y = simulate_heterogeneous(model, 300, rng=np.random.default_rng(2), spread=1e-6)["y"].round(3)
    counts = [np.sort(np.unique(row, return_counts=True)[1]) for row in y]
    share = np.array([1 - count[-2:].sum() / 400 for count in counts])
    assert share.max() < 0.15  # of a probability of at most 0.1
    assert abs(np.mean(share == 0) - 0.26) < 0.08
    assert abs(np.mean(share < 0.01) - 0.46) < 0.09
    assert abs(share.mean() - 0.025) < 0.005


def test_half_of_the_strays_are_what_the_user_makes_of_the_data():
    model, seen = make_transparent_model(num_obs=400), []

    def negative(data, *, rng):
        seen.append(data)
        return np.full(data["y"].shape, -100.0)

    y = simulate_heterogeneous(model, 400, rng=np.random.default_rng(2), strays=negative)["y"]
    share = (y == -100).mean(axis=1)
    assert share.max() < 0.15
    assert abs(np.mean(share > 0) - 0.37) < 0.07
    assert abs(share.mean() - 0.0125) < 0.004
    assert seen[0]["y"].shape == y.shape
    assert seen[0]["y"].min() > -10


def test_emissions_with_masks_of_their_own_are_refused():
    model = make_transparent_model()
    emission = model.emission

    def masked(rng, parameters, z):
        return emission(rng, parameters, z) | {"mask": rng.random(z.shape) < 0.5}

    model.emission = masked
    with pytest.raises(ValueError, match=r"model: expected an emission without masks, .*'mask'"):
        simulate_heterogeneous(model, 2, rng=np.random.default_rng(1))


def test_strays_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"strays: expected shape \(2, 60\), got \(2,\)"):
        simulate_heterogeneous(
            make_transparent_model(),
            2,
            rng=np.random.default_rng(1),
            strays=lambda data, *, rng: np.zeros(2),
        )


def test_lapses_come_at_any_time_and_a_coin_decides():
    model, rng = abm.EvidenceAccumulationHMM(), np.random.default_rng(1)
    data = model.simulate(20, rng=rng, num_obs=500)
    made = model.lapses(data, rng=rng)
    model.check_data({"y": made})
    times, own = made[..., 0], data["y"][..., 0]
    position = np.log(2 * times / own.min(axis=1, keepdims=True))
    position /= np.log(4 * own.max(axis=1) / own.min(axis=1))[:, None]
    assert kstest(position.ravel(), "uniform").pvalue > 0.01
    assert abs(made[..., 1].mean() - 0.5) < 0.02


@pytest.mark.parametrize("model", [abm.GaussianHMM(), abm.GaussianMixture()])
def test_replicates_keep_their_masks(model):
    data = simulate_heterogeneous(model, 5, rng=np.random.default_rng(3))
    assert "z" not in data
    if "replicate_mask" in data:
        assert np.all((data["y"] == 0) == ~data["replicate_mask"])
    model.check_data(data)


def test_with_a_spread_of_one_the_sources_differ_as_much_as_the_prior_does():
    model, rng = abm.EvidenceAccumulationHMM(), np.random.default_rng(1)
    theta, other, another = (model.prior(rng, 20_000) for _ in range(3))
    size = {name: np.ones(20_000) for name in theta}
    found = _vary(model.space, theta, [other, another], size)
    model.space.check(found)
    free = {
        name: shape
        for name, shape in model.parameter_shapes.items()
        if name not in model.space.bounded
    }
    space = ParameterSpace(free, {name: model.space.constraints[name] for name in free})
    before, after = (space.unconstrain({name: x[name] for name in free}) for x in (theta, found))
    np.testing.assert_allclose((after - before).std(axis=0), before.std(axis=0), rtol=0.05)
    mean = (theta["non_decision_time"] + other["non_decision_time"]) / 2
    np.testing.assert_allclose(found["non_decision_time"], mean)


def test_parameters_that_do_not_vary_stay():
    model, rng = abm.GaussianMixture(), np.random.default_rng(1)
    theta, other, another = (model.prior(rng, 50) for _ in range(3))
    size = {"weights": np.zeros(50), "means": np.linspace(0, 3, 50)}
    found = _vary(model.space, theta, [other, another], size)
    np.testing.assert_allclose(found["weights"], theta["weights"], atol=1e-6)
    np.testing.assert_allclose(found["means"][0], theta["means"][0], atol=1e-6)
    assert np.abs(found["means"] - theta["means"])[1:].min() > 0
    model.space.check(found)


@pytest.mark.parametrize("spread", [-0.1, np.inf, np.nan])
def test_a_spread_that_is_none_is_refused(spread):
    with pytest.raises(ValueError, match=f"spread: expected a number from zero on, got {spread}"):
        simulate_heterogeneous(
            make_transparent_model(), 2, rng=np.random.default_rng(1), spread=spread
        )


# --- draws ----------------------------------------------------------------------------------------


def test_the_log_joint_is_the_models(workflow, data):
    """Up to one constant."""
    differences = []
    for block in data.blocks:
        y = {name: block[name] for name in ("y", "replicate_mask")}
        exact = log_posterior(workflow.model, y, block["draws"].astype("float64"))
        differences.append(block["log_joint"] - exact)
    differences = np.concatenate(differences)
    np.testing.assert_allclose(differences, differences[0, 0], atol=1e-3)


def test_the_draws_are_half_way_to_the_posterior(workflow, data):
    """So square roots of importance weights make them draws of it, and equally of the network."""
    block = data.blocks[0]
    y = {name: block[name] for name in ("y", "replicate_mask")}
    posterior = workflow.sample(conditions=y, num_samples=4000, seed=5)
    importance = diagnostics.importance(posterior)
    covered = importance.pareto_k < 0.5
    assert covered.sum() > 10
    u = block["draws"]
    log_q = workflow.log_prob_unconstrained(y, u)
    equal = np.full((len(u), 4000), 1 / 4000)
    for power, own in [(0.5, np.exp(importance.log_weights)), (-0.5, equal)]:
        weights = softmax(power * (block["log_joint"] - log_q), axis=1)
        mean = np.einsum("bl,bld->bd", weights, u)
        expected = np.einsum("bs,bsd->bd", own, posterior.unconstrained)
        error = (mean - expected) / posterior.unconstrained.std(axis=1)
        assert np.sqrt(np.mean(error[covered] ** 2)) < 0.12


@pytest.fixture
def simulated(monkeypatch):
    """The options of each call that simulates a block."""
    calls = []

    def simulate(*args, **kwargs):
        calls.append(kwargs)
        return simulate_heterogeneous(*args, **kwargs)

    monkeypatch.setattr("abmtools.heterogeneity.draws.simulate_heterogeneous", simulate)
    return calls


def test_every_fifth_block_is_the_models_own(workflow, simulated):
    heterogeneous_data(workflow, 12, seed=1, block_size=2)
    assert [own.get("spread") for own in simulated] == [None, None, None, None, 0.0, None]


def test_the_logarithm_of_sizes_is_uniform(simulated):
    workflow = abm.load_pretrained("evidence_hmm")
    heterogeneous_data(workflow, 100, seed=1, block_size=1, num_samples=25, num_draws=4)
    least, most = workflow.model.num_obs
    size = np.array([own["num_obs"] for own in simulated])
    assert kstest(np.log(size / least) / np.log(most / least), "uniform").pvalue > 0.05


def test_every_data_set_is_kept_or_counted(data):
    assert data.num_datasets + data.num_rejected == 24
    assert [block["draws"].shape[1:] for block in data.blocks] == [(200, 4)] * 2


def test_where_the_network_blows_up_the_data_set_is_left_out(workflow, monkeypatch):
    estimator = workflow.estimator
    draw = estimator._draw_standardized

    def blown_up(known, num_samples, seed):
        draws, (summary,) = draw(known, num_samples, seed), known
        if len(draws) == 16:
            estimator.lost = float(to_numpy(summary)[4, 0])
        lost = to_numpy(summary)[:, 0] == estimator.lost
        draws[lost] = 1e20
        return draws

    before = heterogeneous_data(workflow, 16, seed=1).num_rejected
    monkeypatch.setattr(estimator, "_draw_standardized", blown_up)
    assert heterogeneous_data(workflow, 16, seed=1).num_rejected == before + 1
    del estimator.lost


def test_the_same_seed_gives_the_same_data(workflow):
    first, second = (heterogeneous_data(workflow, 8, seed=2, block_size=4) for _ in range(2))
    for one, other in zip(first.blocks, second.blocks, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_numbers_are_checked(workflow):
    with pytest.raises(ValueError, match="num_datasets: expected a positive integer, got 0"):
        heterogeneous_data(workflow, 0, seed=1)
    with pytest.raises(ValueError, match=r"num_draws: expected an integer of at least 4, got 2\.5"):
        heterogeneous_data(workflow, 8, seed=1, num_draws=2.5)
    with pytest.raises(ValueError, match="num_samples: expected an integer of at least 25, got 10"):
        heterogeneous_data(workflow, 8, seed=1, num_samples=10)


def test_a_model_without_a_likelihood_is_refused():
    workflow = abm.MixtureWorkflow(make_transparent_model(), seed=1)
    with pytest.raises(ValueError, match="log_prior"):
        heterogeneous_data(workflow, 4, seed=1)


def test_a_network_whose_draws_are_impossible_is_refused(workflow, monkeypatch):
    impossible = "abmtools.heterogeneity.draws.log_ratio"
    monkeypatch.setattr(impossible, lambda model, data, u, log_q: np.full(log_q.shape, -np.inf))
    with pytest.raises(ValueError, match=r"impossible for each of the 4 data sets; train it first"):
        heterogeneous_data(workflow, 4, seed=1)


# --- files ----------------------------------------------------------------------------------------


def test_saved_data_come_back_and_travel_by_name(data, tmp_path):
    data.save(tmp_path / "some" / "data")
    loaded = HeterogeneousData.load(tmp_path / "some" / "data", data.model)
    assert repr(loaded) == repr(data)
    for copy in (loaded, *(pickle.loads(cloudpickle.dumps(x)) for x in (loaded, data))):
        batches = [x.simulate(6, rng=np.random.default_rng(1)) for x in (data, copy)]
        same = keras.tree.map_structure(np.array_equal, *batches)
        assert all(keras.tree.flatten(same))
    assert len(cloudpickle.dumps(loaded)) < len(cloudpickle.dumps(data)) / 20
    assert sorted(x.name for x in (tmp_path / "some").iterdir()) == ["data"]


def test_an_interrupted_save_leaves_nothing_of_that_name(data, tmp_path, monkeypatch):
    def fail(path, values):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(OSError, match="no space left"):
            data.save(tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"folder: expected heterogeneous data in .*data"):
        HeterogeneousData.load(tmp_path / "data", data.model)
    data.save(tmp_path / "data")
    with pytest.raises(FileExistsError, match="folder: expected a new one"):
        data.save(tmp_path / "data")
    for other in (abm.GaussianMixture(), abm.GaussianHMM(3)):  # the second by the same name
        with pytest.raises(ValueError, match=f"model: expected .*GaussianHMM.* got .*{other.name}"):
            HeterogeneousData.load(tmp_path / "data", other)


def test_processes_simulate_from_the_files(data, tmp_path):
    """The same data, so the same losses."""
    data.save(tmp_path / "data")
    loaded = HeterogeneousData.load(tmp_path / "data", data.model)

    def losses(executor):
        workflow = abm.MixtureWorkflow(abm.GaussianHMM(num_obs=100), seed=1)
        workflow.fit_online(1, 10, 8, simulator=loaded, executor=executor, verbose=0)
        return workflow.losses["loss"]

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        assert losses(executor) == losses(None)


def test_data_of_another_prior_are_refused(data, tmp_path):
    data.save(tmp_path / "data")
    with pytest.raises(ValueError, match="model: expected"):
        HeterogeneousData.load(tmp_path / "data", abm.GaussianHMM(means_scale=0.2))


# --- training -------------------------------------------------------------------------------------


def test_a_batch_brings_as_many_from_the_store(workflow, data):
    batch = data.simulate(40, rng=np.random.default_rng(4))
    others = batch["others"]
    stored = np.concatenate([block["y"] for block in data.blocks]).sum(axis=(1, 2))
    assert np.isin(others["y"].sum(axis=(1, 2)), stored).all()
    assert not np.isin(batch["y"].sum(axis=(1, 2)), stored).any()
    assert others["draws"].shape == (40, 100, 4)
    assert len(np.unique(others["draws"][0], axis=0)) > 80
    again = data.simulate(40, rng=np.random.default_rng(4))
    assert np.array_equal(batch["y"], again["y"])
    assert all(np.array_equal(others[name], again["others"][name]) for name in others)


def test_draws_and_log_joint_belong_together(data):
    others = data.simulate(40, rng=np.random.default_rng(4))["others"]
    block = next(x for x in data.blocks if others["y"][0].sum() in x["y"].sum(axis=(1, 2)))
    row = np.flatnonzero(block["y"].sum(axis=(1, 2)) == others["y"][0].sum())[0]
    ours = [np.flatnonzero((block["draws"][row] == u).all(axis=1))[0] for u in others["draws"][0]]
    found, expected = others["log_joint"][0], block["log_joint"][row, ours]
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-3)


def test_training_makes_a_network_consistent():
    """Scales of the flow's standardization that are wrong, found from these data alone."""
    workflow = abm.load_pretrained("gaussian_hmm")
    data = heterogeneous_data(workflow, 64, seed=1)
    before = data.inconsistency(workflow)
    assert before.shape == (data.num_datasets,)
    weights = workflow.estimator.get_weights()
    rng = np.random.default_rng(2)
    workflow.estimator.set_weights([w * (1 + 0.05 * rng.normal(size=w.shape)) for w in weights])
    worse = data.inconsistency(workflow)
    workflow.optimizer = keras.optimizers.Adam(1e-3)
    workflow.fit_online(1, 40, 16, simulator=data, verbose=0)
    after = data.inconsistency(workflow)
    assert before.mean() < after.mean() < 0.7 * worse.mean()


def test_sizes_of_fresh_data_are_those_of_the_stored():
    workflow = abm.load_pretrained("gaussian_mixture")
    data = heterogeneous_data(workflow, 12, seed=1, block_size=4)
    sizes = {data.simulate(6, rng=np.random.default_rng(i))["y"].shape for i in range(20)}
    assert sizes == {(6, *block["y"].shape[1:]) for block in data.blocks}


def test_each_data_set_comes_as_often():
    """Also where a block has more of them than another."""
    model, rng = abm.EvidenceAccumulationHMM(), np.random.default_rng(5)
    blocks = []
    for num_obs, size in [(100, 4), (120, 1)]:
        simulated = model.simulate(size, rng=rng, num_obs=num_obs)
        drawn = {"draws": np.zeros((size, 2, 8)), "log_joint": np.zeros((size, 2))}
        blocks.append({"y": simulated["y"]} | drawn)
    data = HeterogeneousData(model, blocks)
    larger = [data.simulate(2, rng=rng)["y"].shape[1] == 100 for _ in range(400)]
    assert abs(np.mean(larger) - 0.8) < 0.06


def test_training_on_a_simulator_of_ones_own(data):
    """The model itself changes nothing; other data do."""

    def losses(simulator):
        workflow = abm.MixtureWorkflow(abm.GaussianHMM(num_obs=100), seed=1)
        workflow.fit_online(1, 2, 8, simulator=simulator, verbose=0)
        return workflow.losses["loss"]

    assert losses(None) == losses(abm.GaussianHMM(num_obs=100))
    assert losses(None) != losses(data)


def test_it_says_what_it_holds(data):
    assert isinstance(data, HeterogeneousData)
    assert repr(data).startswith("HeterogeneousData(GaussianHMM, num_datasets=")
