"""Markov: every result against an enumeration of all K^T paths, and against hmmlearn."""

import itertools

import numpy as np
import pytest
import torch
from conftest import to_numpy
from hmmlearn import hmm
from keras import ops
from scipy.special import logsumexp
from scipy.stats import chisquare

from abmtools import Independent, Markov, persistent
from abmtools.structures import chain, recursions
from abmtools.structures.arithmetic import LOGARITHMS, MIXING, PROBABILITIES
from abmtools.structures.transitions import stationary


@pytest.fixture(autouse=True, params=["steps", "steps apart", "rounds"])
def few(request, monkeypatch):
    """Recursions step by step, both together or apart, and by products: results are the same."""
    monkeypatch.setattr(recursions, "FEW", 10**9 if request.param == "rounds" else 0)
    monkeypatch.setattr(recursions, "MANY", 0 if request.param == "steps apart" else 10**9)


class Enumeration:
    """Brute force over z for one sequence: initial (K,), transition (K, K), scores (T, K)."""

    def __init__(self, initial, transition, scores):
        self.num_obs, self.num_components = scores.shape
        sizes = range(self.num_components)
        self.paths = np.array(list(itertools.product(sizes, repeat=self.num_obs)))
        self.initial, self.transition, self.scores = initial, transition, scores
        self.log_joint = self.log_weight(0, self.num_obs)
        self.log_likelihood = logsumexp(self.log_joint)
        self.log_prob = self.log_joint - self.log_likelihood

    def log_weight(self, first, last):
        """log p(z) plus the scores of time points first, ..., last - 1, for every path."""
        with np.errstate(divide="ignore"):
            log_initial, log_transition = np.log(self.initial), np.log(self.transition)
        chain = log_initial[self.paths[:, 0]]
        for t in range(1, self.num_obs):
            chain = chain + log_transition[self.paths[:, t - 1], self.paths[:, t]]
        for t in range(first, last):
            chain = chain + self.scores[t, self.paths[:, t]]
        return chain

    def marginal(self, t, log_weight):
        """The distribution of z_t under path weights."""
        states = [logsumexp(log_weight[self.paths[:, t] == k]) for k in range(self.num_components)]
        return np.exp(states - logsumexp(states))

    def filtering(self):
        return [self.marginal(t, self.log_weight(0, t + 1)) for t in range(self.num_obs)]

    def prediction(self):
        return [row @ self.transition for row in self.filtering()]

    def backward_filtering(self):
        return [self.marginal(t, self.log_weight(t, self.num_obs)) for t in range(self.num_obs)]

    def smoothing(self):
        return [self.marginal(t, self.log_joint) for t in range(self.num_obs)]

    def pairwise_smoothing(self):
        indicator = self.paths[:, :, None] == np.arange(self.num_components)
        before, after = indicator[:, :-1], indicator[:, 1:]
        return np.einsum("p,ptj,ptk->tjk", np.exp(self.log_prob), before, after)


STRUCTURE = Markov("transition", "initial")
SIZES = [(2, 1), (2, 2), (2, 8), (3, 3), (3, 7)]


def draw_chain(rng, k, *leading):
    return {
        "initial": rng.dirichlet(np.ones(k), leading),
        "transition": rng.dirichlet(np.ones(k), (*leading, k)),
    }


@pytest.fixture(params=SIZES, ids=lambda size: f"K{size[0]}-T{size[1]}")
def problem(request, rng):
    """Parameters with leading axes (2, 3) and scores (2, 3, T, K)."""
    k, num_obs = request.param
    return draw_chain(rng, k, 2, 3), 2.0 * rng.normal(size=(2, 3, num_obs, k))


DISTRIBUTIONS = ["filtering", "prediction", "backward_filtering", "smoothing", "pairwise_smoothing"]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions(problem, name):
    parameters, scores = problem
    got = to_numpy(getattr(STRUCTURE, f"log_{name}")(scores, parameters))
    assert got.dtype == np.float64
    for index in np.ndindex(2, 3):
        oracle = Enumeration(
            parameters["initial"][index], parameters["transition"][index], scores[index]
        )
        expected = np.reshape(getattr(oracle, name)(), got[index].shape)
        np.testing.assert_allclose(np.exp(got[index]), expected, atol=1e-12)


def test_filtering_and_smoothing_at_once(problem):
    parameters, scores = problem
    for name, got in zip(
        ("filtering", "smoothing"),
        STRUCTURE.filtering_and_smoothing(scores, parameters),
        strict=True,
    ):
        expected = getattr(STRUCTURE, name)(scores, parameters)
        np.testing.assert_allclose(to_numpy(got), to_numpy(expected), atol=1e-14)


def _arithmetic(structure, parameters):
    return chain.choose_arithmetic(
        structure.transition_matrix(parameters), structure.initial_probabilities(parameters)
    )


def test_arithmetics_agree(problem, monkeypatch, rng):
    """What is computed with probabilities is what is computed with logarithms."""
    parameters, scores = problem
    z = rng.integers(scores.shape[-1], size=scores.shape[:-1])
    found = []
    for mixing, arithmetic in ((MIXING, PROBABILITIES), (np.inf, LOGARITHMS)):
        monkeypatch.setattr(chain, "MIXING", mixing)
        assert _arithmetic(STRUCTURE, parameters) is arithmetic
        both = STRUCTURE.filtering_and_smoothing(scores, parameters)
        likelihood = STRUCTURE.log_likelihood(scores, parameters)
        filtering = STRUCTURE.filtering(scores, parameters)
        found.append([*both, filtering, likelihood, STRUCTURE.log_prob(z, scores, parameters)])
    for probabilities, logarithms in zip(*found, strict=True):
        np.testing.assert_allclose(to_numpy(probabilities), to_numpy(logarithms), atol=1e-12)


def test_likelihood_and_paths(problem):
    parameters, scores = problem
    log_likelihood = to_numpy(STRUCTURE.log_likelihood(scores, parameters))
    best = to_numpy(STRUCTURE.most_probable_path(scores, parameters))
    for index in np.ndindex(2, 3):
        own = {name: value[index] for name, value in parameters.items()}
        oracle = Enumeration(own["initial"], own["transition"], scores[index])
        np.testing.assert_allclose(log_likelihood[index], oracle.log_likelihood, rtol=1e-12)
        log_prob = to_numpy(STRUCTURE.log_prob(oracle.paths, scores[index], own))
        np.testing.assert_allclose(log_prob, oracle.log_prob, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(best[index], oracle.paths[oracle.log_prob.argmax()])


def test_masked_observations_are_summed_out(rng):
    """Masked at the start, in the middle and at the end; z there does not count."""
    parameters, scores = draw_chain(rng, 3), rng.normal(size=(6, 3))
    mask = np.array([False, True, True, False, True, False])
    garbage = np.where(mask[:, None], scores, np.nan)
    oracle = Enumeration(
        parameters["initial"], parameters["transition"], np.where(mask[:, None], scores, 0.0)
    )
    for name in DISTRIBUTIONS:
        got = to_numpy(getattr(STRUCTURE, f"log_{name}")(garbage, parameters, mask))
        np.testing.assert_allclose(np.exp(got), getattr(oracle, name)(), atol=1e-12)
    z = rng.integers(3, size=6)
    agrees = np.all((oracle.paths == z) | ~mask, axis=1)
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.log_prob(z, garbage, parameters, mask)),
        logsumexp(oracle.log_prob[agrees]),
    )
    z[~mask] = 0
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.log_prob(z, garbage, parameters, mask)),
        logsumexp(oracle.log_prob[agrees]),
    )


def test_sequences_of_different_length(rng):
    """Padding behind the end changes nothing before it."""
    lengths = (5, 1, 3)
    parameters, scores = draw_chain(rng, 2, 3), rng.normal(size=(3, 5, 2))
    mask = np.arange(5) < np.array(lengths)[:, None]
    z = rng.integers(2, size=(3, 5))
    for row, length in enumerate(lengths):
        own = {name: value[row] for name, value in parameters.items()}
        short, path = scores[row, :length], z[row, :length]
        for name in ("log_filtering", "log_smoothing", "log_backward_filtering", "log_prediction"):
            together = to_numpy(getattr(STRUCTURE, name)(scores, parameters, mask))
            alone = to_numpy(getattr(STRUCTURE, name)(short, own))
            np.testing.assert_allclose(together[row, :length], alone, atol=1e-12, err_msg=name)
        together = to_numpy(STRUCTURE.log_prob(z, scores, parameters, mask))
        np.testing.assert_allclose(together[row], to_numpy(STRUCTURE.log_prob(path, short, own)))
        together = to_numpy(STRUCTURE.most_probable_path(scores, parameters, mask))
        np.testing.assert_array_equal(
            together[row, :length], to_numpy(STRUCTURE.most_probable_path(short, own))
        )


def test_against_hmmlearn(rng):
    """An independent implementation: scaled forward-backward and Viterbi, T = 300, K = 4."""
    parameters, means = draw_chain(rng, 4), 1.5 * np.arange(4.0)
    y = rng.normal(size=300) + rng.choice(means, size=300)
    reference = hmm.GaussianHMM(4, "diag", params="", init_params="")
    reference.startprob_, reference.transmat_ = parameters["initial"], parameters["transition"]
    reference.means_, reference.covars_ = means[:, None], np.ones((4, 1))
    scores = -0.5 * (y[:, None] - means) ** 2 - 0.5 * np.log(2 * np.pi)
    log_likelihood, smoothing = reference.score_samples(y[:, None])
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.log_likelihood(scores, parameters)), log_likelihood, rtol=1e-10
    )
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.smoothing(scores, parameters)), smoothing, atol=1e-8
    )
    log_path, path = reference.decode(y[:, None])
    np.testing.assert_array_equal(to_numpy(STRUCTURE.most_probable_path(scores, parameters)), path)
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.log_prob(path, scores, parameters)) + log_likelihood, log_path
    )


def test_equal_rows_are_independent(problem):
    parameters, scores = problem
    weights = parameters["initial"]
    k = weights.shape[-1]
    rows = np.broadcast_to(weights[..., None, :], (*weights.shape, k))
    chain = {"initial": weights, "transition": rows}
    independent = Independent("weights")
    expected = to_numpy(independent.membership(scores, {"weights": weights}))
    for name in ("filtering", "smoothing", "membership"):
        got = to_numpy(getattr(STRUCTURE, name)(scores, chain))
        np.testing.assert_allclose(got, expected, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(
        to_numpy(STRUCTURE.log_likelihood(scores, chain)),
        to_numpy(independent.log_likelihood(scores, {"weights": weights})),
    )


def test_relabelling(problem, rng):
    parameters, scores = problem
    order = rng.permutation(scores.shape[-1])
    after = {
        "initial": parameters["initial"][..., order],
        "transition": parameters["transition"][..., order, :][..., order],
    }
    for name in ("filtering", "smoothing", "log_backward_filtering"):
        np.testing.assert_allclose(
            to_numpy(getattr(STRUCTURE, name)(scores[..., order], after)),
            to_numpy(getattr(STRUCTURE, name)(scores, parameters))[..., order],
            atol=1e-12,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_sequences_and_large_scores(rng, dtype):
    parameters = {name: x.astype(dtype) for name, x in draw_chain(rng, 2).items()}
    scores = (100.0 * rng.normal(size=(10_000, 2))).astype(dtype)
    for name in ("filtering", "smoothing", "log_pairwise_smoothing", "log_backward_filtering"):
        got = to_numpy(getattr(STRUCTURE, name)(scores, parameters))
        got = np.exp(got) if name.startswith("log_") else got
        assert np.all(np.isfinite(got))
        axes = (1, 2) if "pairwise" in name else 1
        np.testing.assert_allclose(got.sum(axis=axes), 1.0, atol=1e-5)
    log_likelihood = to_numpy(STRUCTURE.log_likelihood(scores, parameters))
    exact = Markov("transition", "initial").log_likelihood(
        scores.astype("float64"), {name: x.astype("float64") for name, x in parameters.items()}
    )
    np.testing.assert_allclose(log_likelihood, to_numpy(exact), rtol=1e-5)


def test_improbable_states_come_back(rng):
    """A state of filtered probability exp(-2000) is not lost for what follows."""
    scores = np.array([[0.0, -2000.0], [-5000.0, 0.0], [0.0, 0.0]])
    oracle = Enumeration(np.array([0.5, 0.5]), np.eye(2), scores)
    got = to_numpy(Markov(np.eye(2)).smoothing(scores, {}))
    np.testing.assert_allclose(got, oracle.smoothing(), atol=1e-12)
    np.testing.assert_allclose(got, [[0, 1]] * 3, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_improbable_states_come_back_in_a_chain_that_just_mixes(dtype):
    """Lost in single precision, and in the end the most probable."""
    transition = np.array([[1 - 2e-12, 2e-12], [2e-12, 1 - 2e-12]])
    scores = np.array([[0.0, -150.0], [0.0, -150.0], [-400.0, 0.0], [0.0, -150.0], [-400.0, 0.0]])
    oracle = Enumeration(np.array([0.5, 0.5]), transition, scores)
    given = scores.astype(dtype), {"A": transition.astype(dtype)}
    structure = Markov("A")
    for name in ("filtering", "smoothing"):
        got = to_numpy(getattr(structure, name)(*given))
        np.testing.assert_allclose(got, getattr(oracle, name)(), atol=1e-6)
    got = to_numpy(structure.log_likelihood(*given))
    np.testing.assert_allclose(got, oracle.log_likelihood, rtol=1e-6)
    assert _arithmetic(structure, given[1]) is PROBABILITIES


def test_impossible_states_stay_impossible(rng):
    scores = rng.normal(size=(5, 3))
    scores[1, 2] = scores[3, 0] = -np.inf
    transition = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])  # left to right
    initial = np.array([1.0, 0.0, 0.0])
    structure, oracle = Markov(transition, initial), Enumeration(initial, transition, scores)
    for name in DISTRIBUTIONS[:-1]:
        got = np.exp(to_numpy(getattr(structure, f"log_{name}")(scores, {})))
        if name != "backward_filtering":
            assert not np.any(got[(1, 3), (2, 0)] if name != "prediction" else 0)
        np.testing.assert_allclose(got, getattr(oracle, name)(), atol=1e-12, err_msg=name)
    assert to_numpy(structure.log_prob([2, 2, 2, 2, 2], scores, {})) == -np.inf
    paths = structure.draw(np.broadcast_to(scores, (500, 5, 3)), {}, rng=rng)
    assert np.all(np.diff(paths, axis=1) >= 0)
    assert not np.any(paths[:, 1] == 2)
    assert not np.any(paths[:, 3] == 0)


METHODS = {
    "log_filtering": {}, "filtering": {}, "log_prediction": {}, "log_backward_filtering": {},
    "log_smoothing": {}, "smoothing": {}, "log_pairwise_smoothing": {}, "most_probable_path": {},
    "filtering_and_smoothing": {}, "draw": {"rng": np.random.default_rng(0)},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [-np.inf, np.nan])
def test_impossible_sequences_are_refused(name, bad, rng):
    scores = rng.normal(size=(2, 4, 2))
    scores[1, 2] = bad
    with pytest.raises(ValueError, match=r"no path .* for 1 of 2 sequences, .* at index \[1\]"):
        getattr(Markov(np.full((2, 2), 0.5)), name)(scores, {}, **METHODS[name])


def test_impossible_sequence_has_likelihood_zero():
    scores = np.full((3, 2), -np.inf)
    assert to_numpy(Markov(np.full((2, 2), 0.5)).log_likelihood(scores, {})) == -np.inf
    with pytest.raises(ValueError, match="no path"):
        Markov(np.full((2, 2), 0.5)).log_prob([0, 0, 0], scores, {})


# --- paths ------------------------------------------------------------------------------------


def test_drawn_paths_agree_with_pairwise_smoothing(rng):
    parameters, scores = draw_chain(rng, 3), rng.normal(size=(4, 3))
    mask = np.array([True, True, False, True])
    oracle = Enumeration(
        parameters["initial"], parameters["transition"], np.where(mask[:, None], scores, 0.0)
    )
    tiled = np.broadcast_to(scores, (20_000, 4, 3))
    paths = STRUCTURE.draw(tiled, parameters, mask, rng=rng)
    assert paths.shape == (20_000, 4)
    counts = np.unique_counts(paths @ 3 ** np.arange(4)[::-1])
    observed = np.zeros(81)
    observed[counts.values] = counts.counts
    assert chisquare(observed, 20_000 * np.exp(oracle.log_prob)).pvalue > 1e-3
    pairs = np.exp(to_numpy(STRUCTURE.log_pairwise_smoothing(scores, parameters, mask)))
    for t in range(3):
        observed = np.bincount(3 * paths[:, t] + paths[:, t + 1], minlength=9)
        assert chisquare(observed, 20_000 * pairs[t].ravel()).pvalue > 1e-3


def test_draws_are_repeatable(rng):
    parameters, scores = draw_chain(rng, 3, 4), rng.normal(size=(4, 5, 3))
    paths = [STRUCTURE.draw(scores, parameters, rng=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*paths)


def test_simulated_paths(rng):
    """Frequencies of the first state and of the transitions are those of the chain."""
    parameters = draw_chain(rng, 3, 2)
    many = {name: np.repeat(x, 3000, axis=0) for name, x in parameters.items()}
    z = STRUCTURE.sample(rng, many, 6).reshape(2, 3000, 6)
    assert z.dtype.kind == "i"
    for row in range(2):
        first = np.bincount(z[row, :, 0], minlength=3)
        assert chisquare(first, 3000 * parameters["initial"][row]).pvalue > 1e-3
        for j in range(3):
            following = z[row, :, 1:][z[row, :, :-1] == j]
            expected = len(following) * parameters["transition"][row, j]
            assert chisquare(np.bincount(following, minlength=3), expected).pvalue > 1e-3


# --- how a chain may be given -----------------------------------------------------------------


def test_parts_of_the_chain(rng):
    """Fixed, named, computed and stationary parts, with and without leading axes."""
    stay, scores = rng.uniform(0.2, 0.9, (2, 3, 2)), rng.normal(size=(2, 3, 5, 2))
    transition = np.zeros((2, 3, 2, 2))
    transition[..., 0, 0], transition[..., 1, 1] = stay[..., 0], stay[..., 1]
    transition[..., 0, 1], transition[..., 1, 0] = 1 - stay[..., 0], 1 - stay[..., 1]
    leave = 1 - stay
    invariant = leave[..., ::-1] / leave.sum(axis=-1, keepdims=True)
    computed = Markov(lambda parameters: persistent(parameters["stay"]), "stationary")
    named = Markov("transition", "initial")
    np.testing.assert_allclose(
        to_numpy(computed.smoothing(scores, {"stay": stay})),
        to_numpy(named.smoothing(scores, {"transition": transition, "initial": invariant})),
        atol=1e-12,
    )
    rows = {"from_0": transition[..., 0, :], "from_1": transition[..., 1, :]}
    np.testing.assert_allclose(
        to_numpy(Markov(list(rows), "stationary").smoothing(scores, rows)),
        to_numpy(computed.smoothing(scores, {"stay": stay})),
        atol=1e-12,
    )
    fixed = Markov(transition[0, 0], "uniform")
    uniform = {"transition": transition[0, 0], "initial": np.array([0.5, 0.5])}
    np.testing.assert_allclose(
        to_numpy(fixed.smoothing(scores, {})), to_numpy(named.smoothing(scores, uniform))
    )


def test_persistent():
    expected = [[0.7, 0.15, 0.15], [0.25, 0.5, 0.25], [0.05, 0.05, 0.9]]
    np.testing.assert_allclose(to_numpy(persistent([0.7, 0.5, 0.9])), expected, atol=1e-7)


def test_stationary_distribution(rng):
    parameters = draw_chain(rng, 4, 3)
    pi = to_numpy(Markov("transition", "stationary").initial_probabilities(parameters))
    np.testing.assert_allclose(np.einsum("bj,bjk->bk", pi, parameters["transition"]), pi)
    np.testing.assert_allclose(pi.sum(axis=-1), 1.0)
    periodic = Markov([[0.0, 1.0], [1.0, 0.0]], "stationary")
    np.testing.assert_allclose(to_numpy(periodic.initial_probabilities({})), [0.5, 0.5])
    absorbing = Markov([[0.5, 0.5], [0.0, 1.0]], "stationary")
    np.testing.assert_allclose(to_numpy(absorbing.initial_probabilities({})), [0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="more than one stationary distribution"):
        Markov(np.eye(2), "stationary").initial_probabilities({})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stationary_distribution_of_sparse_rows(rng, dtype):
    """Small probabilities are as exact as large ones, and diagonals of one are no traps."""
    rows = rng.dirichlet(np.full(3, 0.1), (2000, 3))
    rows = np.maximum(rows, 1e-18)
    rows[:, 0] = [1.0, 1e-12, 1e-13]
    pi = to_numpy(stationary(ops.convert_to_tensor(rows.astype(dtype))))
    # by the spanning trees that lead to each state (the Markov chain tree theorem)
    a = rows.astype(dtype).astype("longdouble")
    trees = [
        a[:, j, i] * a[:, k, i] + a[:, j, k] * a[:, k, i] + a[:, k, j] * a[:, j, i]
        for i, j, k in ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    ]
    exact = np.stack(trees, axis=-1) / np.sum(trees, axis=0)[:, None]
    np.testing.assert_allclose(
        pi, exact.astype("float64"), rtol=2e-6 if dtype == "float32" else 1e-13
    )


def test_stationary_distribution_of_one_class_among_others():
    """Transient states have probability zero, wherever they stand."""
    a = np.array([[0.2, 0.3, 0.5], [0.0, 0.4, 0.6], [0.0, 0.7, 0.3]])
    for order in itertools.permutations(range(3)):
        pi = to_numpy(stationary(ops.convert_to_tensor(a[np.ix_(order, order)])))
        np.testing.assert_allclose(pi, np.array([0, 7, 6])[list(order)] / 13, rtol=1e-12)
    two_ends = np.array([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    for order in itertools.permutations(range(3)):
        chain_of = ops.convert_to_tensor(two_ends[np.ix_(order, order)])
        with pytest.raises(ValueError, match="more than one stationary distribution"):
            stationary(chain_of)


def test_number_of_components(rng):
    assert STRUCTURE.num_components(draw_chain(rng, 3, 2)) == 3
    assert Markov(np.eye(2)).num_components({"mu": np.zeros((2, 2))}) == 2
    assert Markov(["a", "b"], "rho").simplex_parameters == ["a", "b", "rho"]
    with pytest.raises(ValueError, match=r"a parameter named 'transition' in the prior, got \[\]"):
        Markov().num_components({})
    with pytest.raises(ValueError, match="initial has 3 components, transition 2"):
        Markov(np.eye(2), [0.2, 0.3, 0.5]).num_components({})
    for wrong in (np.full((2, 3, 3), 0.5), np.full((2, 2, 3), 1 / 3), np.full((2, 3), 1 / 3)):
        with pytest.raises(ValueError, match="structure: transition: expected probabilities"):
            STRUCTURE.num_components({"transition": wrong, "initial": np.full((2, 3), 1 / 3)})


@pytest.mark.parametrize(
    "transition", [[[0.5, 0.6], [0.5, 0.5]], [[1.5, -0.5], [0, 1]], [[0.5, 0.5]], [np.nan] * 2]
)
def test_bad_fixed_transition(transition):
    with pytest.raises(ValueError, match="transition: expected"):
        Markov(transition)


@pytest.mark.parametrize("initial", [[0.5, 0.6], [1.5, -0.5], [[0.5, 0.5]], 1.0])
def test_bad_fixed_initial(initial):
    with pytest.raises(ValueError, match="initial: expected"):
        Markov("transition", initial)


def test_wrong_number_of_scores(rng):
    with pytest.raises(ValueError, match=r"scores: expected 2 components .* got shape \(4, 3\)"):
        Markov(np.eye(2)).smoothing(rng.normal(size=(4, 3)), {})


# --- training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("possible", [True, False])
def test_gradient_of_log_prob(rng, possible):
    """The gradient of log q(z | y) in the scores is the indicator minus the smoothing."""
    parameters = draw_chain(rng, 3)
    if not possible:  # a chain that cannot go back
        parameters["transition"] = np.array([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6], [0.0, 0.0, 1.0]])
        parameters["initial"] = np.array([1.0, 0.0, 0.0])
    scores = torch.tensor(rng.normal(size=(2, 5, 3)), requires_grad=True)
    z = np.array([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2]])
    mask = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], dtype=bool)
    with torch.enable_grad():
        STRUCTURE.log_prob(z, scores, parameters, mask).sum().backward()
    given = to_numpy(scores)
    clamped = np.where((np.eye(3)[z] > 0) | ~mask[..., None], given, -np.inf)
    numerator = to_numpy(STRUCTURE.smoothing(np.where(mask[..., None], clamped, 0), parameters))
    # where a masked indicator is summed out its scores are not used at all
    expected = numerator - to_numpy(STRUCTURE.smoothing(given, parameters, mask))
    np.testing.assert_allclose(to_numpy(scores.grad), expected * mask[..., None], atol=1e-10)


def test_gradient_reaches_the_chain(rng):
    """The gradient of the likelihood in log A is the expected number of transitions."""
    transition = torch.tensor(rng.dirichlet([1, 1], 2), requires_grad=True)
    scores = rng.normal(size=(6, 2))
    with torch.enable_grad():
        Markov("transition").log_likelihood(scores, {"transition": transition}).backward()
    fixed = Markov(to_numpy(transition))
    expected = np.exp(to_numpy(fixed.log_pairwise_smoothing(scores, {}))).sum(axis=0)
    np.testing.assert_allclose(to_numpy(transition.grad) * to_numpy(transition), expected)


def test_repr():
    assert repr(Markov("A", "rho")) == "Markov(transition='A', initial='rho')"
    assert ops.shape(Markov(np.eye(2)).transition_matrix({})) == (2, 2)
