"""Categorical draws, by inverting the cumulative distribution."""

import numpy as np

__all__ = ["draw_categorical"]


def draw_categorical(rng: np.random.Generator, probabilities, shape=None) -> np.ndarray:
    """Draw categories 0 to K - 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    probabilities : array, shape (..., K)
        Summing to one along the last axis.
    shape : tuple of int, optional
        Of the result; the leading axes of `probabilities`, by default, or what they broadcast to.

    Returns
    -------
    array of int
    """
    probabilities = np.asarray(probabilities)
    edges = np.cumsum(probabilities, axis=-1)[..., :-1]
    shape = probabilities.shape[:-1] if shape is None else shape
    return (rng.random((*shape, 1)) > edges).sum(axis=-1)
