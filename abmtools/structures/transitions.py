"""Transitions: matrices of a chain that follow from fewer numbers, and where they lead."""

import numpy as np
from keras import ops

from .recursions import is_traced

__all__ = ["persistent", "stationary"]


def stationary(transition):
    """The distribution pi with pi A = pi, (..., K), of transition matrices A, (..., K, K).

    It solves pi (I - A + E) = 1 with E all ones, which has one solution exactly if the chain has
    one recurrent class.

    Raises
    ------
    ValueError
        If there are several stationary distributions.
    """
    size = transition.shape[-1]
    system = ops.eye(size, dtype=transition.dtype) - transition + 1
    right = ops.ones((*transition.shape[:-1], 1), dtype=transition.dtype)
    try:
        solution = ops.solve(ops.swapaxes(system, -1, -2), right)[..., 0]
    except RuntimeError as error:  # torch: the system is singular
        raise _no_stationary() from error
    if not is_traced(solution) and not np.all(ops.convert_to_numpy(ops.abs(solution)) < 1 + 1e-3):
        raise _no_stationary()
    return solution


def _no_stationary() -> ValueError:
    return ValueError(
        "initial: there is more than one stationary distribution, because the transitions leave "
        "states that never reach each other."
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
    """
    stay = ops.convert_to_tensor(stay)
    size = stay.shape[-1]
    same = ops.eye(size, dtype=stay.dtype)
    leave = (1 - stay) / (size - 1)
    return same * stay[..., None] + (1 - same) * leave[..., None]
