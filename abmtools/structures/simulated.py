"""Simulated indicators: a dependence that can be simulated, and about which no more is known.

Dwell times of any distribution, trends, states that depend on past observations' states: whatever
produces indicators. There is then no recursion that turns scores of observations into probabilities
of indicators, and networks have to learn these as a whole, see
`abmtools.networks.SequenceClassifier`.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["Simulated"]


class Simulated:
    """Indicators of a sequence that come from a function.

    Parameters
    ----------
    sample : callable
        ``sample(rng, parameters, num_obs)`` returns integers 0 to K - 1 of shape (B, num_obs), from
        a ``numpy.random.Generator`` and parameters {name: (B, ...)}.
    num_components : int
        K.

    Raises
    ------
    TypeError
        If sample is not callable.
    ValueError
        If num_components < 2.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import Simulated
    >>> def alternating(rng, parameters, num_obs):
    ...     start = rng.integers(2, size=(len(parameters["mu"]), 1))
    ...     return (start + np.arange(num_obs)) % 2
    >>> structure = Simulated(alternating, num_components=2)
    >>> structure.sample(np.random.default_rng(1), {"mu": np.zeros(2)}, 5)
    array([[0, 1, 0, 1, 0],
           [1, 0, 1, 0, 1]])
    """

    exchangeable = False
    simplex_parameters = ()

    def __init__(self, sample: Callable, num_components: int):
        if not callable(sample):
            raise TypeError(f"sample: expected a callable, got {type(sample).__name__}.")
        if not (isinstance(num_components, int | np.integer) and num_components >= 2):
            raise ValueError(
                f"num_components: expected an integer of at least 2, got {num_components!r}."
            )
        self._sample, self._num_components = sample, int(num_components)

    def __repr__(self) -> str:
        return f"Simulated(num_components={self._num_components})"

    def num_components(self, parameters: dict) -> int:
        """K."""
        return self._num_components

    def sample(self, rng: np.random.Generator, parameters, num_obs: int) -> np.ndarray:
        """Simulate indicators, int (B, num_obs).

        Raises
        ------
        ValueError
            If the function returns anything else than integers 0 to K - 1 of that shape.
        """
        z = np.asarray(self._sample(rng, parameters, num_obs))
        expected = (len(next(iter(parameters.values()))), num_obs)
        whole = np.issubdtype(z.dtype, np.integer)
        if z.shape != expected or not whole or z.min() < 0 or z.max() >= self._num_components:
            raise ValueError(
                f"sample: expected integers from 0 to {self._num_components - 1} of shape "
                f"{expected}, got {z.dtype} of shape {z.shape}"
                + (f" from {z.min()} to {z.max()}." if z.size else ".")
            )
        return z
