r"""Independent indicators: a finite mixture in the textbook sense.

Each observation picks its component on its own,

.. math:: p(z_{1:N} \mid \theta) = \prod_i \pi_{z_i}, \qquad
          q(z_i = k \mid y, \theta) = \frac{\pi_k \exp f_{ik}}{\sum_j \pi_j \exp f_{ij}},

where :math:`f_{ik}` is a score of observation i under component k: a trained network's, or the
exact :math:`\log p(y_i \mid z_i = k, \theta)`. With exact scores the normalizing sum is the
likelihood of :math:`y_i`. Scores may contain any constant per observation; it cancels.
"""

import keras
import numpy as np

from .categorical import draw_categorical

__all__ = ["Independent"]


class Independent:
    """Indicators that are independent given the mixture weights.

    Parameters
    ----------
    weights : str or array of shape (K,)
        Name of the simplex parameter that holds the weights, or fixed weights.

    Raises
    ------
    ValueError
        If fixed weights are not positive or do not sum to one.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import Independent
    >>> from keras.ops import convert_to_numpy
    >>> structure = Independent([0.25, 0.75])
    >>> scores = np.array([[np.log(0.3), np.log(0.1)], [-np.inf, np.log(0.5)]])
    >>> convert_to_numpy(structure.membership(scores, {})).round(3)
    array([[0.5, 0.5],
           [0. , 1. ]])
    """

    exchangeable = True  # the order of the observations means nothing

    def __init__(self, weights="weights"):
        if not isinstance(weights, str):
            weights = np.asarray(weights, dtype="float64")
            if weights.ndim != 1 or not (np.all(weights > 0) and abs(weights.sum() - 1) < 1e-6):
                raise ValueError(
                    "weights: expected a parameter's name or positive numbers that sum to one, "
                    f"got {weights}."
                )
        self.weights = weights

    def __repr__(self) -> str:
        return f"Independent(weights={self.weights!r})"

    def num_components(self, parameters: dict) -> int:
        """K, from draws of the prior {name: (B, ...)}.

        Raises
        ------
        ValueError
            If there is no such parameter, or it is no vector.
        """
        if not isinstance(self.weights, str):
            return len(self.weights)
        if self.weights not in parameters:
            raise ValueError(
                f"structure: expected a parameter named {self.weights!r} in the prior, "
                f"got {sorted(parameters)}."
            )
        shape = np.shape(parameters[self.weights])[1:]
        if len(shape) != 1:
            raise ValueError(
                f"structure: parameter {self.weights!r} must have shape (K,) per data set, "
                f"got {shape}."
            )
        return shape[0]

    @property
    def simplex_parameters(self) -> list[str]:
        """Names of the parameters that must be on the simplex."""
        return [self.weights] if isinstance(self.weights, str) else []

    def log_weights(self, parameters):
        """log pi, shape (..., K); fixed weights have no leading axes."""
        weights = parameters[self.weights] if isinstance(self.weights, str) else self.weights
        return keras.ops.log(keras.ops.convert_to_tensor(weights))

    def sample(self, rng: np.random.Generator, parameters, num_obs: int) -> np.ndarray:
        """Simulate indicators.

        Parameters
        ----------
        rng : numpy.random.Generator
        parameters : dict
            Parameters with one leading axis (B, ...); fixed weights take only B from them.
        num_obs : int

        Returns
        -------
        z : array of int, shape (B, num_obs)
        """
        if isinstance(self.weights, str):
            weights = np.asarray(parameters[self.weights])
        else:
            batch = len(next(iter(parameters.values())))
            weights = np.broadcast_to(self.weights, (batch, len(self.weights)))
        return draw_categorical(rng, weights[:, None], (len(weights), num_obs))

    def log_joint_scores(self, scores, parameters):
        """log pi_k + f_ik, shape (..., N, K): everything else normalizes this."""
        log_weights = self.log_weights(parameters)
        scores = keras.ops.convert_to_tensor(scores)
        return scores + keras.ops.cast(log_weights[..., None, :], scores.dtype)

    def log_membership(self, scores, parameters):
        """log q(z_i = k | y, theta), shape (..., N, K), from scores (..., N, K)."""
        joint = self.log_joint_scores(scores, parameters)
        return joint - keras.ops.logsumexp(joint, axis=-1, keepdims=True)

    def membership(self, scores, parameters):
        """q(z_i = k | y, theta), shape (..., N, K): the exponential of `log_membership`."""
        joint = self.log_joint_scores(scores, parameters)
        if joint.shape[-1] == 1:  # Keras warns of a softmax over one number
            return keras.ops.ones_like(joint)
        # Reducing the short axis K vectorizes well only where N runs fastest in memory.
        return keras.ops.swapaxes(
            keras.ops.softmax(keras.ops.swapaxes(joint, -1, -2), axis=-2), -1, -2
        )

    def log_likelihood(self, scores, parameters, mask=None):
        """sum_i log sum_k pi_k exp f_ik, shape (...): with exact scores, log p(y | theta).

        Parameters
        ----------
        scores : array, shape (..., N, K)
        parameters : dict
        mask : bool array broadcastable to (..., N), optional
            False where an observation is missing; it then contributes nothing.
        """
        joint = self.log_joint_scores(scores, parameters)
        return _masked_sum(keras.ops.logsumexp(joint, axis=-1), mask)

    def log_prob(self, z, scores, parameters, mask=None):
        """log q(z_{1:N} | y, theta) of indicators z, (..., N); shape (...).

        Minus infinity where one of them is no component.
        """
        log_membership = self.log_membership(scores, parameters)
        z = keras.ops.cast(keras.ops.convert_to_tensor(z), "int32")[..., None]
        known = keras.ops.logical_and(z >= 0, z < log_membership.shape[-1])
        chosen = keras.ops.take_along_axis(log_membership, keras.ops.where(known, z, 0), axis=-1)
        return _masked_sum(keras.ops.where(known, chosen, -np.inf)[..., 0], mask)

    def draw(self, scores, parameters, *, rng: np.random.Generator) -> np.ndarray:
        """Draw z ~ q(z | y, theta), shape (..., N).

        Raises
        ------
        ValueError
            If no component can have made an observation.
        """
        log_membership = keras.ops.convert_to_numpy(self.log_membership(scores, parameters))
        if np.isnan(log_membership).any():
            raise ValueError("scores: an observation is impossible in every component.")
        return draw_categorical(rng, np.exp(log_membership))


def _masked_sum(terms, mask):
    """Sum over the last axis, leaving masked terms out."""
    if mask is not None:
        mask = keras.ops.cast(keras.ops.convert_to_tensor(mask), "bool")
        terms = keras.ops.where(mask, terms, keras.ops.zeros_like(terms))
    return keras.ops.sum(terms, axis=-1)
