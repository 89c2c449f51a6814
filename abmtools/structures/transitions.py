"""Transitions: matrices of a chain that follow from fewer numbers, and where they lead."""

import numpy as np
from keras import ops

from .recursions import is_traced

__all__ = ["persistent", "stationary"]


def stationary(transition):
    r"""The distribution pi with pi A = pi, (..., K), of transition matrices A, (..., K, K).

    State K - 1 is taken out of the chain, whose other states then go to each other also through
    it,

    .. math:: A_{ij} + A_{i,K-1} \, A_{K-1,j} \; / \sum_{j < K-1} A_{K-1,j} ,

    and so on, until one is left. Backwards the probability of each state follows from those of
    smaller ones. Nothing is subtracted, so small probabilities are as exact as large ones, and
    diagonals, which may round to one, are not needed (Grassmann, Taksar & Heyman, 1985).

    Raises
    ------
    ValueError
        If there are several stationary distributions.

    References
    ----------
    Grassmann, W. K., Taksar, M. I., & Heyman, D. P. (1985). Regenerative analysis and steady state
    distributions for Markov chains. Operations Research, 33(5), 1107-1116.
    """
    if not is_traced(transition):
        _require_one_class(ops.convert_to_numpy(transition) > 0)
    removed = []
    for k in reversed(range(1, transition.shape[-1])):
        leaving = transition[..., k, :k]
        total = ops.sum(leaving, axis=-1, keepdims=True)
        is_never_left = total == 0  # so all of the probability will be there
        entering = transition[..., :k, k] / ops.where(is_never_left, ops.ones_like(total), total)
        transition = transition[..., :k, :k] + entering[..., None] * leaving[..., None, :]
        removed.append((entering, is_never_left))
    pi = ops.ones_like(transition[..., 0])
    for entering, is_never_left in reversed(removed):
        last = ops.sum(pi * entering, axis=-1, keepdims=True)
        last = ops.where(is_never_left, ops.ones_like(last), last)
        pi = ops.where(is_never_left, ops.zeros_like(pi), pi)
        pi = ops.concatenate([pi, last], axis=-1)
        pi = pi / ops.sum(pi, axis=-1, keepdims=True)
    return pi


def _require_one_class(possible: np.ndarray) -> None:
    """Refuse chains, (..., K, K), with states that never reach each other and are never left."""
    if possible.all():
        return
    reached = possible | np.eye(possible.shape[-1], dtype=bool)
    for _ in range(possible.shape[-1]):
        reached = reached @ reached
    back = np.swapaxes(reached, -1, -2)
    recurrent = np.all(~reached | back, axis=-1)
    if np.any(recurrent[..., None] & recurrent[..., None, :] & ~reached):
        raise ValueError(
            "initial: there is more than one stationary distribution, because the transitions "
            "leave states that never reach each other."
        )


def persistent(stay):
    """Transition matrices with diagonal `stay`; the other states are equally probable.

    Parameters
    ----------
    stay : tensor or array, shape (..., K)
        Probabilities of staying in each state, K > 1.

    Returns
    -------
    tensor, shape (..., K, K)

    Examples
    --------
    >>> from abmtools import persistent
    >>> from keras.ops import convert_to_numpy
    >>> convert_to_numpy(persistent([0.5, 0.75])).tolist()
    [[0.5, 0.5], [0.25, 0.75]]
    """
    stay = ops.convert_to_tensor(stay)
    size = stay.shape[-1]
    same = ops.eye(size, dtype=stay.dtype)
    leave = (1 - stay) / (size - 1)
    return same * stay[..., None] + (1 - same) * leave[..., None]
