r"""Data that move smoothly when a parameter moves.

Simulated again with another parameter, a data set would be another one altogether. Here all
randomness is drawn once, before any parameter is known, and the data are a function of it and of
the parameters. For a mixture, with :math:`u_i \sim \operatorname{Uniform}(0, 1)` and
:math:`\varepsilon_{ij} \sim \operatorname{Normal}(0, 1)`,

.. math:: z_i = \min \{ k : u_i \le \pi_0 + \dots + \pi_k \} , \qquad
          y_{ij} = \mu_{z_i} + \sigma \, \varepsilon_{ij} .

Of a chain that stays with probability :math:`a \ge 1/2` in either of two states, think like this:
with probability :math:`q = 2 (1 - a)` a coin :math:`b_t` is tossed for the state, else it stays.
The probability to stay is then :math:`1 - q + q / 2 = a`. So

.. math:: z_t = b_t \text{ if } t = 1 \text{ or } u_t < q, \text{ else } z_{t-1} ,

and where one more coin is tossed, or one less, only the states up to the next toss can change. Had
each switch been decided by :math:`u_t` itself, one switch more would flip all that follow.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Noise", "chain_states", "mixture_indicators"]


@dataclass(frozen=True)
class Noise:
    """All randomness of a data set.

    Attributes
    ----------
    uniform : array, shape (N,)
    coins : array of int, shape (N,)
        Zeros and ones.
    errors : array, shape (N, R)
        Standard normal.
    """

    uniform: np.ndarray
    coins: np.ndarray
    errors: np.ndarray

    @classmethod
    def draw(cls, seed: int, num_obs: int, num_reps: int) -> "Noise":
        """Draw it for N observations with R replicates."""
        rng = np.random.default_rng(seed)
        return cls(
            uniform=rng.random(num_obs),
            coins=rng.integers(0, 2, num_obs),
            errors=rng.standard_normal((num_obs, num_reps)),
        )


def mixture_indicators(noise: Noise, weights: np.ndarray) -> np.ndarray:
    """Components z, (N,), of a mixture with these weights, (K,).

    Examples
    --------
    >>> z = mixture_indicators(Noise.draw(1, num_obs=10_000, num_reps=1), np.array([0.2, 0.8]))
    >>> round(z.mean(), 2)
    np.float64(0.8)
    """
    return np.searchsorted(np.cumsum(weights)[:-1], noise.uniform)


def chain_states(noise: Noise, stay: float) -> np.ndarray:
    """States z, (T,), of a chain of two that stays in either with this probability.

    Raises
    ------
    ValueError
        If the probability is not between one half and one.

    Examples
    --------
    >>> z = chain_states(Noise.draw(1, num_obs=10_000, num_reps=1), stay=0.9)
    >>> round((z[1:] == z[:-1]).mean(), 2)
    np.float64(0.9)
    """
    if not 0.5 <= stay <= 1:
        raise ValueError(f"stay: expected a probability between 0.5 and 1, got {stay}.")
    tossed = noise.uniform < 2 * (1 - stay)
    tossed[0] = True
    latest = np.maximum.accumulate(np.where(tossed, np.arange(len(tossed)), 0))
    return noise.coins[latest]
