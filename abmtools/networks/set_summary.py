r"""Set summary: a data set of exchangeable observations as one vector.

The first pass is a deep set (Zaheer et al., 2017, arXiv:1703.06114) of the codes :math:`e_i`,

.. math:: s_0 = \rho_0\Big( \tfrac{1}{N} \sum_i \varphi(e_i), \; \log N \Big) .

Its features are placed before the data are seen, so they locate the posterior but measure it
coarsely: what tells two close components apart is a small difference of two large averages. Each
further pass places its features where the one before points, as an iteration of the EM algorithm
does, and corrects the summary by what it finds there,

.. math:: s_t = s_{t-1} + \rho_t\Big( s_{t-1}, \; \tfrac{1}{N} \sum_i g_t(e_i; s_{t-1}) \,
                                (1, e_i)^\top, \; \log N \Big) ,

with the expected counts and sums of a `SoftAssignment` g. Memory traffic per observation is what
costs time on a CPU, so a pass has one layer there and its depth in :math:`\rho`, which sees one
row per data set.
"""

import bayesflow as bf
import keras
from bayesflow.utils.serialization import deserialize, serializable, serialize

from .pooling import masked_mean, observed_count
from .soft_assignment import SoftAssignment

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
    num_passes : int
        Passes with soft assignments after the first; 0 for a plain deep set.
    num_heads, num_slots : int
        Of each `SoftAssignment`.
    pooled_widths : sequence of int
        Hidden layers of rho, in all passes.
    **kwargs
        Passed to ``bayesflow.networks.SummaryNetwork``.

    Examples
    --------
    >>> import abmtools as abm
    >>> from abmtools.networks import ObservationEncoder, SetSummary
    >>> summary = SetSummary(ObservationEncoder(replicates=True), summary_dim=16)
    >>> workflow = abm.MixtureWorkflow(abm.GaussianMixture(), summary_network=summary, seed=1)
    >>> data = workflow.simulate(2, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=10, seed=1)
    >>> posterior.parameters["means"].shape
    (2, 10, 3)
    """

    assignment_type = SoftAssignment

    def __init__(
        self,
        encoder,
        *,
        summary_dim: int = 48,
        width: int = 32,
        num_passes: int = 4,
        num_heads: int = 2,
        num_slots: int = 4,
        pooled_widths=(96,),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True  # and uses it up: see compute_mask
        self.encoder = encoder
        self.summary_dim, self.width, self.num_passes = summary_dim, width, num_passes
        self.num_heads, self.num_slots = num_heads, num_slots
        self.pooled_widths = tuple(pooled_widths)
        self.features = keras.layers.Dense(width, activation="relu", **_spread())
        self.first = self._make_pooled_layers()
        self.assignments = [self.assignment_type(num_heads, num_slots) for _ in range(num_passes)]
        self.corrections = [self._make_pooled_layers() for _ in range(num_passes)]

    def _make_pooled_layers(self):
        hidden = [keras.layers.Dense(width, activation="silu") for width in self.pooled_widths]
        return [*hidden, keras.layers.Dense(self.summary_dim)]

    def build(self, input_shape):
        if self.built:
            return
        self.encoder.build(input_shape)
        codes = self.encoder.compute_output_shape(input_shape)
        _build_layers(self.first, self.build_first_features(codes) + 1)
        summary = self.compute_output_shape(input_shape)
        for assignment, correction in zip(self.assignments, self.corrections, strict=True):
            assignment.build(codes, summary)
            counted = assignment.compute_output_shape(codes, summary)[-1]
            _build_layers(correction, self.summary_dim + counted + 1)
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
        summary = _apply(self.first, [self.first_features(codes, mask), size])
        for assignment, correction in zip(self.assignments, self.corrections, strict=True):
            expected = assignment.call(codes, summary, mask=mask)
            summary = summary + _apply(correction, [summary, expected, size])
        return summary

    def build_first_features(self, codes_shape) -> int:
        """Build the layers of `first_features`; return how many features there are."""
        self.features.build(codes_shape)
        return self.width

    def first_features(self, codes, mask):
        """What the first pass pools, (B, F)."""
        return masked_mean(self.features.call(codes), mask)

    def get_config(self):
        config = {
            "encoder": self.encoder,
            "summary_dim": self.summary_dim,
            "width": self.width,
            "num_passes": self.num_passes,
            "num_heads": self.num_heads,
            "num_slots": self.num_slots,
            "pooled_widths": self.pooled_widths,
        }
        return super().get_config() | serialize(config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**deserialize(config, custom_objects=custom_objects))


def _spread() -> dict:
    """Initializers that spread the kinks of the first pass over the range of the codes.

    With biases of zero all of them would lie at the mean, and pooled features of one number would
    be two different ones. Codes have a scale of about one.
    """
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            1.0, mode="fan_in", distribution="untruncated_normal"
        ),
        "bias_initializer": keras.initializers.RandomUniform(-2.0, 2.0),
    }


def _build_layers(layers, size: int) -> None:
    for layer in layers:
        layer.build((None, size))
        size = layer.units


def _apply(layers, parts):
    hidden = keras.ops.concatenate(parts, axis=-1)
    for layer in layers:
        hidden = layer.call(hidden)  # directly, as in DirectMLP
    return hidden
