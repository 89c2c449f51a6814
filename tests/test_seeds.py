"""Seeds: whatever is a non-negative integer is one, however large, and nothing else is."""

import keras
import numpy as np
import pytest
from conftest import to_numpy

from abmtools import (
    GaussianLocationMixture,
    MixtureComparisonWorkflow,
    MixtureWorkflow,
    diagnostics,
)
from abmtools.inference import simulate_datasets
from abmtools.seeds import check_seed, fold_seed, seed_keras

LARGE = [2**31, 2_968_811_710, 2**32, 2**33, 10**30]
BAD = [1.7, 1.0, True, "3", None, [1], np.True_, -1, np.int64(-2)]


@pytest.mark.parametrize("seed", BAD, ids=repr)
def test_what_is_no_seed(seed):
    with pytest.raises((TypeError, ValueError), match="seed: expected a non-negative integer, got"):
        check_seed(seed)


def test_small_seeds_stay_as_they_are():
    for seed in (0, 1, 2**31 - 1, np.int64(3), np.uint32(3)):
        assert fold_seed(seed) == seed
        assert type(fold_seed(seed)) is int
    for seed in LARGE[:2]:  # a comparison gives its workflows such seeds
        assert fold_seed(seed, 32) == seed


def test_large_seeds_are_folded_and_stay_apart():
    for num_bits in (31, 32):
        folded = [fold_seed(seed, num_bits) for seed in LARGE]
        assert folded == [fold_seed(seed, num_bits) for seed in LARGE]
        assert max(folded) < 2**num_bits
        assert len({*folded}) == len(LARGE)


def test_global_seed():
    draws = []
    for seed in (np.int64(5), 5, None):
        seed_keras(seed)
        draws.append(to_numpy(keras.random.uniform((3,))))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[1], draws[2])  # goes on


@pytest.mark.parametrize("seed", LARGE, ids=str)
def test_draws_with_a_large_seed(workflow, simulated, seed):
    def draw(seed):
        return workflow.sample(conditions=simulated, num_samples=3, seed=seed).unconstrained

    np.testing.assert_array_equal(draw(seed), draw(seed))
    assert not np.array_equal(draw(seed), draw(seed + 1))


def test_draws_with_a_seed_of_numpy(workflow, simulated):
    np.testing.assert_array_equal(
        *(
            workflow.sample(conditions=simulated, num_samples=3, seed=seed).unconstrained
            for seed in (3, np.uint8(3))
        )
    )


@pytest.mark.parametrize("seed", [np.int64(3), 2**33], ids=repr)
def test_workflows_with_such_a_seed(small_model, seed):
    a, b = (MixtureWorkflow(small_model, seed=x).estimator.get_weights() for x in (seed, int(seed)))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    models = {size: GaussianLocationMixture(size, num_obs=5) for size in (1, 2)}
    MixtureComparisonWorkflow(models, seed=seed)


@pytest.mark.parametrize("seed", [1.7, True, "3", -1], ids=repr)
def test_everything_refuses_what_is_no_seed(workflow, small_model, simulated, seed):
    models = {size: GaussianLocationMixture(size, num_obs=5) for size in (1, 2)}
    posterior = workflow.sample(conditions=simulated, num_samples=10)[0]
    for function in (
        lambda: workflow.sample(conditions=simulated, num_samples=3, seed=seed),
        lambda: MixtureWorkflow(small_model, seed=seed),
        lambda: MixtureComparisonWorkflow(models, seed=seed),
        lambda: simulate_datasets(small_model, 2, seed=seed),
        lambda: diagnostics.compare(posterior, posterior, seed=seed),
    ):
        with pytest.raises((TypeError, ValueError), match="seed: expected a non-negative integer"):
            function()
