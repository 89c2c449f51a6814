"""Chain: the arrays of one call of `Markov`, in the layout of the `recursions`.

There time comes first and all data sets and draws, flat, last. `Chain.flatten` and `Chain.restore`
go there and back.
"""

import keras
import numpy as np
from keras import ops

from .recursions import backward, both_ways, finite, forward, infinite

__all__ = ["Chain", "is_traced"]


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
        self.log_transition = self._parameter(transition, 2)
        self.log_initial = self._parameter(initial, 1)

    def _parameter(self, probabilities, ndim: int):
        if len(probabilities.shape) > ndim:  # else it stays without a data set axis, and broadcasts
            event = probabilities.shape[len(probabilities.shape) - ndim :]
            probabilities = ops.broadcast_to(probabilities, (*self.shape, *event))
            probabilities = self.flatten(probabilities, ndim)
        else:
            probabilities = probabilities[..., None]
        return ops.cast(finite(ops.log(probabilities)), self.scores.dtype)

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
        """As `recursions.forward`, of this chain."""
        return forward(self.log_initial, self.log_transition, self.scores)

    def log_sums(self, other):
        """log sums over paths, (M,), for the chain's scores and for other ones, in one pass."""
        scores = ops.concatenate([self.scores, other], axis=2)
        initial, transition = (
            x if x.shape[-1] == 1 else ops.concatenate([x, x], axis=-1)
            for x in (self.log_initial, self.log_transition)
        )
        log_sum = forward(initial, transition, scores)[1]
        return log_sum[: self.size], log_sum[self.size :]

    def backward(self):
        """As `recursions.backward`, of this chain."""
        return backward(self.log_transition, self.scores)

    def both_ways(self):
        """As `recursions.both_ways`, of this chain."""
        return both_ways(self.log_initial, self.log_transition, self.scores)

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


def is_traced(x) -> bool:
    """Whether x has no value yet, because JAX is compiling."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(x, jax.core.Tracer)
