r"""Correction: a flow is told by the likelihood how far off it is, and moves.

A summary network keeps of data what its training has taught it to keep. Of data unlike those it
loses what it would need, and no flow after it can know. Where the model has a likelihood, a few
values of it say what is missing. Let :math:`u = f(e; y)` be the flow's draw from its base variable
e. The log ratio

.. math:: r(e) = \log p(f(e; y), y) - \log q(f(e; y) \mid y)

is constant in e if q is exact. If the posterior in e is the base distribution moved by m, r has the
slope m; if it is narrower, r is curved. *Probes* are differences :math:`r(e_j) - r(0)` at 2D
points, :math:`\pm c` on each axis: the sigma points of an unscented transform (Julier & Uhlmann,
1997). From these and the summary a multilayer perceptron has a shift m and log scales s, and draws
become

.. math:: u = f(m + \exp(s) \, e; y) .

Both are bounded, since probes near the origin know nothing of what is far from it. That is one more
affine layer of the flow, so densities stay exact. Looking at the target density to improve an
amortized posterior goes back to Marino, Yue, & Mandt (2018), who do so again and again; here it is
done once.

Untrained, it changes nothing. `abmtools.heterogeneity.fit_correction` trains it.

References
----------
Julier, S. J., & Uhlmann, J. K. (1997). New extension of the Kalman filter to nonlinear systems.
Signal Processing, Sensor Fusion, and Target Recognition VI, Proceedings of SPIE 3068.
Marino, J., Yue, Y., & Mandt, S. (2018). Iterative amortized inference. Proceedings of the 35th
International Conference on Machine Learning.
"""

import bayesflow as bf
import keras
import numpy as np
from bayesflow.utils.serialization import serializable

from .direct_mlp import DirectMLP

__all__ = ["LikelihoodCorrection"]

DISTANCE = 1.5  # c, in standard deviations of the base distribution or nearly so
DEEPEST = 50.0  # nats below the likeliest of the points
LARGEST_SHIFT, LARGEST_LOG_SCALE = 1.0, 0.35  # probes that are all wild would lead farther astray


@serializable("abmtools.networks")
class LikelihoodCorrection(keras.Layer):
    """Shift and log scale of a flow's base variable, from probes and a summary.

    Shapes: B data sets, P summary statistics, D unconstrained parameters.

    Parameters
    ----------
    widths : sequence of int
        Of the hidden layers.
    **kwargs
        Passed to ``keras.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.networks import LikelihoodCorrection
    >>> shift, log_scale = LikelihoodCorrection()(np.ones((5, 6)), np.ones((5, 40)))
    >>> tuple(shift.shape), float(abs(shift).max()), float(abs(log_scale).max())
    ((5, 3), 0.0, 0.0)
    """

    def __init__(self, widths=(128, 128), **kwargs):
        super().__init__(**bf.utils.layer_kwargs(kwargs))
        self.widths = tuple(widths)
        self.perceptron = DirectMLP(
            self.widths, activation="silu", residual=False, dropout=0.0, name="perceptron"
        )

    def build(self, probes_shape, summary_shape):
        """Build all layers from the shapes of probes and summaries."""
        if self.built:
            return
        size = probes_shape[-1] + summary_shape[-1]
        self.location = self.add_weight(shape=(size,), initializer="zeros", trainable=False)
        self.scale = self.add_weight(shape=(size,), initializer="ones", trainable=False)
        self.perceptron.build((None, size))
        self.projector = keras.layers.Dense(
            probes_shape[-1], kernel_initializer="zeros", name="projector"
        )
        self.projector.build((None, self.widths[-1]))

    def adapt(self, probes: np.ndarray, summary: np.ndarray) -> None:
        """Take the location and scale of what the perceptron sees from training data."""
        x = np.concatenate([probes, summary], axis=-1)
        self.location.assign(x.mean(axis=0))
        self.scale.assign(np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0))

    def call(self, probes, summary):
        """Shift m and log scale s, (B, D) each, from probes (B, 2D) and summaries (B, P)."""
        x = (keras.ops.concatenate([probes, summary], axis=-1) - self.location) / self.scale
        shift, log_scale = keras.ops.split(self.projector(self.perceptron(x)), 2, axis=-1)
        return _bound(shift, LARGEST_SHIFT), _bound(log_scale, LARGEST_LOG_SCALE)

    @staticmethod
    def log_ratio(base_distribution, x, shift, log_scale):
        r"""log q(u | y) with the correction less that without, (B, S), at base variables x.

        The flow's draws without it have x, (B, S, D), of the base distribution; with it
        :math:`e = \exp(-s) (x - m)` has that distribution.
        """
        e = (x - shift[:, None]) * keras.ops.exp(-log_scale[:, None])
        log_det = keras.ops.sum(log_scale, axis=-1, keepdims=True)
        return base_distribution.log_prob(e) - base_distribution.log_prob(x) - log_det

    @staticmethod
    def points(num_parameters: int) -> np.ndarray:
        """Points of the base space, (2D + 1, D): the origin, then those on the axes."""
        axes = DISTANCE * np.eye(num_parameters, dtype="float32")
        return np.concatenate([np.zeros((1, num_parameters), dtype="float32"), axes, -axes])

    @staticmethod
    def probes(log_ratio: np.ndarray) -> np.ndarray:
        """Probes (B, 2D) from log ratios at the points, (B, 2D + 1), some maybe minus infinity.

        Their signed logarithms, so that a network gets numbers of moderate size.
        """
        highest = log_ratio.max(axis=1, keepdims=True)
        highest = np.where(np.isfinite(highest), highest, 0.0)  # no point is possible
        log_ratio = np.maximum(log_ratio, highest - DEEPEST)
        difference = log_ratio[:, 1:] - log_ratio[:, :1]
        return (np.sign(difference) * np.log1p(np.abs(difference))).astype("float32")

    def get_config(self):
        """What makes the layer again."""
        return super().get_config() | {"widths": self.widths}


def _bound(x, limit: float):
    """Nearly x where it is small, and never beyond the limit."""
    return limit * keras.ops.tanh(x / limit)
