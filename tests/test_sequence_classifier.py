"""Sequence classifier: what it may see, what must not matter, and a chain it has to learn."""

import keras
import numpy as np
import pytest
import torch
from bayesflow.utils.serialization import deserialize, serialize
from conftest import to_numpy

from abmtools import GaussianHMM, Markov, MixtureWorkflow
from abmtools.networks.sequence_classifier import SequenceClassifier

OPTIONS = {
    "kernel of two": {"dilations": (1, 2, 4)},
    "kernel of three": {"dilations": (1, 3), "kernel_size": 3, "width": 12},
    "five components": {"num_components": 5, "dilations": (1, 2, 4, 8), "rank": 4},
}
NUM_OBS = 25
MIDDLE = 12  # a time point with NUM_OBS // 2 others on either side


@pytest.fixture(params=OPTIONS)
def classifier(request):
    keras.utils.set_random_seed(7)
    options = {"num_components": 3, "width": 16} | OPTIONS[request.param]
    classifier = SequenceClassifier(**options)
    classifier(*draw(np.random.default_rng(0)))
    return classifier


def draw(rng, batch=2, samples=3, num_obs=NUM_OBS):
    """Codes and parameter features."""
    codes, parameters = rng.normal(size=(batch, num_obs, 4)), rng.normal(size=(batch, samples, 5))
    return codes.astype("float32"), parameters.astype("float32")


def both(classifier, codes, parameters, mask=None):
    """Filtering and smoothing, (2, B, S, T, K)."""
    return np.stack([to_numpy(x) for x in classifier(codes, parameters, mask=mask)])


def assert_close(a, b):
    np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-4, atol=1e-5)


def dependence(classifier, rng, head, mask=None):
    """Which codes, bool (T,), the output of a head at the middle time point depends on."""
    codes, parameters = draw(rng, batch=1)
    codes = torch.tensor(codes, requires_grad=True)
    with torch.enable_grad():
        output = classifier(codes, parameters, mask=mask)[head]
        output[:, :, MIDDLE, 0].sum().backward()
    return to_numpy(codes.grad != 0).any(axis=-1)[0]


# --- what the outputs may depend on -----------------------------------------------------------


def test_filtering_sees_the_past_and_no_further_than_it_says(classifier, rng):
    t = np.arange(NUM_OBS)
    expected = (t <= MIDDLE) & (t > MIDDLE - classifier.receptive_field)
    np.testing.assert_array_equal(dependence(classifier, rng, 0), expected)


def test_smoothing_sees_both_sides_equally_far(classifier, rng):
    expected = np.abs(np.arange(NUM_OBS) - MIDDLE) < classifier.receptive_field
    np.testing.assert_array_equal(dependence(classifier, rng, 1), expected)


def test_receptive_field():
    for options, expected in (
        ({}, 64),
        ({"kernel_size": 3}, 127),
        ({"dilations": (1, 5)}, 7),
        ({"dilations": ()}, 1),
    ):
        assert SequenceClassifier(2, **options).receptive_field == expected


@pytest.mark.parametrize("head", [0, 1])
def test_masked_observations_have_no_gradient(classifier, rng, head):
    mask = np.ones((1, NUM_OBS), dtype=bool)
    mask[0, [2, 11, 13, 20]] = False
    assert not dependence(classifier, rng, head, mask)[~mask[0]].any()


def test_draws_and_data_sets_do_not_mix(classifier, rng):
    codes, parameters = draw(rng)
    got = both(classifier, codes, parameters)
    for b, s in [(0, 0), (0, 2), (1, 1)]:
        alone = both(classifier, codes[[b]], parameters[[b], s : s + 1])
        assert_close(got[:, b, s], alone[:, 0, 0])
    assert np.abs(got[:, :, 0] - got[:, :, 1]).max() > 1e-3
    assert np.abs(got[:, 0] - got[:, 1]).max() > 1e-3


# --- masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leading", "trailing"), [(0, 40), (9, 0), (3, 2)])
def test_padding_changes_nothing(classifier, rng, leading, trailing):
    codes, parameters = draw(rng)
    width = ((0, 0), (leading, trailing))
    padded = np.pad(codes, (*width, (0, 0)), constant_values=100.0)
    mask = np.pad(np.ones(codes.shape[:2], dtype=bool), width)
    got = both(classifier, padded, parameters, mask)
    assert np.all(np.isfinite(got))
    got = got[..., leading : leading + NUM_OBS, :]
    assert_close(got, both(classifier, codes, parameters))


def test_padding_changes_nothing_where_observations_are_missing(classifier, rng):
    codes, parameters = draw(rng)
    mask = rng.random(codes.shape[:2]) < 0.7
    mask[:, [0, -1]] = True
    padded = np.pad(codes, ((0, 0), (4, 4), (0, 0)))
    got = both(classifier, padded, parameters, np.pad(mask, ((0, 0), (4, 4))))
    assert_close(got[..., 4:-4, :], both(classifier, codes, parameters, mask))


def test_lengths_of_each_data_set(classifier, rng):
    codes, parameters = draw(rng, batch=4)
    sizes = (NUM_OBS, 1, 2, 14)
    mask = np.arange(NUM_OBS) < np.array(sizes)[:, None]
    got = both(classifier, codes, parameters, mask)
    for b, size in enumerate(sizes):
        alone = both(classifier, codes[[b], :size], parameters[[b]])
        assert_close(got[:, [b], :, :size], alone)


def test_garbage_at_missing_observations_changes_nothing(classifier, rng):
    codes, parameters = draw(rng)
    mask = rng.random(codes.shape[:2]) < 0.6
    changed = np.where(mask[..., None], codes, 1e6).astype("float32")
    got = both(classifier, changed, parameters, mask)
    np.testing.assert_array_equal(got, both(classifier, codes, parameters, mask))


def test_time_passes_at_missing_observations(classifier, rng):
    """A gap is neither an observation with code zero nor left out."""
    codes, parameters = draw(rng)
    mask = np.arange(NUM_OBS) != MIDDLE
    codes[:, ~mask] = 0.0
    got = both(classifier, codes, parameters, np.tile(mask, (2, 1)))
    assert np.abs(got - both(classifier, codes, parameters)).max() > 1e-3
    shortened = both(classifier, codes[:, mask], parameters)
    assert np.abs(got[..., mask, :] - shortened).max() > 1e-3


def test_nothing_missing_is_no_mask(classifier, rng):
    codes, parameters = draw(rng)
    mask = np.ones(codes.shape[:2], dtype=bool)
    got = both(classifier, codes, parameters, mask)
    assert_close(got, both(classifier, codes, parameters))


def test_nothing_observed_is_finite(classifier, rng):
    codes, parameters = draw(rng)
    mask = np.zeros(codes.shape[:2], dtype=bool)
    assert np.all(np.isfinite(both(classifier, codes, parameters, mask)))


# --- outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_obs", [1, 2, 5, 1000])
def test_normalized_at_any_length(classifier, rng, num_obs):
    codes, parameters = draw(rng, num_obs=num_obs)
    got = both(classifier, codes, parameters)
    assert got.shape == (2, 2, 3, num_obs, classifier.num_components)
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(np.exp(got).sum(axis=-1), 1.0, atol=1e-5)


def test_one_at_a_time(classifier, rng):
    codes, parameters = draw(rng)
    mask = rng.random(codes.shape[:2]) < 0.6
    expected = both(classifier, codes, parameters, mask)
    assert_close(classifier.log_filtering(codes, parameters, mask), expected[0])
    assert_close(classifier.log_smoothing(codes, parameters, mask), expected[1])
    assert classifier(codes, parameters, mask=mask, smoothing=False)[1] is None


@pytest.mark.parametrize(
    ("codes", "parameters", "mask", "message"),
    [
        ((2, 7), (2, 3, 5), None, r"codes: expected shape \(B, T, E\) with E = 4, got \(2, 7\)"),
        ((2, 7, 3), (2, 3, 5), None, r"codes: .* with E = 4, got \(2, 7, 3\)"),
        ((2, 7, 4), (2, 5), None, r"parameters: expected shape \(B, S, P\) with P = 5"),
        ((2, 7, 4), (2, 3, 6), None, r"parameters: .* with P = 5, got \(2, 3, 6\)"),
        ((2, 7, 4), (1, 3, 5), None, "parameters: expected 2 data sets as in codes, got 1"),
        ((2, 7, 4), (2, 3, 5), (2, 6), r"mask: expected shape \(2, 7\), got \(2, 6\)"),
        ((2, 7, 4), (2, 3, 5), (2, 7, 1), r"mask: expected shape \(2, 7\), got \(2, 7, 1\)"),
    ],
)
def test_wrong_shapes(codes, parameters, mask, message):
    classifier = SequenceClassifier(2, dilations=(1,))
    classifier(np.ones((1, 2, 4), "float32"), np.ones((1, 2, 5), "float32"))
    mask = None if mask is None else np.ones(mask, dtype=bool)
    with pytest.raises(ValueError, match=message):
        classifier(np.ones(codes, "float32"), np.ones(parameters, "float32"), mask=mask)


@pytest.mark.parametrize(("codes", "parameters"), [((2, 7), (2, 3, 5)), ((2, 7, 4), (2, 5))])
def test_wrong_shapes_before_it_is_built(codes, parameters):
    with pytest.raises(ValueError, match="expected shape"):
        SequenceClassifier(2)(np.ones(codes, "float32"), np.ones(parameters, "float32"))


def test_wrong_options():
    with pytest.raises(ValueError, match=r"dilations: expected positive numbers, got \(1, 0\)"):
        SequenceClassifier(2, dilations=(1, 0))
    with pytest.raises(ValueError, match="kernel_size: expected at least 2, got 1"):
        SequenceClassifier(2, kernel_size=1)


# --- training and saving ----------------------------------------------------------------------


def test_gradient_everywhere(classifier, rng):
    with torch.enable_grad():
        outputs = classifier(*draw(rng))
        sum((output**2).sum() for output in outputs).backward()
    for variable in classifier.trainable_variables:
        gradient = variable.value.grad
        assert gradient is not None, variable.path
        assert torch.all(torch.isfinite(gradient)), variable.path
        assert torch.any(gradient != 0), variable.path


def test_configuration(classifier, rng):
    codes, parameters = draw(rng)
    copy = deserialize(serialize(classifier))
    copy(codes, parameters)
    copy.set_weights(classifier.get_weights())
    np.testing.assert_array_equal(
        both(copy, codes, parameters), both(classifier, codes, parameters)
    )
    assert copy.get_config() == classifier.get_config()


def two_state_transition(parameters):
    """Transition matrices of chains that stay in their states with given probabilities."""
    stay = keras.ops.convert_to_tensor(parameters["stay"])
    rows = [stay[..., 0], 1 - stay[..., 0]], [1 - stay[..., 1], stay[..., 1]]
    return keras.ops.stack([keras.ops.stack(row, axis=-1) for row in rows], axis=-2)


def simulate_chain(rng, batch, num_obs=32):
    """Chains with normal emissions and parameters of their own, their codes and exact scores."""
    parameters = {"stay": rng.uniform(0.6, 0.95, (batch, 2))}
    means = rng.uniform(0.3, 1.5, (batch, 2)) * [-1, 1]
    z = Markov(two_state_transition).sample(rng, parameters, num_obs)
    y = np.take_along_axis(means, z, axis=1) + rng.normal(size=z.shape)
    codes = np.stack([y, y**2 - 1], axis=-1).astype("float32")
    features = np.concatenate([(parameters["stay"] - 0.8) / 0.1, means], axis=-1)
    scores = -((y[..., None] - means[:, None]) ** 2) / 2
    return z, (codes, features[:, None].astype("float32")), parameters, scores


def cross_entropy(log_probabilities, z):
    log_probabilities = keras.ops.convert_to_tensor(log_probabilities)
    return -keras.ops.mean(keras.ops.take_along_axis(log_probabilities, z[..., None], axis=-1))


def test_gaps_are_learned_and_what_lies_outside_is_not(rng):
    """In a gap the state is known in training, and asked for later; before and after it is not."""
    model = GaussianHMM(num_obs=12)
    classifier = SequenceClassifier(2, width=8, rank=4, dilations=(1, 2))
    workflow = MixtureWorkflow(model, sequence_classifier=classifier, seed=1)
    data = model.simulate(5, rng=rng)
    data["mask"] = np.tile((np.arange(12) > 1) & (np.arange(12) < 10), (5, 1))
    data["mask"][:, 4:7] = False

    def loss(z):
        batch = workflow.adapter(data | {"z": z})
        return float(workflow.estimator.compute_metrics(**batch, stage="validation")["loss"])

    for t in range(12):
        changed = data["z"].copy()
        changed[:, t] = 1 - changed[:, t]
        assert (loss(changed) != loss(data["z"])) == (2 <= t < 10), t


def test_learns_filtering_and_smoothing_of_a_chain(rng):
    """Within 0.02 nats of the exact ones after a few seconds, over parameters of all kinds."""
    keras.utils.set_random_seed(1)
    classifier = SequenceClassifier(2, width=16, rank=8, dilations=(1, 2, 4, 8))
    classifier(*simulate_chain(rng, 2)[1])
    weights = [variable.value for variable in classifier.trainable_variables]
    optimizer = torch.optim.Adam(weights)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=300)
    for _ in range(300):
        z, inputs, _, _ = simulate_chain(rng, 64)
        with torch.enable_grad():
            loss = sum(cross_entropy(output[:, 0], z) for output in classifier(*inputs))
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
    z, inputs, parameters, scores = simulate_chain(rng, 1000)
    chain = Markov(two_state_transition)
    exact = chain.log_filtering(scores, parameters), chain.log_smoothing(scores, parameters)
    for learned, expected in zip(classifier(*inputs), exact, strict=True):
        difference = torch.exp(expected) * (expected - learned[:, 0])
        assert difference.sum(dim=-1).mean() < 0.02  # the expected excess, without its noise
        assert cross_entropy(learned[:, 0], z) < cross_entropy(expected, z) + 0.02
    assert cross_entropy(exact[1], z) < cross_entropy(exact[0], z) - 0.02  # or one would do
