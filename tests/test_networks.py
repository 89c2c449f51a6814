"""Networks: properties that hold whatever the architecture is."""

import bayesflow as bf
import keras
import numpy as np
import pytest
import torch
from bayesflow.utils.serialization import deserialize, serialize
from conftest import to_numpy
from scipy.special import softmax

from abmtools import Markov
from abmtools.networks import (
    ChainAssignment,
    DirectMLP,
    EmissionScorer,
    ObservationEncoder,
    SequenceSummary,
    SetSummary,
    SoftAssignment,
    emission_scorer,
)
from abmtools.structures.arithmetic import MIXING

ENCODERS = {
    "numbers": {"replicates": False},
    "replicates": {"replicates": True},
    "replicates, linear": {"replicates": True, "width": 0},
}


def draw(rng, kind, batch=3, num_obs=7, num_reps=4, features=1):
    """Observations in the networks' layout, all observed."""
    if not ENCODERS[kind]["replicates"]:
        return rng.normal(1.0, 2.0, (batch, num_obs, features)).astype("float32")
    y = rng.normal(1.0, 2.0, (batch, num_obs, num_reps, features + 1)).astype("float32")
    y[..., -1] = 1.0
    return y


def make_summary(kind, network=SetSummary, **options):
    keras.utils.set_random_seed(7)
    summary = network(ObservationEncoder(**ENCODERS[kind]), **options)
    summary(draw(np.random.default_rng(0), kind))
    return summary


@pytest.fixture(params=ENCODERS, ids=str)
def kind(request):
    return request.param


@pytest.fixture
def encoder(kind):
    return make_summary(kind).encoder


@pytest.fixture
def summary(kind):
    return make_summary(kind)


@pytest.fixture
def sequence_summary(kind):
    return make_summary(kind, SequenceSummary)


def assert_close(a, b):
    np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-4, atol=1e-5)


# --- symmetry and masks -----------------------------------------------------------------------


def test_order_of_observations(summary, encoder, kind, rng):
    x = draw(rng, kind)
    order = rng.permutation(x.shape[1])
    assert_close(summary(x[:, order]), summary(x))
    assert_close(encoder(x[:, order]), to_numpy(encoder(x))[:, order])


@pytest.mark.parametrize("kind", ["replicates", "replicates, linear"], indirect=True)
def test_order_of_replicates(summary, encoder, kind, rng):
    x = draw(rng, kind)
    order = rng.permutation(x.shape[2])
    assert_close(encoder(x[:, :, order]), encoder(x))
    assert_close(summary(x[:, :, order]), summary(x))


def test_masked_observations_change_nothing(summary, kind, rng):
    x = draw(rng, kind)
    padded = np.concatenate([x, 50.0 + 100.0 * draw(rng, kind, num_obs=5)], axis=1)
    mask = np.tile(np.arange(12) < 7, (3, 1))
    order = rng.permutation(12)
    assert_close(summary(padded, mask=mask), summary(x))
    assert_close(summary(padded[:, order], mask=mask[:, order]), summary(x))
    assert_close(summary(x, mask=np.ones((3, 7), dtype=bool)), summary(x))


def test_masks_of_each_data_set(summary, kind, rng):
    x = draw(rng, kind)
    mask = np.arange(7) < np.array([7, 1, 4])[:, None]
    got = to_numpy(summary(x, mask=mask))
    for row, size in enumerate((7, 1, 4)):
        assert_close(got[[row]], summary(x[[row], :size]))


@pytest.mark.parametrize("kind", ["replicates", "replicates, linear"], indirect=True)
def test_masked_replicates_change_nothing(summary, encoder, kind, rng):
    x = draw(rng, kind)
    garbage = 100.0 * draw(rng, kind, num_reps=2)
    garbage[..., -1] = 0.0
    padded = np.concatenate([x, garbage], axis=2)
    assert_close(encoder(padded), encoder(x))
    assert_close(summary(padded), summary(x))


@pytest.mark.parametrize("kind", ["replicates", "replicates, linear"], indirect=True)
def test_replicates_are_counted(encoder, kind, rng):
    """The mean of two equal replicates is that of one; their number tells them apart."""
    x = draw(rng, kind, num_reps=1)
    twice = np.concatenate([x, x], axis=2)
    assert np.abs(to_numpy(encoder(twice)) - to_numpy(encoder(x))).max() > 0.01


def test_observations_are_counted(summary, kind, rng):
    x = draw(rng, kind)
    twice = np.concatenate([x, x], axis=1)
    assert np.abs(to_numpy(summary(twice)) - to_numpy(summary(x))).max() > 1e-3


@pytest.mark.parametrize("num_obs", [1, 2, 300])
@pytest.mark.parametrize("num_reps", [1, 9])
def test_any_size(summary, kind, rng, num_obs, num_reps):
    x = draw(rng, kind, num_obs=num_obs, num_reps=num_reps)
    got = to_numpy(summary(x))
    assert got.shape == (3, summary.summary_dim) == tuple(summary.compute_output_shape(x.shape))
    assert np.all(np.isfinite(got))
    codes = summary.encoder(x)
    assert tuple(codes.shape) == tuple(summary.encoder.compute_output_shape(x.shape))


@pytest.mark.parametrize("features", [2, 3])
def test_vector_observations(kind, rng, features):
    x = draw(rng, kind, features=features)
    summary = SetSummary(ObservationEncoder(**ENCODERS[kind]), summary_dim=6)
    assert tuple(summary(x).shape) == (3, 6)


def test_data_sets_do_not_mix(summary, kind, rng):
    x = draw(rng, kind)
    assert_close(summary(x)[1:2], summary(x[1:2]))


# --- sequences --------------------------------------------------------------------------------


def test_order_in_time_matters(sequence_summary, kind, rng):
    x = draw(rng, kind)
    assert (
        np.abs(to_numpy(sequence_summary(x[:, ::-1])) - to_numpy(sequence_summary(x))).max() > 0.01
    )


def test_padding_of_sequences_changes_nothing(sequence_summary, kind, rng):
    x = draw(rng, kind)
    padded = np.concatenate([x, 50.0 + 100.0 * draw(rng, kind, num_obs=5)], axis=1)
    mask = np.tile(np.arange(12) < 7, (3, 1))
    assert_close(sequence_summary(padded, mask=mask), sequence_summary(x))
    assert_close(sequence_summary(x, mask=np.ones((3, 7), dtype=bool)), sequence_summary(x))


def test_lengths_differ_in_one_call(sequence_summary, kind, rng):
    x = draw(rng, kind)
    mask = np.arange(7) < np.array([7, 2, 4])[:, None]
    got = to_numpy(sequence_summary(x, mask=mask))
    for row, size in enumerate((7, 2, 4)):
        assert_close(got[[row]], sequence_summary(x[[row], :size]))


def test_missing_time_points(sequence_summary, kind, rng):
    """What is masked may be anything, and is not the same as left out: time passes."""
    x = draw(rng, kind)
    mask = np.tile(np.arange(7) != 3, (3, 1))
    other = x.copy()
    other[:, 3] = 99.0
    assert_close(sequence_summary(other, mask=mask), sequence_summary(x, mask=mask))
    shorter = sequence_summary(x[:, np.arange(7) != 3])
    assert np.abs(to_numpy(shorter) - to_numpy(sequence_summary(x, mask=mask))).max() > 1e-3


@pytest.mark.parametrize("num_obs", [1, 2, 300])
def test_any_length(sequence_summary, kind, rng, num_obs):
    got = to_numpy(sequence_summary(draw(rng, kind, num_obs=num_obs)))
    assert got.shape == (3, sequence_summary.summary_dim)
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("sharpness", [1.0, 100.0])
def test_chain_assignment_is_an_exact_e_step(rng, sharpness):
    """Its counts are those of `Markov` with the same scores and transitions, also of next to zero.

    `Markov` takes the transitions of next to zero for zero, so it computes with logarithms.
    """
    codes = rng.normal(size=(2, 6, 3)).astype("float32")
    summary = rng.normal(size=(2, 5)).astype("float32")
    layer = ChainAssignment(num_heads=1, num_slots=3)
    layer.build(codes.shape, summary.shape)
    layer.transitions.kernel.assign(sharpness * layer.transitions.kernel)
    statistics = np.concatenate([np.ones((2, 6, 1), "float32"), codes], axis=-1)
    scores = np.moveaxis(to_numpy(layer.scores(statistics, summary))[:, 0], 1, 2)
    transition = np.moveaxis(to_numpy(layer.transition_matrices(summary)), 2, 0)
    assert np.all(transition >= MIXING)
    assert np.any(transition < 2 * MIXING) == (sharpness > 1)
    structure, parameters = Markov("A"), {"A": np.where(transition < 2 * MIXING, 0, transition)}
    smoothing = to_numpy(structure.smoothing(scores, parameters))
    pairs = np.exp(to_numpy(structure.log_pairwise_smoothing(scores, parameters)))
    expected = np.concatenate(
        [
            np.einsum("btk,bte->bke", smoothing, statistics).reshape(2, -1) / 6,
            pairs.mean(axis=1).reshape(2, -1),
        ],
        axis=-1,
    )
    assert_close(layer(codes, summary), expected)


def test_soft_assignment_is_an_exact_e_step(rng):
    codes = rng.normal(size=(2, 6, 3)).astype("float32")
    summary = rng.normal(size=(2, 5)).astype("float32")
    layer = SoftAssignment(num_heads=2, num_slots=3)
    layer.build(codes.shape, summary.shape)
    statistics = np.concatenate([np.ones((2, 6, 1), "float32"), codes], axis=-1)
    assigned = softmax(to_numpy(layer.scores(statistics, summary)), axis=2)
    expected = np.einsum("bhkn,bne->bhke", assigned, statistics).reshape(2, -1) / 6
    assert_close(layer(codes, summary), expected)


# --- standardization of the data --------------------------------------------------------------


def test_adapt(summary, kind, rng):
    """Data at any location and scale look alike after adaptation, masked values left out."""
    x = draw(rng, kind, batch=200)
    value = slice(None, -1) if ENCODERS[kind]["replicates"] else slice(None)
    moved = x.copy()
    moved[..., value] = 300.0 + 40.0 * x[..., value]
    mask = rng.random(x.shape[:2]) < 0.7
    moved[~mask] = 1e6
    summary.adapt(moved, mask)
    got = to_numpy(summary.encoder.location), to_numpy(summary.encoder.scale)
    observed = moved[mask][..., value]
    axes = tuple(range(observed.ndim - 1))
    np.testing.assert_allclose(got[0], observed.mean(axis=axes), rtol=1e-5)
    np.testing.assert_allclose(got[1], observed.std(axis=axes), rtol=1e-4)
    after = summary(moved, mask=mask)
    summary.adapt(x, mask)
    np.testing.assert_allclose(to_numpy(after), to_numpy(summary(x, mask=mask)), atol=1e-3)


def test_adapt_to_a_constant(summary, kind, rng):
    summary.adapt(np.ones_like(draw(rng, kind)))
    np.testing.assert_array_equal(to_numpy(summary.encoder.scale), 1.0)


def test_adapt_leaves_missing_replicates_out(rng):
    summary = make_summary("replicates")
    x = draw(rng, "replicates", batch=50)
    x[:, :, 2:, -1] = 0.0
    x[:, :, 2:, 0] = 1e6
    summary.adapt(x)
    np.testing.assert_allclose(to_numpy(summary.encoder.location), x[:, :, :2, 0].mean(), rtol=1e-4)


# --- the scorer -------------------------------------------------------------------------------


@pytest.fixture(
    params=[(2, {}), (3, {"rank": 4}), (5, {"observation_widths": ()}), (3, {"num_joint": 6})],
    ids=str,
)
def scorer(request):
    keras.utils.set_random_seed(7)
    return EmissionScorer(request.param[0], **request.param[1])


def test_scores(scorer, rng):
    codes, parameters = rng.normal(size=(3, 7, 6)), rng.normal(size=(3, 4, 5))
    codes, parameters = codes.astype("float32"), parameters.astype("float32")
    scores = to_numpy(scorer(codes, parameters))
    assert scores.shape == (3, 4, 7, scorer.num_components)
    for b, s, n in [(0, 0, 0), (1, 3, 2), (2, 1, 6)]:  # one at a time
        alone = scorer(codes[b : b + 1, n : n + 1], parameters[b : b + 1, s : s + 1])
        assert_close(scores[b, s, n], to_numpy(alone)[0, 0, 0])
    assert len(np.unique(scores.round(4))) > scores.size // 2


def test_joint_features_in_blocks(rng, monkeypatch):
    keras.utils.set_random_seed(7)
    scorer = EmissionScorer(2, num_joint=5)
    codes, parameters = rng.normal(size=(3, 7, 6)), rng.normal(size=(3, 4, 5))
    codes, parameters = codes.astype("float32"), parameters.astype("float32")
    scores = to_numpy(scorer(codes, parameters))
    monkeypatch.setattr(emission_scorer, "FEATURES_AT_ONCE", 1)
    assert_close(to_numpy(scorer(codes, parameters)), scores)


def test_joint_features_are_no_sum_of_products(rng):
    """With rank one, scores of one component, (N, S), would have rank two at most."""
    keras.utils.set_random_seed(7)
    codes, parameters = rng.normal(size=(1, 9, 6)), rng.normal(size=(1, 8, 5))
    codes, parameters = codes.astype("float32"), parameters.astype("float32")
    for num_joint, expected in {0: 1, 5: 8}.items():
        scorer = EmissionScorer(2, rank=1, num_joint=num_joint)
        scores = to_numpy(scorer(codes, parameters))[0, :, :, 0].astype("float64")
        assert np.linalg.matrix_rank(scores, tol=1e-5) == expected


# --- training and saving ----------------------------------------------------------------------


def assert_gradient_everywhere(layer, output):
    """Every trainable variable gets a gradient, and no gradient is zero throughout."""
    (output**2).sum().backward()
    assert layer.trainable_variables
    for variable in layer.trainable_variables:
        gradient = variable.value.grad
        assert gradient is not None, variable.path
        assert torch.all(torch.isfinite(gradient)), variable.path
        assert torch.any(gradient != 0), variable.path


def test_gradient_of_the_summary(summary, kind, rng):
    with torch.enable_grad():
        assert_gradient_everywhere(summary, summary(draw(rng, kind, batch=16)))


def test_gradient_of_the_scorer(scorer, rng):
    codes, parameters = rng.normal(size=(3, 7, 6)), rng.normal(size=(3, 4, 5))
    with torch.enable_grad():
        scores = scorer(codes.astype("float32"), parameters.astype("float32"))
        assert_gradient_everywhere(scorer, scores)


def test_gradient_ignores_masked_observations(kind, rng):
    summary = make_summary(kind)
    x = keras.ops.convert_to_tensor(draw(rng, kind)).requires_grad_()
    mask = np.arange(7) < np.array([7, 1, 4])[:, None]
    with torch.enable_grad():
        (summary(x, mask=mask) ** 2).sum().backward()
    size = to_numpy(torch.abs(x.grad)).reshape(3, 7, -1).max(axis=-1)
    np.testing.assert_array_equal(size > 0, mask)


def test_data_statistics_are_not_trained(summary):
    names = [variable.path for variable in summary.trainable_variables]
    assert not [name for name in names if name.endswith(("location", "scale"))]


def test_summary_configuration(summary, kind, rng):
    x = draw(rng, kind)
    copy = deserialize(serialize(summary))
    copy(x)
    copy.set_weights(summary.get_weights())
    assert_close(copy(x), summary(x))
    assert copy.encoder.get_config() == summary.encoder.get_config()


def test_summary_options_survive(kind, rng):
    summary = make_summary(kind, summary_dim=5)
    copy = deserialize(serialize(summary))
    assert tuple(copy(draw(rng, kind)).shape) == (3, 5)


def test_scorer_configuration(scorer, rng):
    codes, parameters = np.ones((1, 2, 6), "float32"), np.ones((1, 3, 5), "float32")
    expected = scorer(codes, parameters)
    copy = deserialize(serialize(scorer))
    copy(codes, parameters)
    copy.set_weights(scorer.get_weights())
    assert_close(copy(codes, parameters), expected)


@pytest.mark.parametrize(
    "kwargs", [{"residual": False}, {"residual": True}, {"dropout": 0.5}, {"norm": "layer"}]
)
def test_a_direct_perceptron_is_that_of_bayesflow(kwargs):
    x = keras.random.normal((5, 7, 3), seed=1)
    options = {"widths": (8, 8, 4), "activation": "silu", "dropout": 0.0} | kwargs
    direct, theirs = DirectMLP(**options), bf.networks.MLP(**options)
    direct.build(x.shape)
    theirs.build(x.shape)
    for ours, other in zip(direct.weights, theirs.weights, strict=True):
        ours.assign(keras.random.normal(ours.shape, seed=2))
        other.assign(ours)
    np.testing.assert_array_equal(to_numpy(direct(x)), to_numpy(theirs(x)))
    if not direct.dropout:
        np.testing.assert_array_equal(to_numpy(direct(x, training=True)), to_numpy(direct(x)))
    restored = DirectMLP.from_config(direct.get_config())
    restored.build(x.shape)
    restored.set_weights(direct.get_weights())
    np.testing.assert_array_equal(to_numpy(restored(x)), to_numpy(direct(x)))


def test_a_direct_perceptron_drops_out_in_training():
    direct = DirectMLP(widths=(64,), dropout=0.5)
    x = keras.ops.ones((1, 3))
    direct.build(x.shape)
    assert np.abs(to_numpy(direct(x, training=True)) - to_numpy(direct(x))).max() > 0
