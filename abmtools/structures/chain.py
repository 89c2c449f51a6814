"""Chain: the arrays of one call of `Markov`, in the layout of the `recursions`.

There time comes first and all data sets and draws, flat, last. `Chain.flatten` and `Chain.restore`
go there and back.
"""

from functools import cached_property

import numpy as np
from keras import ops

from .arithmetic import LOGARITHMS, MIXING, PROBABILITIES, finite, infinite
from .recursions import backward, both_ways, forward, is_traced

__all__ = ["Chain"]


class Chain:
    """One call's arrays, laid out for the `recursions`: time first, data sets flat and last."""

    def __init__(self, structure, scores, parameters, mask):
        scores = ops.convert_to_tensor(scores)
        transition = structure.transition_matrix(parameters)
        initial = structure.initial_probabilities(parameters)
        if scores.shape[-1] != transition.shape[-1]:
            raise ValueError(
                f"scores: expected {transition.shape[-1]} components on the last axis, "
                f"got shape {tuple(scores.shape)}."
            )
        if mask is not None:
            mask = ops.cast(ops.convert_to_tensor(mask), "bool")
            scores = ops.where(mask[..., None], scores, ops.zeros_like(scores))
        leading = (scores.shape[:-2], transition.shape[:-2], initial.shape[:-1])
        self.shape = np.broadcast_shapes(*(tuple(shape) for shape in leading))
        self.size = int(np.prod(self.shape))
        scores = ops.broadcast_to(finite(scores), (*self.shape, *scores.shape[-2:]))
        self.scores = self.flatten(scores, 2)
        self.transition = self._parameter(transition, 2)
        self.initial = self._parameter(initial, 1)

    def _parameter(self, probabilities, ndim: int):
        if len(probabilities.shape) == ndim:  # stays without a data set axis, and broadcasts
            return probabilities[..., None]
        event = probabilities.shape[len(probabilities.shape) - ndim :]
        return self.flatten(ops.broadcast_to(probabilities, (*self.shape, *event)), ndim)

    @cached_property
    def log_transition(self):
        """log A, (K, K, M) or (K, K, 1)."""
        return ops.cast(finite(ops.log(self.transition)), self.scores.dtype)

    @cached_property
    def log_initial(self):
        """log p(z_1), (K, M) or (K, 1)."""
        return ops.cast(finite(ops.log(self.initial)), self.scores.dtype)

    @cached_property
    def arithmetic(self):
        """PROBABILITIES, which are faster, if it is known that the chain mixes."""
        parts = self.transition, self.initial
        if any(is_traced(x) for x in parts):
            return LOGARITHMS
        mixes = all(float(ops.min(ops.stop_gradient(x))) >= MIXING for x in parts)
        return PROBABILITIES if mixes else LOGARITHMS

    def flatten(self, x, ndim: int):
        """(..., *event) to (*event, M), contiguous."""
        event = tuple(x.shape[len(x.shape) - ndim :])
        x = ops.moveaxis(ops.reshape(x, (self.size, *event)), 0, -1)
        return ops.reshape(ops.reshape(x, (-1,)), x.shape)  # the detour makes it contiguous

    def restore(self, x, ndim: int):
        """The inverse of `flatten`: (*event, M) to (..., *event)."""
        event = tuple(x.shape[:ndim])
        return ops.reshape(ops.moveaxis(x, -1, 0), (*self.shape, *event))

    def forward(self):
        """log alpha and log sums, as `recursions.forward`."""
        return forward(self.log_initial, self.log_transition, self.scores)

    def backward(self):
        """log beta, as `recursions.backward`."""
        return backward(self.log_transition, self.scores)

    def filtering(self):
        """Filtering, (T, K, M), and the log sums."""
        initial, transition, weights, taken_out = self._terms(self.scores)
        alpha, log_sum = forward(initial, transition, weights, self.arithmetic)
        return self.arithmetic.probabilities(alpha, axis=1), log_sum + taken_out

    def filtering_and_smoothing(self):
        """Both, (T, K, M), and the log sums."""
        initial, transition, weights, taken_out = self._terms(self.scores)
        alpha, beta, log_sum = both_ways(initial, transition, weights, self.arithmetic)
        both = alpha, self.arithmetic.scale(self.arithmetic.times(alpha, beta), axis=1)[0]
        filtering, smoothing = (self.arithmetic.probabilities(terms, axis=1) for terms in both)
        return filtering, smoothing, log_sum + taken_out

    def log_sums(self, *others):
        """log sums over paths, (M,) each, for the chain's scores and for others, in one pass."""
        repeats = 1 + len(others)
        initial, transition, weights, taken_out = self._terms(
            ops.concatenate([self.scores, *others], axis=2)
        )
        initial, transition = (
            x if x.shape[-1] == 1 else ops.concatenate([x] * repeats, axis=-1)
            for x in (initial, transition)
        )
        log_sum = forward(initial, transition, weights, self.arithmetic)[1]
        return ops.split(log_sum + taken_out, repeats)

    def _terms(self, scores):
        """p(z_1), A and exp f_t in the chain's arithmetic, and what was taken out of f, (M,)."""
        if self.arithmetic is LOGARITHMS:
            return self.log_initial, self.log_transition, scores, 0.0
        initial, transition = (ops.cast(x, scores.dtype) for x in (self.initial, self.transition))
        scaled, taken_out = LOGARITHMS.scale(scores, axis=1)
        return initial, transition, ops.exp(scaled), ops.sum(taken_out, axis=(0, 1))

    def require_possible(self, log_sum) -> None:
        """Refuse sequences whose every path has probability zero."""
        if is_traced(log_sum):
            return
        possible = np.isfinite(ops.convert_to_numpy(infinite(log_sum))).reshape(self.shape)
        if not possible.all():
            first = np.argwhere(~possible)[0].tolist()
            raise ValueError(
                "scores: no path has positive probability, or a score is NaN or infinite, "
                f"for {np.sum(~possible)} of {self.size} sequences, the first at index {first}."
            )
