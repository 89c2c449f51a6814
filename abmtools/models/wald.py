r"""The Wald (inverse Gaussian) distribution: when evidence first reaches a threshold.

Evidence is a Brownian motion of unit variance that starts at zero and drifts with
:math:`\nu > 0`. The time t at which it first reaches :math:`\alpha > 0` is inverse Gaussian with
mean :math:`\alpha / \nu` and shape :math:`\alpha^2`,

.. math::
    \log f(t) &= \log \alpha - \tfrac12 \log 2 \pi - \tfrac32 \log t - \tfrac12 a^2 , \qquad
    a = \frac{\alpha - \nu t}{\sqrt t} \\
    S(t) &= p(\text{later than } t) = \Phi(a) - e^{2 \alpha \nu} \Phi(-b) , \qquad
    b = \frac{\alpha + \nu t}{\sqrt t}

As it stands, S is useless in the tails: the exponential overflows, and two nearly equal numbers
are subtracted. But :math:`2 \alpha \nu = (b^2 - a^2) / 2`, so the standard normal density
:math:`\varphi(a)` is a factor of both terms. With the scaled complementary error function
:math:`\operatorname{erfcx}(x) = e^{x^2} \operatorname{erfc}(x)`,

.. math::
    \Phi(-x) = \tfrac12 e^{-x^2 / 2} \operatorname{erfcx}(x / \sqrt 2) , \qquad
    e^{2 \alpha \nu} \Phi(-b) = \tfrac12 e^{-a^2 / 2} \operatorname{erfcx}(b / \sqrt 2)

and, on either side of the time :math:`\alpha / \nu` at which a changes its sign,

.. math::
    S(t) = \begin{cases}
        \tfrac12 e^{-a^2 / 2} \left( \operatorname{erfcx}(|a| / \sqrt 2) -
            \operatorname{erfcx}(b / \sqrt 2) \right) & a \le 0 \\
        1 - \tfrac12 e^{-a^2 / 2} \left( \operatorname{erfcx}(|a| / \sqrt 2) +
            \operatorname{erfcx}(b / \sqrt 2) \right) & a > 0
    \end{cases}

Every factor is bounded, the logarithm of the first case never leaves the log domain, and neither
case subtracts numbers that are nearly equal unless :math:`\alpha` is tiny beside :math:`\nu t` or
:math:`\sqrt t`. That costs the logarithm a rounding error divided by that ratio.
"""

import numpy as np
from scipy.special import erfcx

__all__ = ["log_density", "log_survival"]


def log_density(t, threshold, drift) -> np.ndarray:
    r"""Log density :math:`\log f(t)` of the time at which the threshold is reached.

    Parameters
    ----------
    t : array
        Times, in seconds.
    threshold, drift : array
        :math:`\alpha` and :math:`\nu`, positive; all three broadcast.

    Returns
    -------
    array of float64
        In the shape of the three together; -inf where ``t <= 0``.

    Examples
    --------
    >>> log_density([-1.0, 0.2, 0.4], threshold=2.5, drift=6.0).round(3)
    array([  -inf, -1.813,  1.359])
    """
    root, a, _ = _standardized(t, threshold, drift)
    log_f = np.log(threshold) - 0.5 * np.log(2 * np.pi) - 3 * np.log(root) - 0.5 * a * a
    return np.where(np.less_equal(t, 0), -np.inf, log_f)


def log_survival(t, threshold, drift) -> np.ndarray:
    r"""Log probability :math:`\log S(t)` that the threshold is reached later than t.

    Parameters
    ----------
    t : array
        Times, in seconds.
    threshold, drift : array
        :math:`\alpha` and :math:`\nu`, positive; all three broadcast.

    Returns
    -------
    array of float64
        In the shape of the three together; 0 where ``t <= 0``.

    Examples
    --------
    >>> log_survival([-1.0, 0.4, 1.0, 4.0], threshold=2.5, drift=6.0).round(3)
    array([  0.   ,  -0.668,  -8.938, -62.764])
    """
    _, a, b = _standardized(t, threshold, drift)
    below, above = erfcx(np.abs(a) / np.sqrt(2)), erfcx(b / np.sqrt(2))
    exponent = -0.5 * a * a
    with np.errstate(divide="ignore", invalid="ignore"):  # each in the region of the other
        late = exponent + np.log(0.5 * (below - above))
        early = np.log1p(-0.5 * np.exp(exponent) * (below + above))
    return np.where(np.less_equal(t, 0), 0.0, np.where(a > 0, early, late))


def _standardized(t, threshold, drift) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Root of t, a and b; where ``t <= 0`` those of t = 1, for the callers to replace."""
    t = np.asarray(t, dtype="float64")
    root = np.sqrt(np.where(t <= 0, 1.0, t))
    start, distance = threshold / root, drift * root
    return root, start - distance, start + distance
