r"""Heterogeneity: training on data sets that the model does not make, with draws that are right.

A flow that is trained on simulations minimizes
:math:`\mathbb{E}_{p(y)} \operatorname{KL}[p(\theta \mid y) \,\|\, q(\theta \mid y)]`, the average
over data sets that the *model* makes. Real data are never quite like those: people tire, learn and
look away, so that no single :math:`\theta` has made all their responses. The posterior of such data
is what it is, and NUTS finds it; a network has seen nothing like them.

But the average may be over any data sets, as long as the parameters that belong to each are draws
of *its* posterior,

.. math:: \mathbb{E}_{\tilde p(y)} \, \mathbb{E}_{p(\theta \mid y)} [-\log q(\theta \mid y)] ,

and where the model has a likelihood there are such draws for any y: the network's own, resampled by
their Pareto-smoothed importance weights, with indicators drawn from :math:`p(z \mid y, \theta)`.

The weights cannot be trusted where the network is far off, and those are the data sets to learn
from. So the proposal adapts (`abmtools.diagnostics.proposals`): a multivariate t takes the mean and
covariance of the weighted draws, its own draws are weighed in turn, and so on. Data sets whose
weights are bad to the end are left out.

Which :math:`\tilde p`? Here half the data sets are the model's own, and half heterogeneous. These
have the indicators of one :math:`\theta`, and observations from several around it. On the
unconstrained scale,

.. math:: u^{(j)} = u + s \, \frac{u'_j - u''_j}{\sqrt{2}} , \qquad
          u'_j, u''_j \text{ independent draws of the prior} ,

in turns or one after the other, by weights that are drawn, too. With :math:`s = 1` these vectors
differ as much as the prior's do; s is uniform, up to more than that, since one's own trials can
differ more than people do on average; and some parameters do not vary at all. A parameter whose
bound depends on the data, such as a non-decision time, is
:math:`(\theta + s \, \theta'_j) / (1 + s)` instead. Then the components get other shapes and their
observations another order: real ones depend on their neighbours, and before a switch and after it
they are nearer to the other component (`disturbances`). Half of these data sets have strays
besides: up to a tenth of the observations, from :math:`\theta'_j` itself, or what else one fears
in one's data.

References
----------
Bugallo, M. F., Elvira, V., Martino, L., Luengo, D., Miguez, J., & Djuric, P. M. (2017). Adaptive
importance sampling: The past, the present, and the future. IEEE Signal Processing Magazine, 34(4),
60-79.
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
sampling. Journal of Machine Learning Research, 25(72), 1-58.
"""

from .data import HeterogeneousData
from .labels import heterogeneous_data
from .simulation import simulate_heterogeneous

__all__ = ["HeterogeneousData", "heterogeneous_data", "simulate_heterogeneous"]
