r"""Heterogeneity: training on data sets that the model does not make, by the likelihood.

A flow that is trained on simulations minimizes
:math:`\mathbb{E}_{p(y)} \operatorname{KL}[p(\theta \mid y) \,\|\, q(\theta \mid y)]`, the average
over data sets that the *model* makes. Real data are never quite like those: people tire, learn and
look away, so that no single :math:`\theta` has made all their responses. The posterior of such data
is what it is, and NUTS finds it; a network has seen nothing like them.

Where the model has a likelihood, a network can learn from any data: the difference
:math:`\log p(u, y) - \log q(u \mid y)` is the same for all parameters u exactly if q is exact. How
much it varies is a loss that needs no parameters which have made y, only some u where both
densities have mass (`abmtools.inference.consistency`). Here these are the network's own draws,
resampled half way to the posterior.

Which data? A fifth of them are the model's own, so that these become consistent, too. The others
are heterogeneous: they have the indicators of one :math:`\theta`, and observations from several
around it. On the unconstrained scale,

.. math:: u^{(j)} = u + s \, \frac{u'_j - u''_j}{\sqrt{2}} , \qquad
          u'_j, u''_j \text{ independent draws of the prior} ,

in turns or one after the other, by weights that are drawn, too. With :math:`s = 1` these vectors
differ as much as the prior's do; s is uniform, up to more than that, since one's own trials can
differ more than people do on average; and some parameters do not vary at all. A parameter whose
bound depends on the data, such as a non-decision time, is
:math:`(\theta + s \, \theta'_j) / (1 + s)` instead. Then the components get other shapes and their
observations another order: real ones depend on their neighbours, and before a switch and after it
they are nearer to the other component (`disturbances`). Most of these data sets have a few strays
besides, at most a tenth of the observations, from :math:`\theta'_j` itself, or what else one fears
in one's data.

Networks can go on with their training on such data (`HeterogeneousData` is a simulator for
`MixtureWorkflow.fit_online`), or stay as they are, and only a correction of the posterior by the
likelihood is trained (`fit_correction`).

References
----------
Mishra, A., Habermann, D., Schmitt, M., Radev, S. T., & Bürkner, P.-C. (2025). Robust amortized
Bayesian inference with self-consistency losses on unlabeled data. arXiv:2501.13483.
Schmitt, M., Ivanova, D. R., Habermann, D., Köthe, U., Bürkner, P.-C., & Radev, S. T. (2024).
Leveraging self-consistency for data-efficient amortized Bayesian inference. Proceedings of the 41st
International Conference on Machine Learning.
"""

from .correction import fit_correction
from .data import HeterogeneousData
from .draws import heterogeneous_data
from .simulation import simulate_heterogeneous

__all__ = ["HeterogeneousData", "fit_correction", "heterogeneous_data", "simulate_heterogeneous"]
