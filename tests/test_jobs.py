"""Jobs: the same results wherever they run, failures reported and tried again, none lost."""

import functools
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import distributed
import numpy as np
import pytest

import abmtools as abm
from abmtools.diagnostics import simulation_based_calibration
from abmtools.inference import simulate_datasets
from abmtools.jobs import JobsError, run_jobs
from abmtools.networks import EmissionScorer


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def client():
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(params=["here", "threads", "processes", "client"])
def executor(request):
    return None if request.param == "here" else request.getfixturevalue(request.param)


def fail_on(bad, error, folder, item):
    """Fail at the item `bad`, and leave a file for each try."""
    (folder / f"{item}-{len(list(folder.glob(f'{item}-*')))}").touch()
    if item == bad:
        raise error(f"item {item}")
    return item**2


def fail_once(folder, item):
    marker = folder / str(item)
    if not marker.exists():
        marker.touch()
        raise OSError("the disk was busy")
    return item


def test_results_keep_the_order_and_the_keys_of_items(executor):
    def double(x):  # a local function, which pickle would refuse
        return 2 * x

    assert run_jobs(double, range(5), executor=executor) == [0, 2, 4, 6, 8]
    assert run_jobs(double, {"b": 2, "a": 1}, executor=executor) == {"b": 4, "a": 2}
    assert run_jobs(double, [], executor=executor) == []


def test_items_that_fail_are_tried_again(executor, tmp_path, caplog):
    assert run_jobs(functools.partial(fail_once, tmp_path), range(3), executor=executor) == [
        0,
        1,
        2,
    ]
    assert caplog.text.count("is tried again: OSError('the disk was busy')") == 3


@pytest.mark.parametrize(("error", "tries"), [(RuntimeError, 4), (ValueError, 1)])
def test_an_item_that_fails_for_good_is_reported_and_takes_nothing_along(
    executor, tmp_path, error, tries
):
    function = functools.partial(fail_on, 2, error, tmp_path)
    with pytest.raises(JobsError, match="cubes: 1 of 4 failed, 2 with") as found:
        run_jobs(function, range(4), executor=executor, retries=3, what="cubes")
    assert found.value.results == {0: 0, 1: 1, 3: 9}
    assert [type(x) for x in found.value.failures.values()] == [error]
    assert isinstance(found.value.__cause__, error)
    assert len(list(tmp_path.glob("2-*"))) == tries
    assert len(list(tmp_path.glob("1-*"))) == 1


def test_where_nothing_succeeds_the_exception_itself_is_raised(tmp_path):
    with pytest.raises(KeyError, match="item 1"):
        run_jobs(functools.partial(fail_on, 1, KeyError, tmp_path), [1])


def test_a_process_that_dies_loses_no_finished_results():
    def leave(item):
        if item == 3:
            os._exit(1)
        return item

    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        pytest.raises(JobsError, match="BrokenProcessPool") as found,
    ):
        run_jobs(leave, range(5), executor=executor)
    assert found.value.results.keys() | found.value.failures.keys() == set(range(5))
    assert {0, 1} <= found.value.results.keys()
    assert 3 in found.value.failures


def test_what_is_cancelled_loses_no_finished_results():
    with ThreadPoolExecutor(1) as executor:

        def close(item):
            if item == 1:
                executor.shutdown(wait=False, cancel_futures=True)
            return item

        with pytest.raises(JobsError, match="CancelledError") as found:
            run_jobs(close, range(4), executor=executor)
    assert found.value.results == {0: 0, 1: 1}
    assert found.value.failures.keys() == {2, 3}


def test_a_progress_bar_counts_items(capsys):
    run_jobs(abs, range(3), progress=True, what="numbers")
    assert "numbers: 100%" in capsys.readouterr().err
    run_jobs(abs, range(3))
    assert capsys.readouterr().err == ""


def test_executors_and_retries_are_checked():
    with pytest.raises(TypeError, match=r"executor: expected a concurrent\.futures\.Executor.*int"):
        run_jobs(abs, [1], executor=2)
    with pytest.raises(ValueError, match="retries: expected an integer from 0, got -1"):
        run_jobs(abs, [1], retries=-1)


def test_simulations_are_the_same_everywhere(executor):
    model = abm.GaussianHMM(num_obs=(20, 30))
    here = simulate_datasets(model, 50, seed=3, block_size=20)
    there = simulate_datasets(model, 50, seed=3, block_size=20, executor=executor)
    assert here.keys() == there.keys() >= {"stay", "means", "y", "z", "mask", "replicate_mask"}
    for name, values in here.items():
        np.testing.assert_array_equal(there[name], values)
    block = model.simulate(20, rng=np.random.default_rng((3, 1)))
    size = block["y"].shape[1]
    np.testing.assert_array_equal(here["z"][20:40, :size], block["z"])
    np.testing.assert_array_equal(here["mask"][20:40].sum(axis=1), size)


def test_blocks_of_one_size_are_not_padded():
    data = simulate_datasets(
        abm.GaussianMixture(), 30, seed=3, block_size=20, num_obs=160, num_reps=3
    )
    assert data["y"].shape == (30, 160, 3)
    assert "mask" not in data


@pytest.mark.parametrize("name", ["num_datasets", "block_size"])
def test_numbers_of_data_sets_are_checked(name):
    arguments = {"num_datasets": 3, "block_size": 2} | {name: 0}
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got 0"):
        simulate_datasets(abm.GaussianMixture(), **arguments, seed=1)


def test_offline_training_takes_simulated_data_sets():
    workflow = abm.MixtureWorkflow(abm.GaussianHMM(num_obs=(20, 30)), seed=1)
    data = simulate_datasets(workflow.model, 40, seed=3, block_size=10)
    history = workflow.fit_offline(data, epochs=1, batch_size=10, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_online_training_sees_the_same_data_with_an_executor(name, request):
    def losses(executor):
        workflow = abm.MixtureWorkflow(abm.GaussianHMM(num_obs=(20, 30)), seed=1)
        sizes = {"epochs": 2, "num_batches_per_epoch": 12, "batch_size": 4, "verbose": 0}
        return workflow.fit_online(**sizes, executor=executor).history["loss"]

    assert losses(request.getfixturevalue(name)) == losses(None)


class FailsOnce(abm.GaussianHMM):
    """A model whose simulator fails the first time that a thread of an executor calls it."""

    failed, error = False, OSError

    def simulate(self, *arguments, **options):
        if not self.failed and threading.current_thread() is not threading.main_thread():
            self.failed = True
            raise self.error("the disk was busy")
        return super().simulate(*arguments, **options)


def test_online_training_goes_on_after_a_failure(threads, caplog):
    def train(model):
        workflow = abm.MixtureWorkflow(model, seed=1)
        sizes = {"epochs": 1, "num_batches_per_epoch": 20, "batch_size": 4, "verbose": 0}
        return workflow.fit_online(**sizes, executor=threads).history["loss"]

    undisturbed = train(abm.GaussianHMM(num_obs=20))
    assert train(FailsOnce(num_obs=20)) == undisturbed
    assert caplog.text.count("is tried again: OSError('the disk was busy')") == 1
    broken = FailsOnce(num_obs=20)
    broken.error = ValueError
    with pytest.raises(ValueError, match="the disk was busy"):
        train(broken)


def test_calibration_is_the_same_on_a_cluster(client):
    workflow = abm.load_pretrained("gaussian_hmm")
    rng = np.random.default_rng(1)
    simulated = [workflow.model.simulate(6, rng=rng, num_reps=2) for _ in range(2)]
    options = {"num_samples": 20, "seed": 1, "log_likelihood": True}
    here = simulation_based_calibration(workflow, simulated, **options)
    there = simulation_based_calibration(workflow, simulated, **options, executor=client)
    assert here.names == there.names
    for name, draws in here.estimates.items():
        np.testing.assert_allclose(there.estimates[name], draws, rtol=1e-5)


def test_nuts_is_the_same_in_other_processes(processes):
    model = abm.GaussianMixture()
    data = model.simulate(2, rng=np.random.default_rng(1), num_obs=150, num_reps=3)
    options = {"engine": "stanli", "chains": 2, "warmup": 300, "draws": 300, "adapt_delta": 0.9}
    trees = abm.stan.sample_each(model, {"y": data["y"]}, executor=processes, **options)
    for tree, y in zip(trees, data["y"], strict=True):
        alone = abm.stan.sample(model, {"y": y}, **options)
        np.testing.assert_array_equal(tree["posterior"]["means"], alone["posterior"]["means"])


def test_warnings_of_other_processes_reach_the_user(processes):
    model = abm.GaussianMixture()
    data = model.simulate(2, rng=np.random.default_rng(1), num_obs=150, num_reps=3)
    options = {"engine": "stanli", "chains": 2, "warmup": 100, "draws": 20}
    with pytest.warns(abm.stan.StanDiagnosticsWarning):
        abm.stan.sample_each(model, {"y": data["y"]}, executor=processes, **options)


def test_threads_keep_no_graph_for_gradients(threads, monkeypatch):
    workflow, kept = abm.load_pretrained("gaussian_mixture"), []
    call = EmissionScorer.call

    def watched(self, codes, parameters):
        scores = call(self, codes, parameters)
        kept.append((parameters.requires_grad, scores.requires_grad))
        return scores

    monkeypatch.setattr(EmissionScorer, "call", watched)
    data = {"y": workflow.model.simulate(2, rng=np.random.default_rng(1))["y"]}
    threads.submit(workflow.sample, conditions=data, num_samples=5).result()
    assert kept == [(False, False)]


def test_refinement_is_the_same_on_a_cluster(client):
    workflow = abm.load_pretrained("gaussian_hmm")
    data = workflow.model.simulate(2, rng=np.random.default_rng(1), num_reps=2)
    posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=1000, seed=1)
    options = {"threshold": -np.inf, "engine": "stanli"}
    refined = abm.refine(posterior, executor=client, **options)
    assert refined.route == ["nuts", "nuts"]
    here = abm.refine(posterior, **options)
    np.testing.assert_array_equal(refined.posterior.unconstrained, here.posterior.unconstrained)
