"""Categorical draws, by inverting the cumulative distribution.

At independent uniform numbers (`draw_categorical`), or at evenly spaced ones with one random start
(`draw_systematic`), which copies a category as often as its probability says, up to rounding.
"""

import numpy as np

__all__ = ["draw_categorical", "draw_systematic"]


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


def draw_systematic(rng: np.random.Generator, probabilities, size: int) -> np.ndarray:
    """Draw categories so that one of probability p comes up ``size * p`` times, up to rounding.

    Parameters
    ----------
    rng : numpy.random.Generator
    probabilities : array, shape (B, S)
        Of the S categories, up to a factor.
    size : int

    Returns
    -------
    array of int, shape (B, size)
        In increasing order.
    """
    edges = np.cumsum(probabilities, axis=1)
    edges /= edges[:, -1:]
    positions = (np.arange(size) + rng.random((len(edges), 1))) / size
    positions = np.minimum(positions, np.nextafter(1.0, 0.0))
    rows = zip(edges, positions, strict=True)
    return np.stack([np.searchsorted(edge, position, side="right") for edge, position in rows])
