r"""Set summary: a data set of exchangeable observations as one vector.

.. math:: s(y) = \rho\Big( \tfrac{1}{N} \sum_i \varphi(e_i), \; \log N \Big)

(Deep Sets, arXiv:1703.06114) with codes :math:`e_i` of an `ObservationEncoder`. Memory traffic per
observation is what costs time on a CPU, so :math:`\varphi` is one wide layer with a cheap
activation and the depth is in :math:`\rho`, which sees one row per data set.
"""

import bayesflow as bf
import keras
from bayesflow.utils.serialization import deserialize, serializable, serialize

from .pooling import masked_mean, observed_count

__all__ = ["SetSummary"]


@serializable("abmtools.networks")
class SetSummary(bf.networks.SummaryNetwork):
    """Permutation-invariant summary of any number of observations.

    Parameters
    ----------
    encoder : ObservationEncoder
        Shared with the emission scorer.
    summary_dim : int
        Length of the summary.
    widths : sequence of int
        Layers applied to each observation, before pooling.
    activation : str
        Their activation.
    pooled_widths : sequence of int
        Layers applied to the pooled features.
    pooled_activation : str
        Their activation.
    **kwargs
        Passed to ``bayesflow.networks.SummaryNetwork``.
    """

    def __init__(
        self,
        encoder,
        *,
        summary_dim: int = 32,
        widths=(96,),
        activation: str = "relu",
        pooled_widths=(128, 128),
        pooled_activation: str = "silu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.summary_dim = summary_dim
        self.widths, self.activation = tuple(widths), activation
        self.pooled_widths, self.pooled_activation = tuple(pooled_widths), pooled_activation
        self.hidden = [keras.layers.Dense(width, activation=activation) for width in self.widths]
        self.pooled = [
            keras.layers.Dense(width, activation=pooled_activation) for width in self.pooled_widths
        ]
        self.output_layer = keras.layers.Dense(summary_dim)

    def build(self, input_shape):
        if self.built:
            return
        self.encoder.build(input_shape)
        shape = self.encoder.compute_output_shape(input_shape)
        for layer in self.hidden:
            layer.build(shape)
            shape = (*shape[:-1], layer.units)
        shape = (shape[0], shape[-1] + 1)
        for layer in [*self.pooled, self.output_layer]:
            layer.build(shape)
            shape = (shape[0], layer.units)
        self.built = True

    def adapt(self, x, mask=None) -> None:
        """Take the data's location and scale from simulated observations."""
        self.encoder.adapt(x, mask)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.summary_dim)

    def call(self, x, mask=None, training: bool = False):
        """Summaries (B, summary_dim) of observations x; mask, (B, N), is True where observed."""
        hidden = self.encoder(x)
        for layer in self.hidden:
            hidden = layer(hidden)
        size = keras.ops.log(observed_count(hidden, mask))
        pooled = keras.ops.concatenate([masked_mean(hidden, mask), size], axis=-1)
        for layer in [*self.pooled, self.output_layer]:
            pooled = layer(pooled)
        return pooled

    def get_config(self):
        config = {
            "encoder": self.encoder,
            "summary_dim": self.summary_dim,
            "widths": self.widths,
            "activation": self.activation,
            "pooled_widths": self.pooled_widths,
            "pooled_activation": self.pooled_activation,
        }
        return super().get_config() | serialize(config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**deserialize(config, custom_objects=custom_objects))
