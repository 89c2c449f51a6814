r"""Set summary: a data set of exchangeable observations as one vector.

The first pass is a deep set (Zaheer et al., 2017, arXiv:1703.06114) of the codes :math:`e_i`,

.. math:: s_1 = \rho_1\Big( \tfrac{1}{N} \sum_i \varphi(e_i), \; \log N \Big) .

Its features are placed before the data are seen, so they locate the posterior but measure it
coarsely: what tells two close components apart is a small difference of two large averages. The
second pass places its features where the first one points, as an E-step does,

.. math:: g_i = \sigma(A e_i + B s_1), \qquad
          s_2 = \rho_2\Big( s_1, \; \tfrac{1}{N} \sum_i g_i, \;
                           \tfrac{1}{N} \sum_i g_i e_i^\top, \; \log N \Big) ,

soft assignments with their expected counts and sums. Memory traffic per observation is what costs
time on a CPU, so each pass has one layer there and its depth in :math:`\rho`, which sees one row
per data set.
"""

import bayesflow as bf
import keras
from bayesflow.utils.serialization import deserialize, serializable, serialize

from .pooling import masked_mean, masked_outer_mean, observed_count

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
    width : int
        Number of features phi of the first pass.
    num_assignments : int
        Number of soft assignments g of the second pass; 0 for a plain deep set.
    pooled_widths : sequence of int
        Hidden layers of rho, in both passes.
    **kwargs
        Passed to ``bayesflow.networks.SummaryNetwork``.
    """

    def __init__(
        self,
        encoder,
        *,
        summary_dim: int = 48,
        width: int = 64,
        num_assignments: int = 48,
        pooled_widths=(96,),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True  # and uses it up: see compute_mask
        self.encoder = encoder
        self.summary_dim, self.width = summary_dim, width
        self.num_assignments, self.pooled_widths = num_assignments, tuple(pooled_widths)
        self.features = keras.layers.Dense(width, activation="relu", **_spread(1.0))
        self.first = self._make_pooled_layers()
        if num_assignments:
            self.code_gates = keras.layers.Dense(num_assignments, **_spread(2.0))
            self.summary_gates = keras.layers.Dense(num_assignments, use_bias=False)
            self.second = self._make_pooled_layers()

    def _make_pooled_layers(self):
        hidden = [keras.layers.Dense(width, activation="silu") for width in self.pooled_widths]
        return [*hidden, keras.layers.Dense(self.summary_dim)]

    def build(self, input_shape):
        if self.built:
            return
        self.encoder.build(input_shape)
        code = self.encoder.compute_output_shape(input_shape)[-1]
        self.features.build((None, code))
        _build_layers(self.first, self.width + 1)
        if self.num_assignments:
            self.code_gates.build((None, code))
            self.summary_gates.build((None, self.summary_dim))
            _build_layers(self.second, self.summary_dim + self.num_assignments * (1 + code) + 1)
        self.built = True

    def adapt(self, x, mask=None) -> None:
        """Take the data's location and scale from simulated observations."""
        self.encoder.adapt(x, mask)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.summary_dim)

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, x, mask=None, training: bool = False):
        """Summaries (B, summary_dim) of observations x; mask, (B, N), is True where observed."""
        codes = self.encoder(x)
        size = keras.ops.log(observed_count(codes, mask))
        pooled = masked_mean(self.features(codes), mask)
        summary = _apply(self.first, [pooled, size])
        if not self.num_assignments:
            return summary
        gates = self.code_gates(codes) + self.summary_gates(summary)[:, None]
        assignments = keras.ops.sigmoid(gates)
        sums = masked_outer_mean(assignments, codes, mask)
        return _apply(self.second, [summary, masked_mean(assignments, mask), sums, size])

    def get_config(self):
        config = {
            "encoder": self.encoder,
            "summary_dim": self.summary_dim,
            "width": self.width,
            "num_assignments": self.num_assignments,
            "pooled_widths": self.pooled_widths,
        }
        return super().get_config() | serialize(config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**deserialize(config, custom_objects=custom_objects))


def _spread(slope: float) -> dict:
    """Initializers that spread a layer's kinks or thresholds over the range of the codes.

    With biases of zero all of them would lie at the mean, and pooled features of one number would
    be two different ones. Codes have a scale of about one.
    """
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            slope**2, mode="fan_in", distribution="untruncated_normal"
        ),
        "bias_initializer": keras.initializers.RandomUniform(-2 * slope, 2 * slope),
    }


def _build_layers(layers, size: int) -> None:
    for layer in layers:
        layer.build((None, size))
        size = layer.units


def _apply(layers, parts):
    hidden = keras.ops.concatenate(parts, axis=-1)
    for layer in layers:
        hidden = layer(hidden)
    return hidden
