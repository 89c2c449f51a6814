"""Chain: one question to a chain, and the arrays it is about, in the layout of the `recursions`.

There time comes first and all data sets and draws, flat, last. `Chain.flatten` and `Chain.restore`
go there and back.

Every question, such as `Chain.filtering`, is answered together with the logarithm of the sum over
all paths, because it has no answer where that is minus infinity. On JAX `ask` makes one program of
it all, which starts once and not at each operation, and on a CPU takes some data sets at a time.
"""

import functools

import keras
import numpy as np
from keras import ops

from .arithmetic import LOGARITHMS, LOWEST, MIXING, PROBABILITIES, finite, infinite
from .recursions import (
    backward,
    forward,
    forward_and_smoothed,
    is_traced,
    most_probable_path,
    on_gpu,
)

__all__ = ["Chain", "ask", "choose_arithmetic"]

AT_ONCE = 400_000  # scores of all data sets, T K M, whose arrays a CPU's cache holds


def ask(question: str, scores, transition, initial, mask, *others):
    """The answer to a question about given chains.

    Parameters
    ----------
    question : str
        The name of a method of `Chain`.
    scores : tensor or array, shape (..., T, K)
    transition : tensor, shape (..., K, K)
    initial : tensor, shape (..., K)
    mask : tensor or array of bool, broadcasts to (..., T), or None
    *others : tensor or array
        What the method takes.

    Returns
    -------
    tuple
        What the method returns; the logarithm of the sum over all paths, (...), comes last.

    Raises
    ------
    ValueError
        If scores and transition differ in K.
    """
    scores = ops.convert_to_tensor(scores)
    mask = None if mask is None else ops.cast(ops.convert_to_tensor(mask), "bool")
    if scores.shape[-1] != transition.shape[-1]:
        raise ValueError(
            f"scores: expected {transition.shape[-1]} components on the last axis, "
            f"got shape {tuple(scores.shape)}."
        )
    arithmetic = choose_arithmetic(transition, initial)
    return _program()(question, arithmetic, scores, transition, initial, mask, *others)


def choose_arithmetic(transition, initial):
    """PROBABILITIES, which are faster, if it is known that the chain mixes."""
    parts = transition, initial
    if any(is_traced(x) for x in parts):
        return LOGARITHMS
    mixes = all(float(ops.min(ops.stop_gradient(x))) >= MIXING for x in parts)
    return PROBABILITIES if mixes else LOGARITHMS


def _answer(question: str, arithmetic, scores, transition, initial, mask, *others):
    chain = Chain(scores, transition, initial, mask, arithmetic)
    return getattr(chain, question)(*others)


@functools.cache
def _program():
    """`_answer`, on JAX compiled for each question, arithmetic and set of shapes."""
    if keras.backend.backend() != "jax":
        return _answer
    import jax

    return jax.jit(_answer_in_blocks, static_argnums=(0, 1))


def _answer_in_blocks(question: str, arithmetic, scores, transition, initial, mask, *others):
    """`_answer` for blocks of data sets in turn, so that what is in between stays in cache."""
    leading = (scores.shape[:-2], transition.shape[:-2], initial.shape[:-1])
    shape = np.broadcast_shapes(*leading)
    size, most = int(np.prod(shape)), max(1, AT_ONCE // int(np.prod(scores.shape[-2:])))
    if size <= most or on_gpu():
        return _answer(question, arithmetic, scores, transition, initial, mask, *others)
    num_blocks = -(-size // most)
    num_blocks = next((n for n in range(num_blocks, 2 * num_blocks) if size % n == 0), num_blocks)
    rows = -(-size // num_blocks)

    def split(x, ndim: int):
        event = x.shape[len(x.shape) - ndim :]
        x = ops.reshape(ops.broadcast_to(x, (*shape, *event)), (size, *event))
        missing = num_blocks * rows - size
        if missing:
            x = ops.concatenate([x, x[:missing]])
        return ops.reshape(x, (num_blocks, rows, *event))

    def answer(block):
        given = [block.get(i, x) for i, x in enumerate(arrays)]
        return _answer(question, arithmetic, *given)

    arrays = scores, transition, initial, mask, *others
    ndims = 2, 2, 1, 1, *(1 for _ in others)
    own = {
        i: split(x, ndim)
        for i, (x, ndim) in enumerate(zip(arrays, ndims, strict=True))
        if x is not None and len(x.shape) > ndim  # all blocks share the others
    }
    found = ops.map(answer, own)
    return tuple(
        ops.reshape(ops.reshape(x, (-1, *x.shape[2:]))[:size], (*shape, *x.shape[2:]))
        for x in found
    )


class Chain:
    """The arrays of one question, laid out for the `recursions`; arguments as for `ask`."""

    def __init__(self, scores, transition, initial, mask, arithmetic):
        self.arithmetic = arithmetic
        if mask is not None:
            scores = ops.where(mask[..., None], scores, ops.zeros_like(scores))
        self.mask = mask
        leading = (scores.shape[:-2], transition.shape[:-2], initial.shape[:-1])
        self.shape = np.broadcast_shapes(*(tuple(shape) for shape in leading))
        self.size = int(np.prod(self.shape))
        scores = ops.broadcast_to(finite(scores), (*self.shape, *scores.shape[-2:]))
        self.scores = self.flatten(scores, 2)
        self.transition = self._parameter(transition, 2)
        self.initial = self._parameter(initial, 1)

    def _parameter(self, probabilities, ndim: int):
        if len(probabilities.shape) == ndim:  # stays without a data set axis, and broadcasts
            return probabilities[..., None]
        event = probabilities.shape[len(probabilities.shape) - ndim :]
        return self.flatten(ops.broadcast_to(probabilities, (*self.shape, *event)), ndim)

    @functools.cached_property
    def log_transition(self):
        """log A, (K, K, M) or (K, K, 1)."""
        return ops.cast(finite(ops.log(self.transition)), self.scores.dtype)

    @functools.cached_property
    def log_initial(self):
        """log p(z_1), (K, M) or (K, 1)."""
        return ops.cast(finite(ops.log(self.initial)), self.scores.dtype)

    def flatten(self, x, ndim: int):
        """(..., *event) to (*event, M), contiguous."""
        event = tuple(x.shape[len(x.shape) - ndim :])
        x = ops.moveaxis(ops.reshape(x, (self.size, *event)), 0, -1)
        return ops.reshape(ops.reshape(x, (-1,)), x.shape)  # the detour makes it contiguous

    def restore(self, x, ndim: int):
        """The inverse of `flatten`: (*event, M) to (..., *event)."""
        event = tuple(x.shape[:ndim])
        return ops.reshape(ops.moveaxis(x, -1, 0), (*self.shape, *event))

    # --- questions, as the methods of `Markov`, each with the log of the sum over all paths ---

    def log_likelihood(self):
        """Of the data; that sum is the answer."""
        return (self._restore_sum(self._log_sums()[0]),)

    def log_filtering(self):
        """Given what came up to there, as logarithms."""
        log_alpha, log_sum = forward(self.log_initial, self.log_transition, self.scores)
        return self._restore_logs(log_alpha), self._restore_sum(log_sum)

    def log_prediction(self):
        """Of the next state, given what came before it."""
        log_alpha, log_sum = forward(self.log_initial, self.log_transition, self.scores)
        following = ops.logsumexp(log_alpha[:, :, None] + self.log_transition, axis=1)
        return self._restore_logs(following), self._restore_sum(log_sum)

    def log_backward_filtering(self):
        """Given what comes from there on."""
        log_beta = backward(self.log_transition, self.scores)
        nothing = ops.zeros_like(self.scores)
        log_marginal, _ = forward(self.log_initial, self.log_transition, nothing)
        found = self._restore_logs(log_marginal + self.scores + log_beta)
        return found, *self.log_likelihood()

    def log_smoothing(self):
        """Given all of the sequence."""
        log_alpha, log_sum = forward(self.log_initial, self.log_transition, self.scores)
        log_beta = backward(self.log_transition, self.scores)
        return self._restore_logs(log_alpha + log_beta), self._restore_sum(log_sum)

    def log_pairwise_smoothing(self):
        """Of two neighbours, given all of the sequence."""
        log_alpha, log_sum = forward(self.log_initial, self.log_transition, self.scores)
        ahead = (self.scores + backward(self.log_transition, self.scores))[1:]
        joint = log_alpha[:-1, :, None] + self.log_transition + ahead[:, None]
        joint = joint - ops.logsumexp(joint, axis=(1, 2), keepdims=True)
        return self.restore(infinite(joint), 3), self._restore_sum(log_sum)

    def filtering(self):
        """Given what came up to there."""
        initial, transition, weights, taken_out = self._terms(self.scores)
        alpha, log_sum = forward(initial, transition, weights, self.arithmetic)
        found = self.arithmetic.probabilities(alpha, axis=1)
        return self.restore(found, 2), self._restore_sum(log_sum + taken_out)

    def filtering_and_smoothing(self):
        """Both recursions at once, for two answers."""
        initial, transition, weights, taken_out = self._terms(self.scores)
        *both, log_sum = forward_and_smoothed(initial, transition, weights, self.arithmetic)
        found = (self.restore(self.arithmetic.probabilities(x, axis=1), 2) for x in both)
        return *found, self._restore_sum(log_sum + taken_out)

    def log_prob(self, z):
        """Of paths z, int (..., T)."""
        agrees = z[..., None] == ops.arange(self.scores.shape[1], dtype="int32")
        if self.mask is not None:
            agrees = ops.logical_or(agrees, ops.logical_not(self.mask)[..., None])
        event = self.scores.shape[:2]
        agrees = self.flatten(ops.broadcast_to(agrees, (*self.shape, *event)), 2)
        log_sum, log_path = self._log_sums(ops.where(agrees, self.scores, LOWEST))
        found = self.restore(infinite(log_path - log_sum), 0)
        return found, self._restore_sum(log_sum)

    def most_probable_path(self):
        """The Viterbi path."""
        path = most_probable_path(self.log_initial, self.log_transition, self.scores)
        return self.restore(path, 1), *self.log_likelihood()

    # --- what these share ---------------------------------------------------------------------

    def _log_sums(self, *others):
        """log sums over paths, (M,) each, for the chain's scores and for others, in one pass."""
        repeats = 1 + len(others)
        initial, transition, weights, taken_out = self._terms(
            ops.concatenate([self.scores, *others], axis=2)
        )
        initial, transition = (
            x if x.shape[-1] == 1 else ops.concatenate([x] * repeats, axis=-1)
            for x in (initial, transition)
        )
        log_sum = forward(initial, transition, weights, self.arithmetic)[1]
        return ops.split(log_sum + taken_out, repeats)

    def _terms(self, scores):
        """p(z_1), A and exp f_t in the chain's arithmetic, and what was taken out of f, (M,)."""
        if self.arithmetic is LOGARITHMS:
            return self.log_initial, self.log_transition, scores, 0.0
        initial, transition = (ops.cast(x, scores.dtype) for x in (self.initial, self.transition))
        scaled, taken_out = LOGARITHMS.scale(scores, axis=1)
        return initial, transition, ops.exp(scaled), ops.sum(taken_out, axis=(0, 1))

    def _restore_sum(self, log_sum):
        return self.restore(infinite(log_sum), 0)

    def _restore_logs(self, log_terms):
        """Logarithms of probabilities that sum to one over the states, (..., T, K)."""
        log_terms = log_terms - ops.logsumexp(log_terms, axis=1, keepdims=True)
        return self.restore(infinite(log_terms), 2)
