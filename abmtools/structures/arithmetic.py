r"""Arithmetic: what the `recursions` add and multiply, logarithms or probabilities.

Forward and backward recursions use sums and products only, so they run in any semiring (Goodman,
1999). Two are of use here.

`LOGARITHMS` lose nothing: the smallest state keeps its full precision. But each sum costs an
exponential for every term, and a logarithm.

`PROBABILITIES`, scaled at every step (Rabiner, 1989, section V.A), cost a multiplication. In single
precision a state below :math:`\epsilon = 10^{-38}` is lost. That does no harm in a chain that
*mixes*, one whose every transition and first state has at least probability :math:`a`. What is
predicted, :math:`\sum_j \alpha_{t-1}(j) \, A_{jk}` with :math:`\sum_j \alpha_{t-1}(j) = 1`, is at
least :math:`a` for every k, and lacks less than :math:`\epsilon`. So no sum is zero, whatever the
scores are, and a state that was lost comes back with a relative error of :math:`\epsilon / a`. In
a product of two products of matrices, whose rows differ by factors up to :math:`1 / a`, it is
:math:`\epsilon / a^2`. `MIXING` is the smallest :math:`a` that is called so.

References
----------
Goodman, J. (1999). Semiring parsing. Computational Linguistics, 25(4), 573-605.
Rabiner, L. R. (1989). A tutorial on hidden Markov models and selected applications in speech
recognition. Proceedings of the IEEE, 77(2), 257-286.
"""

import functools
import operator

import numpy as np
from keras import ops

__all__ = ["LOGARITHMS", "LOWEST", "MIXING", "PROBABILITIES", "finite", "infinite"]

LOWEST = -1e30  # stands for log 0: finite, so that differences and gradients exist
MIXING = 1e-12  # smallest transition for which probabilities lose nothing


def finite(log_terms):
    """Terms with minus infinity replaced by `LOWEST`."""
    return ops.clip(log_terms, LOWEST, np.inf)


def infinite(log_terms):
    """Terms with what came from `LOWEST` replaced by minus infinity."""
    return ops.where(log_terms < LOWEST / 2, ops.cast(-np.inf, log_terms.dtype), log_terms)


class Logarithms:
    """Terms are logarithms of numbers; that of zero is `LOWEST`."""

    one = 0.0
    times = staticmethod(operator.add)

    def plus(self, terms, axis):
        """Sums over axis."""
        return ops.logsumexp(terms, axis=axis)

    def scale(self, terms, axis=0, *, drops_out=True):
        """Terms with maximum zero over axis, and what was taken out, which keeps that axis.

        Nothing depends on which constant that is, so no gradient flows through it.
        """
        largest = ops.stop_gradient(ops.max(terms, axis=axis, keepdims=True))
        return terms - largest, largest

    def log(self, terms):
        """Logarithms of what terms stand for."""
        return terms

    def probabilities(self, scaled, axis):
        """What scaled terms stand for, with sum one over axis."""
        return ops.softmax(scaled, axis=axis)


class Probabilities:
    """Terms are the numbers themselves."""

    one = 1.0
    times = staticmethod(operator.mul)

    def plus(self, terms, axis):
        """Sums over axis."""
        if axis == 0:  # the states, in a step: to add a few costs less than a call of ops.sum
            return functools.reduce(operator.add, terms)
        return ops.sum(terms, axis=axis)

    def scale(self, terms, axis=0, *, drops_out=False):
        """Terms with sum one over axis, and what was taken out, which keeps that axis.

        Where that constant drops out of the result, no gradient needs to flow through it. A
        gradient would have its square, which underflows long before the constant itself does.
        """
        if axis == 0:
            total = self.plus(terms, axis)[None]
        else:
            total = ops.sum(terms, axis=axis, keepdims=True)
        if drops_out:
            total = ops.stop_gradient(total)
        return terms / total, total

    def log(self, terms):
        """Logarithms of what terms stand for."""
        return ops.log(terms)

    def probabilities(self, scaled, axis):
        """What scaled terms stand for, with sum one over axis: the same."""
        return scaled


LOGARITHMS, PROBABILITIES = Logarithms(), Probabilities()
