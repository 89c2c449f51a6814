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

A step waits for the one before, which costs a call for each of T steps. But :math:`\alpha_t` is a
row of the product :math:`L_1 L_2 \cdots L_t` of matrices
:math:`L_t(j, k) = A_{jk} \, e^{f_{tk}}`, with :math:`\rho_k` for :math:`A_{jk}` in the first, and
products are associative: all of them are found in :math:`\log_2 T` rounds, each of which multiplies
the product that ends at t by the one that ends where it begins (Hillis & Steele, 1986). That is K
times the work in far fewer calls, and faster for few data sets, and on a GPU for many.

Arrays have time first and data sets last, (T, K, M), because each step reduces the short axis K,
which vectorizes well only where M runs fastest in memory. Parameters without a data set axis have
M = 1 and broadcast.
"""

import functools

import keras
import numpy as np
from keras import ops

__all__ = ["backward", "both_ways", "finite", "forward", "infinite", "most_probable_path"]

LOWEST = -1e30
FEW = 1000  # M K^3 up to which products in rounds are faster than steps (T = 100, torch, CPU)
FEW_ON_GPU = 2**28  # T M K^3 up to which they are on a GPU, where they still fit: 1 GiB in float32


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
    if _are_few(scores):
        first = ops.broadcast_to(
            (log_initial + scores[0])[None], (*scores.shape[1:2], *scores.shape[1:])
        )
        rest = log_transition[None] + scores[1:, None]
        products, taken_out = _products(ops.concatenate([first[None], rest]))
        log_alpha, largest = _take_out_largest(products[:, 0], axis=1)
        last = largest[-1] + taken_out[-1] + ops.logsumexp(log_alpha[-1], axis=0)
        return log_alpha, last

    def step(predicted, score):
        log_alpha, largest = _take_out_largest(predicted + score)
        predicted = ops.logsumexp(log_alpha[:, None] + log_transition, axis=0)
        return predicted, (log_alpha, largest)

    start = ops.broadcast_to(log_initial, scores.shape[1:])
    _, (log_alpha, largest) = ops.scan(step, start, scores)
    return log_alpha, ops.sum(largest, axis=0) + ops.logsumexp(log_alpha[-1], axis=0)


def backward(log_transition, scores):
    """log beta_t up to a constant per time point, (T, K, M); arguments as for `forward`."""
    last = ops.zeros_like(scores[:1])
    if len(scores) == 1:
        return last
    if _are_few(scores):
        products, _ = _products(log_transition[None] + scores[1:, None], reverse=True)
        log_beta, _ = _take_out_largest(ops.logsumexp(products, axis=2), axis=1)
        return ops.concatenate([log_beta, last])

    def step(log_beta, score):
        previous = ops.logsumexp(log_transition + (score + log_beta)[None], axis=1)
        return _take_out_largest(previous)[0], log_beta

    return ops.scan(step, last[0], scores, reverse=True)[1]


def both_ways(log_initial, log_transition, scores):
    r"""Both recursions in one: log alpha_t and log beta_t, up to a constant per time point.

    With :math:`b_t(j) = e^{f_{tj}} \beta_t(j)` the second recursion reads
    :math:`b_t(j) = e^{f_{tj}} \sum_k A_{jk} \, b_{t+1}(k)`, the first one for the sequence in
    reverse and the transposed matrix. So both take T steps together, of twice the size.

    Returns
    -------
    log_alpha, log_beta : tensors, shape (T, K, M)
    log_sum : tensor, shape (M,)
        As for `forward`.
    """
    size = scores.shape[2]
    log_initial = ops.broadcast_to(log_initial, scores.shape[1:])
    log_transition = ops.broadcast_to(log_transition, (*log_transition.shape[:2], size))
    both, log_sum = forward(
        ops.concatenate([log_initial, ops.zeros_like(log_initial)], axis=1),
        ops.concatenate([log_transition, ops.transpose(log_transition, (1, 0, 2))], axis=2),
        ops.concatenate([scores, ops.flip(scores, axis=0)], axis=2),
    )
    ahead = ops.flip(both[..., size:], axis=0)
    return both[..., :size], ahead - _take_out_largest(scores, axis=1)[0], log_sum[:size]


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


def _are_few(scores) -> bool:
    num_times, num_components, num_datasets = scores.shape
    size = num_components**3 * num_datasets
    return size <= FEW or (on_gpu() and num_times * size <= FEW_ON_GPU)


@functools.cache
def on_gpu() -> bool:
    """Whether Keras computes on a GPU, where a call takes longer than the numbers in it."""
    if keras.backend.backend() == "torch":
        return ops.zeros(()).device.type != "cpu"
    return not keras.distribution.list_devices()[0].startswith("cpu")


def _products(log_matrices, *, reverse: bool = False):
    """Products of matrices (T, K, K, M) from the first to each one, or from each to the last.

    Returns them up to a constant each, and the logarithms of these constants, (T, M).
    """
    products, taken_out = _take_out_largest(log_matrices, axis=(1, 2))
    shift = 1
    while shift < products.shape[0]:
        pairs = products[:-shift, :, :, None] + products[shift:, None]
        pairs, largest = _take_out_largest(ops.logsumexp(pairs, axis=2), axis=(1, 2))
        largest = largest + taken_out[:-shift] + taken_out[shift:]
        kept = slice(-shift, None) if reverse else slice(0, shift)
        order = -1 if reverse else 1
        products = ops.concatenate([products[kept], pairs][::order])
        taken_out = ops.concatenate([taken_out[kept], largest][::order])
        shift *= 2
    return products, taken_out


def _take_out_largest(terms, axis=0):
    """Terms with maximum zero over axis, and what was taken out.

    That constant drops out of every result, so no gradient flows through it.
    """
    largest = ops.stop_gradient(ops.max(terms, axis=axis, keepdims=True))
    return terms - largest, ops.squeeze(largest, axis=axis)
