r"""Recursions along a chain.

For scores :math:`f_{tk}`, a transition matrix A and an initial distribution :math:`\rho`

.. math::
    \alpha_1(k) &= \rho_k \, e^{f_{1k}}, &
    \alpha_t(k) &= e^{f_{tk}} \sum_j \alpha_{t-1}(j) \, A_{jk} \\
    \beta_T(j) &= 1, &
    \beta_t(j) &= \sum_k A_{jk} \, e^{f_{t+1,k}} \, \beta_{t+1}(k)

(Rabiner, 1989, section III.A). Both shrink or grow exponentially in t, so each step scales them:
what is returned is :math:`\alpha_t` and :math:`\beta_t` up to a constant per time point, and for
:math:`\alpha` the logarithm of the product of those constants too. All are terms of an
`arithmetic`, logarithms or probabilities, as are :math:`\rho`, A and the weights
:math:`e^{f_{tk}}` that go in.

A step waits for the one before, which costs a call for each of T steps. But :math:`\alpha_t` is a
row of the product :math:`L_1 L_2 \cdots L_t` of matrices
:math:`L_t(j, k) = A_{jk} \, e^{f_{tk}}`, with :math:`\rho_k` for :math:`A_{jk}` in the first, and
products are associative: all of them are found in :math:`\log_2 T` rounds, each of which multiplies
the product that ends at t by the one that ends where it begins (Hillis & Steele, 1986). That is
:math:`K \log_2 T` times the work in far fewer calls, and faster for few data sets, and on a GPU for
many; not on a CPU where JAX has compiled the steps, which are no calls then.

Arrays have time first and data sets last, (T, K, M), because each step reduces the short axis K,
which vectorizes well only where M runs fastest in memory. Parameters without a data set axis have
M = 1 and broadcast.
"""

import functools

import keras
from keras import ops

from .arithmetic import LOGARITHMS

__all__ = [
    "backward",
    "both_ways",
    "forward",
    "forward_and_smoothed",
    "is_traced",
    "most_probable_path",
    "on_gpu",
]

FEW = 1000  # M K^3 up to which products in rounds are faster than steps (T = 100, torch, CPU)
MANY = 2500  # M from which two recursions are faster than one of twice the size (same, K = 2)
FEW_ON_GPU = 2**28  # T M K^3 up to which they are on a GPU, where they still fit: 1 GiB in float32


def forward(initial, transition, weights, arithmetic=LOGARITHMS):
    """alpha_t up to a constant per time point, and the log of the sum over all paths.

    Parameters
    ----------
    initial : tensor, shape (K, M)
    transition : tensor, shape (K, K, M)
        From the first axis to the second.
    weights : tensor, shape (T, K, M)
        exp f_t; as logarithms the scores themselves.
    arithmetic : LOGARITHMS or PROBABILITIES

    Returns
    -------
    alpha : tensor, shape (T, K, M)
        With maximum zero over K as logarithms, with sum one as probabilities.
    log_sum : tensor, shape (M,)
        log sum_z p(z) prod_t exp f_t(z_t).
    """
    start = ops.broadcast_to(initial, weights.shape[1:])
    alpha, _, taken_out = _run(start, transition, weights, arithmetic, weights.shape[2])
    return alpha, _log_sum(alpha, taken_out, arithmetic)


def backward(transition, weights, arithmetic=LOGARITHMS):
    """beta_t up to a constant per time point, (T, K, M); arguments as for `forward`."""
    end = ops.full_like(weights[0], arithmetic.one)
    transposed = ops.transpose(transition, (1, 0, 2))
    return _run(end, transposed, weights, arithmetic, 0, reverse=True)[1]


def both_ways(initial, transition, weights, arithmetic=LOGARITHMS):
    r"""Both recursions in one: alpha_t and beta_t, up to a constant per time point.

    With :math:`b_t(j) = e^{f_{tj}} \beta_t(j)` the second recursion reads
    :math:`b_t(j) = e^{f_{tj}} \sum_k A_{jk} \, b_{t+1}(k)`, the first one for the sequence in
    reverse and the transposed matrix; what is predicted in a step is :math:`\beta_t`. So both take
    T steps together, of twice the size.

    Returns
    -------
    alpha, beta : tensors, shape (T, K, M)
    log_sum : tensor, shape (M,)
        As for `forward`.
    """
    size = weights.shape[2]
    if _are_many(weights):
        alpha, log_sum = forward(initial, transition, weights, arithmetic)
        return alpha, backward(transition, weights, arithmetic), log_sum
    initial = ops.broadcast_to(initial, weights.shape[1:])
    transition = ops.broadcast_to(transition, (*transition.shape[:2], size))
    alpha, beta, taken_out = _run(
        ops.concatenate([initial, ops.full_like(initial, arithmetic.one)], axis=1),
        ops.concatenate([transition, ops.transpose(transition, (1, 0, 2))], axis=2),
        ops.concatenate([weights, ops.flip(weights, axis=0)], axis=2),
        arithmetic,
        size,
    )
    return alpha, ops.flip(beta, axis=0), _log_sum(alpha, taken_out, arithmetic)


def forward_and_smoothed(initial, transition, weights, arithmetic=LOGARITHMS):
    r"""alpha_t as by `forward`, and :math:`\alpha_t \beta_t`, scaled in the same way.

    For many data sets the product is taken in the step that finds beta_t, which so never leaves
    the cache of a CPU.

    Returns
    -------
    alpha, smoothed : tensors, shape (T, K, M)
    log_sum : tensor, shape (M,)
        As for `forward`.
    """
    if not _are_many(weights):
        alpha, beta, log_sum = both_ways(initial, transition, weights, arithmetic)
        return alpha, arithmetic.scale(arithmetic.times(alpha, beta), axis=1)[0], log_sum

    def step(beta, given):
        alpha, weight = given
        smoothed, _ = arithmetic.scale(arithmetic.times(alpha, beta))
        ahead, _ = arithmetic.scale(arithmetic.times(weight, beta))
        before = arithmetic.plus(arithmetic.times(ahead[:, None], transposed), axis=0)
        return before, smoothed

    alpha, log_sum = forward(initial, transition, weights, arithmetic)
    transposed = ops.transpose(transition, (1, 0, 2))
    end = ops.full_like(weights[0], arithmetic.one)
    return alpha, ops.scan(step, end, (alpha, weights), reverse=True)[1], log_sum


def most_probable_path(log_initial, log_transition, scores):
    r"""The path that maximizes log p(z) + sum_t f_t(z_t), by the Viterbi algorithm: int (T, M).

    The recursion of :math:`\alpha` with the largest term instead of the sum; pointers remember
    which term that was. Ties go to the first state. Arguments as for `forward`, as logarithms.
    """

    def step(carry, score):
        predicted, pointers = carry
        log_alpha, _ = LOGARITHMS.scale(predicted + score)
        terms = log_alpha[:, None] + log_transition
        return (ops.max(terms, axis=0), ops.argmax(terms, axis=0)), (log_alpha, pointers)

    def backtrack(state, pointers):
        return ops.take_along_axis(pointers, state[None], axis=0)[0], state

    start = ops.broadcast_to(log_initial, scores.shape[1:])
    _, (log_alpha, pointers) = ops.scan(step, (start, ops.zeros_like(start, "int32")), scores)
    return ops.scan(backtrack, ops.argmax(log_alpha[-1], axis=0), pointers, reverse=True)[1]


def _run(start, transition, weights, arithmetic, size: int, *, reverse: bool = False):
    """All steps, in reverse from the last time point to the first.

    Returns alpha of the first ``size`` data sets, what was predicted for the others, and what was
    taken out of the first, each with time first.
    """

    def step(predicted, weight):
        alpha, taken_out = arithmetic.scale(arithmetic.times(predicted, weight))
        following = arithmetic.plus(arithmetic.times(alpha[:, None], transition), axis=0)
        return following, (alpha[:, :size], predicted[:, size:], taken_out[:, :size])

    if not _are_few(weights):
        return ops.scan(step, start, weights, reverse=reverse)[1]
    weights = ops.flip(weights, axis=0) if reverse else weights
    alpha = _products(start, transition, weights[:-1], arithmetic)
    following = arithmetic.plus(arithmetic.times(alpha[:, :, None], transition), axis=1)
    predicted = ops.concatenate([start[None], following])
    alpha, taken_out = arithmetic.scale(arithmetic.times(predicted, weights), axis=1)
    found = alpha[..., :size], predicted[..., size:], taken_out[..., :size]
    return tuple(ops.flip(x, axis=0) for x in found) if reverse else found


def _are_many(weights) -> bool:
    return weights.shape[2] > MANY and not on_gpu()


def _are_few(weights) -> bool:
    num_times, num_components, num_datasets = weights.shape
    size = num_components**3 * num_datasets
    if on_gpu():
        return num_times * size <= FEW_ON_GPU
    return size <= FEW and not is_traced(weights)


@functools.cache
def on_gpu() -> bool:
    """Whether Keras computes on a GPU, where a call takes longer than the numbers in it."""
    if keras.backend.backend() == "torch":
        return ops.zeros(()).device.type != "cpu"
    return not keras.distribution.list_devices()[0].startswith("cpu")


def is_traced(x) -> bool:
    """Whether x has no value yet, because JAX is compiling."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(x, jax.core.Tracer)


def _products(start, transition, weights, arithmetic):
    """alpha_t up to a constant per time point, (T, K, M), by products in rounds."""
    if not weights.shape[0]:
        return weights
    row = arithmetic.times(start, weights[0])[None]
    first = ops.broadcast_to(row, (weights.shape[1], *weights.shape[1:]))
    rest = arithmetic.times(transition, weights[1:, None])
    scale = functools.partial(arithmetic.scale, axis=(1, 2), drops_out=True)  # by the last line
    products, _ = scale(ops.concatenate([first[None], rest]))
    shift = 1
    while shift < products.shape[0]:
        pairs = arithmetic.times(products[:-shift, :, :, None], products[shift:, None])
        pairs, _ = scale(arithmetic.plus(pairs, axis=2))
        products = ops.concatenate([products[:shift], pairs])
        shift *= 2
    return arithmetic.scale(products[:, 0], axis=1)[0]


def _log_sum(alpha, taken_out, arithmetic):
    """The logarithm of the sum over all paths, (M,)."""
    last = arithmetic.log(arithmetic.plus(alpha[-1], axis=0))
    return ops.sum(arithmetic.log(taken_out), axis=(0, 1)) + last
