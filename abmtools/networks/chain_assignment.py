r"""Chain assignment: the E-step of a hidden Markov model as a network layer.

As `SoftAssignment`, but the components of neighbouring observations depend on each other by a
transition matrix A, which is read off the summary like the other provisional parameters. The
forward and backward recursions then give what the M-step of the Baum-Welch algorithm needs,

.. math:: \frac{1}{T} \sum_t \gamma_k(t) \, (1, e_t) \qquad \text{and} \qquad
          \frac{1}{T - 1} \sum_t \xi_{jk}(t) ,

with :math:`\gamma` and :math:`\xi` the smoothed probabilities of a state and of a pair of states
(Rabiner, 1989, section III.C). By Fisher's identity they determine the gradient of the log
likelihood at the provisional parameters.
"""

import keras
from bayesflow.utils.serialization import serializable
from keras import ops

from ..structures.arithmetic import LOGARITHMS, MIXING, PROBABILITIES
from ..structures.recursions import both_ways
from .pooling import masked_outer_mean
from .soft_assignment import SoftAssignment

__all__ = ["ChainAssignment"]


@serializable("abmtools.networks")
class ChainAssignment(SoftAssignment):
    """Expected counts, sums and transitions of observations along learned hidden chains.

    Parameters
    ----------
    num_heads : int
        Number of independent chains.
    num_slots : int
        States K' of each.
    **kwargs
        Passed to ``keras.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.networks import ChainAssignment
    >>> rng = np.random.default_rng(1)
    >>> codes, summary = rng.normal(size=(2, 50, 3)), rng.normal(size=(2, 16))
    >>> assignment = ChainAssignment(num_heads=2, num_slots=4)
    >>> tuple(assignment(codes, summary).shape)
    (2, 64)
    """

    def build(self, codes_shape, summary_shape):
        size = self.num_heads * self.num_slots**2
        self.transitions = keras.layers.Dense(size, bias_initializer="random_normal")
        self.transitions.build((None, summary_shape[-1]))
        super().build(codes_shape, summary_shape)

    def call(self, codes, summary, mask=None):
        """Counts, sums and transitions (B, F) of codes (B, T, E); mask as for `SoftAssignment`."""
        batch, num_obs = codes.shape[0], codes.shape[1]
        statistics = ops.concatenate([ops.ones_like(codes[..., :1]), codes], axis=-1)
        scores = self.scores(statistics, summary)  # (B, heads, slots, T)
        if mask is not None:
            scores = scores * ops.cast(mask, scores.dtype)[:, None, None]
        scores = ops.reshape(
            ops.transpose(scores, (3, 2, 0, 1)), (num_obs, self.num_slots, batch * self.num_heads)
        )
        weights = ops.exp(LOGARITHMS.scale(scores, axis=1)[0])
        transition = self.transition_matrices(summary)
        start = ops.ones_like(weights[0])
        alpha, beta, _ = both_ways(start, transition, weights, PROBABILITIES)
        smoothed, _ = PROBABILITIES.scale(alpha * beta, axis=1)
        assigned = ops.reshape(smoothed, (num_obs, self.num_slots, batch, self.num_heads))
        assigned = ops.reshape(
            ops.transpose(assigned, (2, 0, 3, 1)), (batch, num_obs, self.num_heads * self.num_slots)
        )
        # Scaled twice: the gradient has the squares of the sums, which else may underflow.
        ahead, _ = PROBABILITIES.scale((weights * beta)[1:], axis=1)
        pairs, _ = PROBABILITIES.scale(
            alpha[:-1, :, None] * transition * ahead[:, None], axis=(1, 2)
        )
        pairs = ops.reshape(pairs, (num_obs - 1, self.num_slots**2, batch, self.num_heads))
        counted = self._count_pairs(pairs, mask)
        return ops.concatenate([masked_outer_mean(assigned, statistics, mask), counted], axis=-1)

    def transition_matrices(self, summary):
        """Transition matrices (slots, slots, B * heads) of chains that mix, see `arithmetic`."""
        logits = ops.reshape(
            self.transitions.call(summary), (-1, self.num_heads, self.num_slots, self.num_slots)
        )
        rows = ops.softmax(logits, axis=-1) + MIXING
        rows = ops.reshape(rows, (-1, self.num_slots, self.num_slots))
        return ops.transpose(rows, (1, 2, 0))

    def _count_pairs(self, pairs, mask):
        """Mean over neighbours that are both observed, (B, heads * slots ** 2)."""
        if mask is None:
            counted = ops.sum(pairs, axis=0) / max(pairs.shape[0], 1)
        else:
            mask = ops.cast(mask, pairs.dtype)
            both = ops.transpose(mask[:, 1:] * mask[:, :-1])[:, None, :, None]
            number = ops.maximum(ops.sum(both, axis=0), 1.0)
            counted = ops.sum(pairs * both, axis=0) / number
        counted = ops.transpose(counted, (1, 2, 0))
        return ops.reshape(counted, (-1, self.num_heads * self.num_slots**2))

    def compute_output_shape(self, codes_shape, summary_shape):
        batch, size = super().compute_output_shape(codes_shape, summary_shape)
        return (batch, size + self.num_heads * self.num_slots**2)
