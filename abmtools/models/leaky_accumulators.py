r"""Leaky competing accumulators: a race that can be simulated and has no tractable density.

Two activations start at zero and grow by their inputs, leak, and inhibit each other, until one of
them reaches a threshold :math:`\alpha` (Usher & McClelland, 2001, *The time course of perceptual
choice: The leaky, competing accumulator model*, Psychological Review, equation 4):

.. math:: dx_i = (I_i - \kappa x_i - \beta x_j) \, dt + dW_i, \qquad x_i \ge 0 .

Noise has unit variance per second. Without leak :math:`\kappa` and inhibition :math:`\beta` the
activations are Brownian motions with drift that zero reflects.

A simulation in steps of length :math:`\Delta` looks at them at moments only, and so misses the
highest and lowest points between. On average it misses :math:`c \sqrt{\Delta}` with
:math:`c = -\zeta(1/2) / \sqrt{2 \pi} \approx 0.5826`. Taking both barriers closer by as much
removes the error of that order (Broadie, Glasserman & Kou, 1997, *A continuity correction for
discrete barrier options*, Mathematical Finance; Asmussen, Glynn & Pitman, 1995, *Discretization
error in simulation of one-dimensional reflecting Brownian motion*, Annals of Applied Probability).
"""

import functools
import math

import numpy as np

__all__ = ["race"]

STEP = 0.002  # seconds
DEADLINE = 10.0  # seconds of accumulation after which the more active accumulator responds
CORRECTION = 0.5825971579390107


def race(rng: np.random.Generator, inputs, leak, inhibition, threshold, rows, *, step=STEP):
    """Simulate races.

    Parameters
    ----------
    rng : numpy.random.Generator
    inputs : ndarray of shape (B, 2)
        Per second, like leak and inhibition.
    leak, inhibition, threshold : ndarray of shape (B,)
    rows : ndarray of int, shape (n,)
        Which of the B parameter vectors each race has.
    step : float
        Length of a step, seconds.

    Returns
    -------
    times : ndarray of shape (n,)
        Seconds until the first activation reaches the threshold; 10 where none has by then, and
        the more active one wins.
    second_won : ndarray of bool, shape (n,)

    Raises
    ------
    ImportError
        If numba is not installed.
    """
    columns = [np.ascontiguousarray(x, dtype="float64") for x in (inputs, leak, inhibition)]
    threshold = np.ascontiguousarray(threshold, dtype="float64")
    rows = np.ascontiguousarray(rows, dtype="int64")
    times, second_won = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
    _compiled()(rng, *columns, threshold, rows, step, round(DEADLINE / step), times, second_won)
    return times, second_won


@functools.cache
def _compiled():
    try:
        import numba
    except ImportError as error:
        raise ImportError(
            "Leaky competing accumulators are simulated by code that numba compiles: "
            "pip install 'abmtools[cognitive]'."
        ) from error
    return numba.njit(_race, cache=True, nogil=True)


def _race(
    rng, inputs, leak, inhibition, threshold, rows, step, num_steps, times, second_won
):  # pragma: no cover - compiled
    noise = math.sqrt(step)
    floor = CORRECTION * noise
    for i in range(len(rows)):
        row = rows[i]
        input0, input1 = inputs[row, 0] * step, inputs[row, 1] * step
        kept, inhibited = 1 - leak[row] * step, inhibition[row] * step
        bound = threshold[row] - floor
        x0, x1, num = floor, floor, 0
        while num < num_steps and x0 < bound and x1 < bound:
            new0 = kept * x0 - inhibited * x1 + input0 + noise * rng.standard_normal()
            new1 = kept * x1 - inhibited * x0 + input1 + noise * rng.standard_normal()
            x0, x1, num = max(new0, floor), max(new1, floor), num + 1
        second_won[i] = x1 > x0
        times[i] = (num + rng.random() - 0.5) * step
