r"""Emission scorer: how well each component explains an observation.

The classification factor needs, for every observation and component, a score

.. math:: f_k(y_i, \theta) \approx \log p(y_i \mid z_i = k, \theta) + c(y_i, \theta) .

In an exponential family that log density is an inner product of statistics of the observation
and functions of the parameters, :math:`T(y_i)^\top \eta_k(\theta) - A_k(\theta)`. The scorer has
the same form, with both sides learned:

.. math:: f_k(y_i, \theta) = \varphi(e_i)^\top \psi_k(\theta) / \sqrt{r}

with vectors of length r, the rank. It is exact for exponential families and approximates any smooth
log density as the rank grows. Its price is the point: N evaluations of :math:`\varphi`, S of
:math:`\psi`, and one matrix product give all N x S x K scores of S posterior draws.
"""

import keras
from bayesflow.utils.serialization import serializable

__all__ = ["EmissionScorer"]


@serializable("abmtools.networks")
class EmissionScorer(keras.Layer):
    """Score each component for each observation and parameter vector.

    Parameters
    ----------
    num_components : int
        K.
    rank : int
        Length r of the vectors phi and psi.
    observation_widths, parameter_widths : sequence of int
        Hidden layers of phi and psi; their inputs also skip to the output layer.
    activation : str
        Activation of the hidden layers.
    **kwargs
        Passed to ``keras.Layer``.
    """

    def __init__(
        self,
        num_components: int,
        *,
        rank: int = 16,
        observation_widths=(32,),
        parameter_widths=(64, 64),
        activation: str = "silu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_components, self.rank, self.activation = num_components, rank, activation
        self.observation_widths = tuple(observation_widths)
        self.parameter_widths = tuple(parameter_widths)
        self.observation_layers = self._make_layers(self.observation_widths, rank)
        self.parameter_layers = self._make_layers(self.parameter_widths, rank * num_components)

    def _make_layers(self, widths, units):
        hidden = [keras.layers.Dense(width, activation=self.activation) for width in widths]
        return [*hidden, keras.layers.Dense(units)]

    def build(self, codes_shape, parameters_shape):
        for layers, size in (
            (self.observation_layers, codes_shape[-1]),
            (self.parameter_layers, parameters_shape[-1]),
        ):
            inputs = size
            for layer in layers[:-1]:
                layer.build((None, inputs))
                inputs = layer.units
            layers[-1].build((None, inputs + size))
        self.built = True

    def call(self, codes, parameters):
        """Scores (B, S, N, K) from codes (B, N, E) and parameter features (B, S, P)."""
        phi = self._forward(self.observation_layers, codes)
        psi = self._forward(self.parameter_layers, parameters) / self.rank**0.5
        batch, samples = psi.shape[0], psi.shape[1]
        psi = keras.ops.reshape(psi, (batch, samples * self.num_components, self.rank))
        scores = keras.ops.matmul(psi, keras.ops.transpose(phi, (0, 2, 1)))
        scores = keras.ops.reshape(scores, (batch, samples, self.num_components, phi.shape[1]))
        return keras.ops.transpose(scores, (0, 1, 3, 2))

    @staticmethod
    def _forward(layers, x):
        hidden = x
        for layer in layers[:-1]:
            hidden = layer(hidden)
        return layers[-1](keras.ops.concatenate([hidden, x], axis=-1))

    def get_config(self):
        config = {
            "num_components": self.num_components,
            "rank": self.rank,
            "observation_widths": self.observation_widths,
            "parameter_widths": self.parameter_widths,
            "activation": self.activation,
        }
        return super().get_config() | config
