r"""The Gaussian mixture of *How many components?*: K unknown means and one unknown scale.

.. math::
    \pi &\sim \operatorname{Dirichlet}(c, \ldots, c) \\
    \mu_k &\sim \operatorname{Normal}(m, s), \quad k = 0, \ldots, K - 1, \text{ then sorted} \\
    \log\sigma &\sim \operatorname{Normal}(a, b) \\
    z_i &\sim \operatorname{Categorical}(\pi), \qquad
    y_i \sim \operatorname{Normal}(\mu_{z_i}, \sigma)

The prior of one component is the same whatever K is, so models of different K can be compared. For
that the prior density must be normalized, because the evidence p(y) is an average under it:

.. math:: p(\pi, \mu, \sigma) = \operatorname{Dirichlet}(\pi) \; K! \,
          \prod_k \operatorname{Normal}(\mu_k \mid m, s) \;
          \operatorname{LogNormal}(\sigma \mid a, b) , \qquad \mu_0 < \dots < \mu_{K-1} .

The factor K! is there because each of the K! orders of the same means is one point of the ordered
space. With K = 1 the mixture is a normal distribution, and its weight, which is one, no parameter.
"""

from importlib.resources import files

import numpy as np
from scipy.special import gammaln

from ..structures import Independent
from .constraints import ordered, positive, simplex
from .densities import log_dirichlet, log_normal
from .mixture import MixtureModel
from .normal import check_settings

__all__ = ["GaussianLocationMixture"]


class GaussianLocationMixture(MixtureModel):
    r"""Mixture of K normals with ordered means and a common unknown scale.

    Parameters
    ----------
    num_components : int
        K, from 1.
    concentration : float
        Parameter c of the symmetric Dirichlet prior of the weights.
    means_location, means_scale : float
        Prior location m and scale s of each mean before sorting.
    scale_prior : (float, float)
        Prior mean a and standard deviation b of :math:`\log\sigma`.
    num_obs : int or (int, int)
        Observations N to simulate, see `MixtureModel`.

    Raises
    ------
    ValueError
        If K < 1, the concentration or a scale is not positive, or a location is not finite.

    Notes
    -----
    Parameters are ``weights``, (K,), on the simplex, ``means``, (K,), ordered, and ``scale``; data
    are ``y``, (N,). `log_prior` is normalized.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import GaussianLocationMixture
    >>> model = GaussianLocationMixture(1)
    >>> model.unconstrained_names
    ['means[0]', 'scale']
    >>> model.simulate(2, rng=np.random.default_rng(0), num_obs=100)["y"].shape
    (2, 100)
    """

    def __init__(
        self,
        num_components: int = 2,
        *,
        concentration: float = 2.0,
        means_location: float = 0.0,
        means_scale: float = 3.0,
        scale_prior: tuple[float, float] = (0.0, 0.5),
        num_obs: int | tuple[int, int] = (50, 300),
    ):
        scale_location, scale_spread = scale_prior
        scales = {"means_scale": means_scale, "scale_prior[1]": scale_spread}
        check_settings(num_components, at_least=1, concentration=concentration, **scales)
        locations = {"means_location": means_location, "scale_prior[0]": scale_location}
        for argument, value in locations.items():
            if not np.isfinite(value):
                raise ValueError(f"{argument}: expected a finite number, got {value}.")
        self.concentration = float(concentration)
        self.means_location, self.means_scale = float(means_location), float(means_scale)
        self.scale_prior = (float(scale_location), float(scale_spread))
        self._size = int(num_components)
        super().__init__(
            prior=self._prior,
            structure=Independent(weights="weights"),
            emission=self._emission,
            constraints={"weights": simplex, "means": ordered, "scale": positive},
            num_obs=num_obs,
            log_prior=self._log_prior,
            log_emission=self._log_emission,
            stan_program=files("abmtools") / "stan" / "programs" / "gaussian_location_mixture.stan",
            stan_data=self._stan_data,
        )

    def _prior(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        means = rng.normal(self.means_location, self.means_scale, (batch_size, self._size))
        return {
            "weights": rng.dirichlet(np.full(self._size, self.concentration), batch_size),
            "means": np.sort(means, axis=1),
            "scale": np.exp(rng.normal(*self.scale_prior, batch_size)),
        }

    def _emission(self, rng: np.random.Generator, parameters: dict, z: np.ndarray):
        means = np.take_along_axis(parameters["means"].astype("float32"), z, axis=1)
        scale = parameters["scale"].astype("float32")[:, None]
        return {"y": means + scale * rng.standard_normal(z.shape, dtype="float32")}

    def _log_prior(self, parameters: dict) -> np.ndarray:
        weights, log_scale = parameters["weights"], np.log(parameters["scale"])
        log_means = log_normal(parameters["means"], self.means_location, self.means_scale)
        log_lognormal = log_normal(log_scale, *self.scale_prior) - log_scale
        log_weights = log_dirichlet(weights, self.concentration)
        return log_weights + gammaln(self._size + 1) + log_means.sum(axis=-1) + log_lognormal

    def _log_emission(self, data: dict, parameters: dict) -> np.ndarray:
        means = parameters["means"][:, :, None]
        scale = parameters["scale"][..., None, None]
        return log_normal(data["y"][:, None, :, None], means, scale)

    def _stan_data(self, data: dict) -> dict:
        y = data["y"][data["mask"]] if "mask" in data else data["y"]
        return {
            "N": len(y),
            "K": self._size,
            "y": y,
            "concentration": np.full(self._size, self.concentration),
            "location": self.means_location,
            "prior_scale": self.means_scale,
            "log_scale_location": self.scale_prior[0],
            "log_scale_spread": self.scale_prior[1],
        }
