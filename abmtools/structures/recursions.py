r"""Recursions along a chain, in the log domain.

For scores :math:`f_{tk}`, a transition matrix A and an initial distribution :math:`\rho`

.. math::
    \alpha_1(k) &= \rho_k \, e^{f_{1k}}, &
    \alpha_t(k) &= e^{f_{tk}} \sum_j \alpha_{t-1}(j) \, A_{jk} \\
    \beta_T(j) &= 1, &
    \beta_t(j) &= \sum_k A_{jk} \, e^{f_{t+1,k}} \, \beta_{t+1}(k)

(Rabiner, 1989, section III.A). Both shrink or grow exponentially in t, so each step takes out its
largest term: what is returned is :math:`\log \alpha_t` and :math:`\log \beta_t` up to a constant
per time point, and for :math:`\alpha` the sum of those constants too. Differences between states
then keep their full precision for any T and any scale of the scores.

A probability of zero has the logarithm `LOWEST`, which is finite, so that differences and gradients
exist, and so low that its exponential is zero beside any other; `finite` and `infinite` convert.

Arrays have time first and data sets last, (T, K, M), because each step reduces the short axis K,
which vectorizes well only where M runs fastest in memory. Parameters without a data set axis have
M = 1 and broadcast.
"""

import numpy as np
from keras import ops

__all__ = ["backward", "finite", "forward", "infinite", "most_probable_path"]

LOWEST = -1e30


def finite(log_terms):
    """Terms with minus infinity replaced by `LOWEST`."""
    return ops.clip(log_terms, LOWEST, np.inf)


def infinite(log_terms):
    """Terms with what came from `LOWEST` replaced by minus infinity."""
    return ops.where(log_terms < LOWEST / 2, ops.cast(-np.inf, log_terms.dtype), log_terms)


def forward(log_initial, log_transition, scores):
    """log alpha_t up to a constant per time point, and the log of the sum over all paths.

    Parameters
    ----------
    log_initial : tensor, shape (K, M)
    log_transition : tensor, shape (K, K, M)
        From the first axis to the second.
    scores : tensor, shape (T, K, M)

    Returns
    -------
    log_alpha : tensor, shape (T, K, M)
        With maximum zero over K.
    log_sum : tensor, shape (M,)
        log sum_z p(z) prod_t exp f_t(z_t).
    """

    def step(predicted, score):
        log_alpha, largest = _take_out_largest(predicted + score)
        predicted = ops.logsumexp(log_alpha[:, None] + log_transition, axis=0)
        return predicted, (log_alpha, largest)

    start = ops.broadcast_to(log_initial, scores.shape[1:])
    _, (log_alpha, largest) = ops.scan(step, start, scores)
    return log_alpha, ops.sum(largest, axis=0) + ops.logsumexp(log_alpha[-1], axis=0)


def backward(log_transition, scores):
    """log beta_t up to a constant per time point, (T, K, M); arguments as for `forward`."""

    def step(log_beta, score):
        previous = ops.logsumexp(log_transition + (score + log_beta)[None], axis=1)
        return _take_out_largest(previous)[0], log_beta

    return ops.scan(step, ops.zeros_like(scores[0]), scores, reverse=True)[1]


def most_probable_path(log_initial, log_transition, scores):
    r"""The path that maximizes log p(z) + sum_t f_t(z_t), by the Viterbi algorithm: int (T, M).

    The recursion of :math:`\alpha` with the largest term instead of the sum; pointers remember
    which term that was. Ties go to the first state. Arguments as for `forward`.
    """

    def step(carry, score):
        predicted, pointers = carry
        log_alpha, _ = _take_out_largest(predicted + score)
        terms = log_alpha[:, None] + log_transition
        return (ops.max(terms, axis=0), ops.argmax(terms, axis=0)), (log_alpha, pointers)

    def backtrack(state, pointers):
        return ops.take_along_axis(pointers, state[None], axis=0)[0], state

    start = ops.broadcast_to(log_initial, scores.shape[1:])
    _, (log_alpha, pointers) = ops.scan(step, (start, ops.zeros_like(start, "int32")), scores)
    return ops.scan(backtrack, ops.argmax(log_alpha[-1], axis=0), pointers, reverse=True)[1]


def _take_out_largest(terms):
    """Terms (K, M) with maximum zero over K, and what was taken out, (M,).

    That constant drops out of every result, so no gradient flows through it.
    """
    largest = ops.stop_gradient(ops.max(terms, axis=0))
    return terms - largest, largest
