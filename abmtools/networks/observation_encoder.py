r"""Observation encoder: one observation, with all its replicates, as one vector.

Replicates are exchangeable, so their code is a function of pooled features
(Zaheer et al., 2017, *Deep Sets*, arXiv:1703.06114). For replicates :math:`y_{i1}, \dots, y_{iR}`

.. math:: e_i = \Big( \bar y_i, \; \textstyle\sum_j y_{ij} / c, \; R / c, \;
                      \tfrac{1}{R} \sum_j h(y_{ij}) \Big)

with a small learned layer h and a constant c. The linear features are there because they are
sufficient for an exponential family with natural statistic y; whatever else is needed, h learns.
Observations without replicates are passed on with their squares, :math:`e_i = (y_i, y_i^2 - 1)`,
the natural statistics of a normal with unknown location and scale; or without, where the model
has statistics of its own. Data are first standardized by
a mean and a scale that `adapt` takes from simulations.
"""

import keras
import numpy as np
from bayesflow.utils.serialization import serializable

from .pooling import masked_mean, observed_count

__all__ = ["ObservationEncoder"]

COUNT_SCALE = 4.0  # the constant c: brings sums and counts of a few replicates to order one


@serializable("abmtools.networks")
class ObservationEncoder(keras.Layer):
    """Encode observations, with or without replicates.

    Parameters
    ----------
    replicates : bool
        Whether the input is (B, N, R, D + 1), its last channel telling which replicates are
        observed (1) or missing (0); otherwise it is (B, N, D).
    width : int
        Size of the learned replicate features h; 0 for none.
    activation : str
        Activation of h.
    squares : bool
        Whether observations without replicates are passed on with their squares.
    **kwargs
        Passed to ``keras.Layer``.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools.networks import ObservationEncoder
    >>> y = np.random.default_rng(1).normal(size=(2, 50, 3))
    >>> observed = np.ones_like(y)
    >>> encoder = ObservationEncoder(replicates=True, width=8)
    >>> tuple(encoder(np.stack([y, observed], axis=-1)).shape)
    (2, 50, 11)
    """

    def __init__(
        self,
        replicates: bool = False,
        width: int = 8,
        activation="relu",
        squares: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.replicates, self.width, self.activation = replicates, width, activation
        self.squares = squares
        self.hidden = None
        if replicates and width:
            self.hidden = keras.layers.Dense(width, activation=activation)

    def build(self, input_shape):
        if self.built:  # it is shared, and may be built on its own before
            return
        features = input_shape[-1] - 1 if self.replicates else input_shape[-1]
        self.location = self.add_weight((features,), "zeros", trainable=False, name="location")
        self.scale = self.add_weight((features,), "ones", trainable=False, name="scale")
        if self.hidden is not None:
            self.hidden.build((None, features))
        self.built = True

    def adapt(self, x, mask=None) -> None:
        """Set location and scale from what is observed of simulated inputs x."""
        x = keras.ops.convert_to_numpy(x)
        observed = np.ones(x.shape[:2]) if mask is None else keras.ops.convert_to_numpy(mask)
        if self.replicates:
            observed = observed[..., None] * x[..., -1]
            x = x[..., :-1]
        x = x[observed.astype(bool)]
        self.location.assign(x.mean(axis=0))
        self.scale.assign(np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0))

    def call(self, x):
        """Codes of shape (B, N, E) for observations x."""
        if not self.replicates:
            y = (x - self.location) / self.scale
            return keras.ops.concatenate([y, y**2 - 1], axis=-1) if self.squares else y
        y = (x[..., :-1] - self.location) / self.scale
        mask = x[..., -1]
        mean = masked_mean(y, mask)
        count = observed_count(y, mask) / COUNT_SCALE
        parts = [mean, mean * count, count]
        if self.hidden is not None:
            parts.append(masked_mean(self.hidden(y), mask))
        return keras.ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape):
        if not self.replicates:
            return (*input_shape[:-1], input_shape[-1] * (2 if self.squares else 1))
        features = 2 * (input_shape[-1] - 1) + 1
        return (*input_shape[:-2], features + (self.width if self.hidden is not None else 0))

    def get_config(self):
        config = {
            "replicates": self.replicates,
            "width": self.width,
            "activation": self.activation,
            "squares": self.squares,
        }
        return super().get_config() | config
