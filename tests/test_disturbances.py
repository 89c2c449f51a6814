"""Disturbances: what they change about a component's observations, and what they leave."""

import numpy as np
import pytest
from scipy.stats import kstest

import abmtools as abm
from abmtools.heterogeneity import disturbances, simulate_heterogeneous
from abmtools.heterogeneity.disturbances import reorder, tilt


def draw_chain(rng, batch_size=300, num_obs=200, stay=0.9):
    """States, (B, N), observations around -1 and 1, and which component each belongs to."""
    switches = rng.random((batch_size, num_obs)) > stay
    z = np.cumsum(switches, axis=1) % 2
    y = rng.normal(size=z.shape) / 3 + 2 * z - 1
    return z, y, z[..., None] == np.arange(2)


def deviations(y, z):
    """From the mean of their component."""
    return y - np.where(z, 1, -1)


def test_the_order_changes_and_no_component_does():
    rng = np.random.default_rng(1)
    z, y, own = draw_chain(rng, batch_size=20)
    found = reorder(rng, y, own)
    assert (found != y).mean() > 0.9
    for before, after, states in zip(y, found, z, strict=True):
        for state in range(2):
            np.testing.assert_array_equal(
                np.sort(after[states == state]), np.sort(before[states == state])
            )


def test_columns_of_an_observation_stay_together():
    rng = np.random.default_rng(2)
    _, y, own = draw_chain(rng, batch_size=20)
    found = reorder(rng, np.stack([y, 2 * y], axis=-1), own)
    np.testing.assert_array_equal(found[..., 1], 2 * found[..., 0])


def test_before_and_after_a_switch_observations_are_near_the_other_component():
    rng = np.random.default_rng(3)
    z, y, own = draw_chain(rng)
    found, switches = deviations(reorder(rng, y, own), z), z[:, 1:] != z[:, :-1]
    towards = np.where(z, -1, 1) * found
    for values in (towards[:, 1:][switches], towards[:, :-1][switches]):
        assert values.mean() > 5 * values.std() / np.sqrt(values.size)
    assert abs((np.where(z, -1, 1) * deviations(y, z))[:, 1:][switches].mean()) < 0.01


def test_neighbours_are_alike():
    rng = np.random.default_rng(4)
    z, y, own = draw_chain(rng)
    for values, least, most in [(y, -0.02, 0.02), (reorder(rng, y, own), 0.05, 0.3)]:
        x = deviations(values, z)
        assert least < np.corrcoef(x[:, 1:].ravel(), x[:, :-1].ravel())[0, 1] < most


def test_disturbances_without_strength_leave_the_distribution(monkeypatch):
    """Any candidate is as good as another, and any order."""
    monkeypatch.setattr(disturbances, "PRESENT", 0.0)
    rng = np.random.default_rng(5)
    z, _, own = draw_chain(rng)
    y = rng.normal(size=(4, *z.shape)) / 3 + 2 * z - 1
    found = deviations(reorder(rng, tilt(rng, y, own), own), z)
    assert kstest(3 * found.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(found[:, 1:].ravel(), found[:, :-1].ravel())[0, 1]) < 0.02


def test_a_tilt_changes_shapes_and_takes_candidates_only():
    rng = np.random.default_rng(6)
    z, _, own = draw_chain(rng)
    y = rng.normal(size=(4, *z.shape)) / 3 + 2 * z - 1
    found = tilt(rng, y, own)
    assert np.all((found == y).any(axis=0))
    spread = np.array([deviations(found, z)[row][z[row] == 0].std() for row in range(len(z))])
    assert spread.min() < 0.22  # 1 / 3, with an error of 0.024
    assert spread.max() > 0.4


def test_nearness_falls_from_one_at_each_switch(monkeypatch):
    monkeypatch.setattr(disturbances, "FADING", (1.0, 1.0))
    z = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]])
    found = disturbances._nearness_to_switches(np.random.default_rng(7), z)
    after = np.array([0, 0, 0, 1, np.exp(-1), np.exp(-2), np.exp(-3)])
    before = np.array([np.exp(-2), np.exp(-1), 1, 0, 0, 0, 0])
    weight = found[0, 3]
    np.testing.assert_allclose(found[0], weight * after + (1 - weight) * before)
    np.testing.assert_array_equal(found[1], 0)


@pytest.mark.parametrize("model", [abm.EvidenceAccumulationHMM(), abm.GaussianHMM()])
def test_without_spread_nothing_is_disturbed(model, monkeypatch):
    monkeypatch.setattr("abmtools.heterogeneity.simulation.reorder", None)
    model.check_data(simulate_heterogeneous(model, 3, rng=np.random.default_rng(8), spread=0.0))
