r"""Sequence summary: a sequence with hidden states as one vector.

A `SetSummary` that knows the order of its observations. Its first pass pools products of
neighbouring features beside the features themselves,

.. math:: \frac{1}{T - 1} \sum_t h(e_t) \, h(e_{t+1})^\top ,

which tell how long states last. Its further passes are E-steps of learned hidden Markov models, see
`ChainAssignment`, so that what they count has been smoothed along the chain.
"""

import keras
from bayesflow.utils.serialization import serializable
from keras import ops

from .chain_assignment import ChainAssignment
from .pooling import masked_outer_mean
from .set_summary import SetSummary

__all__ = ["SequenceSummary"]


@serializable("abmtools.networks")
class SequenceSummary(SetSummary):
    """Summary of a sequence of any length.

    Parameters
    ----------
    encoder : ObservationEncoder
        Shared with the emission scorer.
    num_lagged : int
        Number of features h whose products between neighbours the first pass pools.
    num_slots : int
        States of each learned chain, by default 3.
    **kwargs
        As for `SetSummary`.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.networks import ObservationEncoder, SequenceSummary
    >>> summary = SequenceSummary(ObservationEncoder(), summary_dim=16, num_slots=2)
    >>> y = np.random.default_rng(1).normal(size=(2, 100, 1))
    >>> tuple(summary(y).shape), tuple(summary(y[:, :40]).shape)
    ((2, 16), (2, 16))
    """

    assignment_type = ChainAssignment

    def __init__(self, encoder, *, num_lagged: int = 8, num_slots: int = 3, **kwargs):
        super().__init__(encoder, num_slots=num_slots, **kwargs)
        self.num_lagged = num_lagged
        self.lagged = keras.layers.Dense(num_lagged, activation="tanh")

    def build_first_features(self, codes_shape) -> int:
        self.lagged.build(codes_shape)
        return super().build_first_features(codes_shape) + self.num_lagged**2

    def first_features(self, codes, mask):
        h = self.lagged.call(codes)
        both = None
        if mask is not None:
            both = ops.logical_and(ops.cast(mask, "bool")[:, 1:], ops.cast(mask, "bool")[:, :-1])
        products = masked_outer_mean(h[:, :-1], h[:, 1:], both)
        return ops.concatenate([super().first_features(codes, mask), products], axis=-1)

    def get_config(self):
        return super().get_config() | {"num_lagged": self.num_lagged}
