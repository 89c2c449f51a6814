r"""Self-consistency: what the likelihood says about a posterior without any draws of it.

Bayes' rule holds for every :math:`\theta`, so that

.. math:: \log p(y) = \log p(u, y) - \log p(u \mid y)

does not depend on u, the parameters on the unconstrained scale. With a network's
:math:`q(u \mid y)` in place of the posterior the right side varies over u, unless q is exact. How
much is a loss (Schmitt et al., 2024) that needs no parameters which belong to y; so y may be any
data, also such as the model does not make (Mishra et al., 2025). The u may be any draws where both
densities have mass, and where q is exact each of them says so: the gradient is zero for every data
set, not only on average (Richter et al., 2020). With draws of q itself and the variance as the
measure of variation, half of it has the gradient of the divergence
:math:`\operatorname{KL}[q \,\|\, p]`.

Draws far out in a tail of one of the two would be all of a variance. Here the measure is Huber's,

.. math:: \frac{1}{L} \sum_l \rho(r_l - c) , \qquad
          \rho(e) = \begin{cases} e^2 / 2 & |e| \le 1 \\ |e| - 1/2 & |e| > 1 \end{cases}

of the log ratios :math:`r_l = \log p(u_l, y) - \log q(u_l \mid y)` around their center c.

The loss of simulated parameters, :math:`-\log q(u \mid y)`, has one u for each y, which is anywhere
in the posterior. So its gradient, also where q is exact, is mostly noise, and far larger. An
optimizer that has both losses to go by, above all one that scales its steps, sees little else,
unless this loss has the larger weight.

References
----------
Mishra, A., Habermann, D., Schmitt, M., Radev, S. T., & Bürkner, P.-C. (2025). Robust amortized
Bayesian inference with self-consistency losses on unlabeled data. arXiv:2501.13483.
Richter, L., Boustati, A., Nüsken, N., Ruiz, F. J. R., & Akyildiz, Ö. D. (2020). VarGrad: A
low-variance gradient estimator for variational inference. Advances in Neural Information Processing
Systems, 33.
Schmitt, M., Ivanova, D. R., Habermann, D., Köthe, U., Bürkner, P.-C., & Radev, S. T. (2024).
Leveraging self-consistency for data-efficient amortized Bayesian inference. Proceedings of the 41st
International Conference on Machine Learning.
"""

import keras

__all__ = ["inconsistency"]


def inconsistency(log_ratio):
    """How much log ratios (..., L) vary over the draws, (...).

    Parameters
    ----------
    log_ratio : tensor or array, shape (..., L)
        log p(u, y) - log q(u | y), up to a constant for each data set.

    Examples
    --------
    >>> from abmtools.inference.consistency import inconsistency
    >>> [float(inconsistency(x)) for x in ([3.0, 3.0], [-1.0, 1.0], [-5.0, 5.0])]
    [0.0, 0.5, 4.5]
    """
    log_ratio = keras.ops.convert_to_tensor(log_ratio)
    around = log_ratio - _constant(keras.ops.median(log_ratio, axis=-1, keepdims=True))
    weights = _constant(1 / keras.ops.maximum(keras.ops.abs(around), 1.0))
    total = keras.ops.sum(weights, axis=-1, keepdims=True)
    around = around - keras.ops.sum(weights * around, axis=-1, keepdims=True) / total
    size = keras.ops.abs(around)
    return keras.ops.mean(
        keras.ops.where(size <= 1, 0.5 * keras.ops.square(around), size - 0.5), axis=-1
    )


def _constant(x):
    """Without a gradient: the center is where the loss is smallest, or near it."""
    return keras.ops.stop_gradient(x)
