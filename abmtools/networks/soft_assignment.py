r"""Soft assignment: an E-step as a network layer.

A mixture of K' exponential families with natural parameters :math:`\eta_k`, log-partition terms and
log weights :math:`a_k`, assigns an observation with statistics e to its components with
probabilities

.. math:: g_k(e) = \frac{\exp(a_k + \eta_k^\top e)}{\sum_j \exp(a_j + \eta_j^\top e)} ,

and the M-step of the EM algorithm needs nothing of the data but the expected counts and sums

.. math:: \frac{1}{N} \sum_i g_k(e_i) \, (1, e_i) .

Here the statistics are an observation's code, and :math:`(a, \eta)` a linear function of what a
summary of the data already says: provisional parameters. By Fisher's identity the same averages,
taken at provisional parameters :math:`\theta_0`, determine the gradient of the log likelihood
there, which is what tells how far :math:`\theta_0` is from the posterior.
"""

import keras
from bayesflow.utils.serialization import serializable

from .pooling import masked_outer_mean

__all__ = ["SoftAssignment"]


@serializable("abmtools.networks")
class SoftAssignment(keras.Layer):
    """Expected counts and sums of observations that are softly assigned to learned components.

    Parameters
    ----------
    num_heads : int
        Number of independent mixtures.
    num_slots : int
        Components K' of each.
    **kwargs
        Passed to ``keras.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.networks import SoftAssignment
    >>> rng = np.random.default_rng(1)
    >>> codes, summary = rng.normal(size=(2, 50, 3)), rng.normal(size=(2, 16))
    >>> assignment = SoftAssignment(num_heads=2, num_slots=4)
    >>> tuple(assignment(codes, summary).shape)
    (2, 32)
    """

    def __init__(self, num_heads: int = 2, num_slots: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # and uses it up: see compute_mask
        self.num_heads, self.num_slots = num_heads, num_slots
        self.provisional = None

    def build(self, codes_shape, summary_shape):
        size = self.num_heads * self.num_slots * (codes_shape[-1] + 1)
        self.provisional = keras.layers.Dense(size, bias_initializer="random_normal")
        self.provisional.build((None, summary_shape[-1]))
        self.built = True

    def call(self, codes, summary, mask=None):
        """Counts and sums (B, num_heads * num_slots * (E + 1)) of codes (B, N, E).

        The provisional parameters come from ``summary``, (B, D); mask, (B, N), is True where
        observed.
        """
        statistics = keras.ops.concatenate([keras.ops.ones_like(codes[..., :1]), codes], axis=-1)
        assigned = self.assign(statistics, summary)
        return masked_outer_mean(keras.ops.transpose(assigned, (0, 2, 1)), statistics, mask)

    def assign(self, statistics, summary):
        """Assignments (B, num_heads * num_slots, N); they sum to one within each head."""
        scores = self.scores(statistics, summary)
        # N runs fastest in memory: reducing the short axis of slots then vectorizes.
        assigned = keras.ops.softmax(scores, axis=2)
        return keras.ops.reshape(assigned, (-1, self.num_heads * self.num_slots, scores.shape[-1]))

    def scores(self, statistics, summary):
        """a_k + eta_k' e, (B, num_heads, num_slots, N), of statistics (1, e), (B, N, E + 1)."""
        provisional = self.provisional.call(summary)  # directly, as in DirectMLP
        parameters = keras.ops.reshape(
            provisional, (-1, self.num_heads * self.num_slots, statistics.shape[-1])
        )
        scores = keras.ops.matmul(parameters, keras.ops.transpose(statistics, (0, 2, 1)))
        return keras.ops.reshape(scores, (-1, self.num_heads, self.num_slots, statistics.shape[1]))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, codes_shape, summary_shape):
        return (codes_shape[0], self.num_heads * self.num_slots * (codes_shape[-1] + 1))

    def get_config(self):
        config = {"num_heads": self.num_heads, "num_slots": self.num_slots}
        return super().get_config() | config
