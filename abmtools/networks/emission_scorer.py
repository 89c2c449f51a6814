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

Where a parameter moves the observations themselves, as a time before which nothing happens does,
the rank would have to be large. Joint features, functions of both at once,

.. math:: f_k(y_i, \theta) = \varphi(e_i)^\top \psi_k(\theta) / \sqrt{r}
                            + h\big(a(e_i) + b(\theta)\big)^\top c_k(\theta)

with an activation h, then do with few, at the price of N x S evaluations of h for each.
"""

import keras
from bayesflow.utils.serialization import serializable

__all__ = ["EmissionScorer"]

FEATURES_AT_ONCE = 250_000  # joint features in memory, 1 MB: what a cache holds


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
    num_joint : int
        Number of joint features; 0 for none.
    activation : str
        Activation of the hidden layers and of the joint features.
    **kwargs
        Passed to ``keras.Layer``.

    Examples
    --------
    >>> import abmtools as abm
    >>> from abmtools.networks import EmissionScorer
    >>> scorer = EmissionScorer(3, rank=8, num_joint=4)
    >>> workflow = abm.MixtureWorkflow(abm.GaussianMixture(3), emission_scorer=scorer, seed=1)
    >>> data = workflow.simulate(2, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=10, seed=1)
    >>> posterior.membership.shape
    (2, 10, 200, 3)
    """

    def __init__(
        self,
        num_components: int,
        *,
        rank: int = 16,
        observation_widths=(32,),
        parameter_widths=(64, 64),
        num_joint: int = 0,
        activation: str = "silu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_joint = num_joint
        self.num_components, self.rank, self.activation = num_components, rank, activation
        self.observation_widths = tuple(observation_widths)
        self.parameter_widths = tuple(parameter_widths)
        self.observation_layers = self._make_layers(self.observation_widths, rank + num_joint)
        size = rank * num_components + num_joint * (num_components + 1)
        self.parameter_layers = self._make_layers(self.parameter_widths, size)

    def _make_layers(self, widths, units):
        hidden = [keras.layers.Dense(width, activation=self.activation) for width in widths]
        return [*hidden, keras.layers.Dense(units)]

    def build(self, codes_shape, parameters_shape):
        if self.built:
            return
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
        psi = self._forward(self.parameter_layers, parameters)
        batch, samples = psi.shape[0], psi.shape[1]
        split = self.rank * self.num_components
        own = keras.ops.reshape(psi[..., :split], (batch, samples * self.num_components, self.rank))
        own = own / self.rank**0.5
        scores = keras.ops.matmul(own, keras.ops.transpose(phi[..., : self.rank], (0, 2, 1)))
        scores = keras.ops.reshape(scores, (batch, samples, self.num_components, phi.shape[1]))
        if self.num_joint:
            scores = scores + self._joint(phi[..., self.rank :], psi[..., split:])
        return keras.ops.transpose(scores, (0, 1, 3, 2))

    def _joint(self, a, parameters):
        """Scores by the joint features, (B, S, K, N), from a(e), (B, N, J), and (b, c)."""
        size = max(1, FEATURES_AT_ONCE // (a.shape[0] * a.shape[1] * a.shape[2]))
        b, c = parameters[..., : self.num_joint], parameters[..., self.num_joint :]
        c = keras.ops.reshape(c, (*c.shape[:2], self.num_joint, self.num_components))
        if size < b.shape[1] and keras.backend.backend() == "jax":
            return self._joint_by_feature(a, b, c)
        activation = keras.activations.get(self.activation)
        a = keras.ops.transpose(a, (0, 2, 1))[:, None]
        c = keras.ops.transpose(c, (0, 1, 3, 2))
        parts = []
        for start in range(0, b.shape[1], size):
            part = slice(start, start + size)
            h = activation(a + b[:, part, :, None])
            parts.append(keras.ops.matmul(c[:, part], h))
        return keras.ops.concatenate(parts, axis=1)

    def _joint_by_feature(self, a, b, c):
        """The same, one feature after the other, so that compiled none is ever in memory."""
        activation = keras.activations.get(self.activation)

        def add(scores, feature):
            a, b, c = feature
            h = activation(a[:, None] + b[..., None])
            return scores + c[..., None] * h[:, :, None], None

        scores = keras.ops.zeros((*c.shape[:2], self.num_components, a.shape[1]), dtype=c.dtype)
        features = tuple(keras.ops.moveaxis(x, 2, 0) for x in (a, b, c))
        return keras.ops.scan(add, scores, features)[0]

    @staticmethod
    def _forward(layers, x):
        hidden = x
        for layer in layers[:-1]:
            hidden = layer.call(hidden)  # directly, as in DirectMLP
        return layers[-1].call(keras.ops.concatenate([hidden, x], axis=-1))

    def get_config(self):
        config = {
            "num_components": self.num_components,
            "rank": self.rank,
            "observation_widths": self.observation_widths,
            "parameter_widths": self.parameter_widths,
            "num_joint": self.num_joint,
            "activation": self.activation,
        }
        return super().get_config() | config
