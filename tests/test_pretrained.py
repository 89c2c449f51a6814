"""Trained networks: loading, what is said when files are missing or corrupted, what ships."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from abmtools import MixtureWorkflow, load_pretrained
from abmtools.diagnostics import (
    compare_model_probabilities,
    gap_to_exact,
    membership_losses,
    simulated_membership,
)
from abmtools.inference import load_card, pretrained
from abmtools.inference.checkpoint import save_weights
from abmtools.inference.pretrained import ARCHITECTURES, weights_folder
from abmtools.networks import EmissionScorer

NAME = "gaussian_mixture"
COMPARISONS = ("component_count", "speeded_comparison")  # of several models
MIXTURES = [name for name in ARCHITECTURES if name not in COMPARISONS]
CARD_KEYS = {
    "name",
    "model",
    "num_obs",
    "num_reps",
    "architecture",
    "budget",
    "seconds",
    "versions",
    "final_losses",
    "sha256",
}


def write(folder: Path, workflow) -> None:
    save_weights(workflow.estimator, folder / "weights.npz")
    digest = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    card = {"name": NAME, "model": workflow.model.name, "sha256": digest}
    (folder / "card.json").write_text(json.dumps(card))


@pytest.fixture(scope="module")
def source():
    """A workflow of the architecture, as good as trained for what is tested here."""
    return ARCHITECTURES[NAME](seed=4)


@pytest.fixture(scope="module")
def original(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / NAME
    folder.mkdir()
    write(folder, source)
    return folder


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    """A folder of weights that a test may spoil, in the place of the package's own."""
    copy = shutil.copytree(original, tmp_path / NAME)
    monkeypatch.setattr(pretrained, "weights_folder", lambda name: tmp_path / name)
    return copy


def test_load(folder, source):
    workflow = load_pretrained(NAME)
    assert isinstance(workflow, MixtureWorkflow)
    assert workflow.card == load_card(NAME)
    assert workflow.card["model"] == "GaussianMixture"
    data = source.model.simulate(2, rng=np.random.default_rng(1), num_obs=160, num_reps=3)
    draws = [w.sample(conditions=data, num_samples=5, seed=1) for w in (workflow, source)]
    np.testing.assert_array_equal(draws[0].unconstrained, draws[1].unconstrained)
    np.testing.assert_array_equal(draws[0].membership, draws[1].membership)


def test_loading_leaves_numpy_alone(folder):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is what is looked at)
    load_pretrained(NAME)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_unknown_name():
    for function in (load_pretrained, load_card, weights_folder):
        with pytest.raises(ValueError, match=r"name: expected one of \['component_count'.*got 'x'"):
            function("x")


def test_missing_weights(folder):
    (folder / "weights.npz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"weights\.npz: .*`make train MODEL={NAME}`"):
        load_pretrained(NAME)


def test_missing_folder(folder):
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="No weights file at"):
        load_pretrained(NAME)


def test_missing_card(folder):
    (folder / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        load_pretrained(NAME)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_corrupted_weights(folder, how):
    path = folder / "weights.npz"
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:1000], "flipped": content, "empty": b""}[how])
    with pytest.raises(ValueError, match=r"weights\.npz is corrupted: its SHA-256 is .*Reinstall"):
        load_pretrained(NAME)


def test_weights_of_another_architecture(folder, source):
    """The checksum is right and the network is not."""
    write(folder, MixtureWorkflow(source.model, emission_scorer=EmissionScorer(3, rank=2)))
    with pytest.raises(ValueError, match=r"weights\.npz: expected .*got"):
        load_pretrained(NAME)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_seed_of_an_architecture(name):
    first, second, other = (ARCHITECTURES[name](seed=seed).estimator for seed in (1, 1, 2))
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    pairs = list(zip(first.get_weights(), other.get_weights(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in pairs)


# --- what ships -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXTURES)
def test_shipped_network(name):
    workflow = load_pretrained(name)
    card = workflow.card
    assert set(card) >= CARD_KEYS
    assert card["name"] == name
    assert card["model"] == workflow.model.name
    assert tuple(card["num_obs"]) == workflow.model.num_obs
    assert card["num_reps"] == (workflow.model.num_reps and list(workflow.model.num_reps))
    if workflow.model.has_likelihood:
        assert {"posterior", "membership"} <= set(card["gap_to_exact"])
    else:
        assert len(card["calibration"]["log_gamma"]) >= len(workflow.model.parameter_names)
    assert "seed" in card["budget"]
    data = workflow.model.simulate(2, rng=np.random.default_rng(1))
    posterior = workflow.sample(conditions=data, num_samples=10, seed=1)
    assert np.all(np.isfinite(posterior.log_prob))
    assert np.all(np.isfinite(posterior.membership))


@pytest.mark.parametrize("name", [name for name in MIXTURES if name != "lca_hmm"])
def test_shipped_network_is_close_to_exact(name):
    """Both losses at the true parameters and indicators of fresh data sets."""
    workflow = load_pretrained(name)
    rng = np.random.default_rng(11)
    simulated = [workflow.model.simulate(40, rng=rng) for _ in range(5)]
    gap = gap_to_exact(workflow, simulated[0], num_samples=1000, seed=1)
    assert -0.3 < gap.posterior < 0.3
    kinds = ["membership"] if workflow.model.structure.exchangeable else ["membership", "filtering"]
    for kind in kinds:
        network, exact = membership_losses(workflow, simulated, kind=kind)
        assert abs(np.mean(network - exact)) < 0.001, kind


def test_shipped_network_without_a_likelihood():
    """Its smoothing beside that from densities by brute force, at three parameter vectors."""
    workflow = load_pretrained("lca_hmm")
    data = workflow.model.simulate(3, rng=np.random.default_rng(12), num_obs=400)
    near_exact = simulated_membership(workflow.model, data, data, num_draws=400_000, seed=1)
    theta = {name: data[name][:, None] for name in workflow.model.parameter_names}
    network = workflow.membership({"y": data["y"]}, theta)[:, 0]
    assert np.abs(network - near_exact)[..., 1].mean() < 0.01
    own, reference = (
        np.take_along_axis(p, data["z"][..., None], -1) for p in (network, near_exact)
    )
    assert np.mean(np.log(reference) - np.log(own)) < 0.01


def test_shipped_component_count():
    """Probabilities of one to four components beside those from marginal likelihoods."""
    workflow = load_pretrained("component_count")
    card = workflow.card
    assert set(card) >= CARD_KEYS
    assert card["name"] == "component_count"
    assert card["model"] == workflow.model.name == "GaussianLocationMixture"
    assert list(workflow.models) == [1, 2, 3, 4]
    assert set(card["gap_to_exact"]) == {"1", "2", "3", "4"}
    assert card["probabilities"]["mean_difference_to_exact"] < 0.05
    assert max(card["calibration"]["expected_calibration_error"].values()) < 0.05
    rng = np.random.default_rng(11)
    batches = [workflow.model.simulate(10, rng=rng) for _ in range(3)]
    result = compare_model_probabilities(workflow, batches, num_samples=1000, seed=1)
    assert result.difference.mean() < 0.05
    assert np.mean(result.pareto_k < 0.7) > 0.9
