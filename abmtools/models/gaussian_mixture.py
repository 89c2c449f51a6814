r"""The Gaussian mixture of the first case study.

.. math::
    \pi &\sim \operatorname{Dirichlet}(c, \ldots, c) \\
    \mu_k &\sim \operatorname{Normal}(m_k, s), \text{ conditioned on } \mu_0 < \dots < \mu_{K-1} \\
    z_i &\sim \operatorname{Categorical}(\pi) \\
    y_{ij} &\sim \operatorname{Normal}(\mu_{z_i}, \sigma), \quad j = 1, \ldots, R

Defaults are those of Kucharský & Bürkner (2025), *Amortized Bayesian Mixture Models*,
arXiv:2501.10229, section "Gaussian mixture".
"""

from importlib.resources import files

import numpy as np

from ..structures import Independent
from .constraints import ordered, simplex
from .densities import log_dirichlet, log_normal, log_order_probability
from .mixture import MixtureModel
from .normal import (
    check_settings,
    draw_normal,
    draw_ordered_means,
    log_normal_emission,
    spaced_locations,
    sufficient,
)

__all__ = ["GaussianMixture"]


class GaussianMixture(MixtureModel):
    r"""Mixture of K normals with a common known scale and ordered means.

    Parameters
    ----------
    num_components : int
    concentration : float
        Parameter c of the symmetric Dirichlet prior of the weights.
    means_location : sequence of K floats, optional
        Prior locations :math:`m_k`; by default -2, 0, 2 or, for other K, K values that are evenly
        spaced two units apart around zero.
    means_scale : float
        Prior scale s of each mean before ordering.
    scale : float
        Standard deviation sigma of a replicate.
    num_obs, num_reps : int or (int, int)
        Sizes to simulate, see `MixtureModel`.

    Raises
    ------
    ValueError
        If K < 2, a scale or the concentration is not positive, or the locations are not K finite
        non-decreasing numbers.

    Notes
    -----
    Parameters are ``weights``, (K,), on the simplex, and ``means``, (K,), ordered; data are
    ``y``, (N, R).

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import GaussianMixture
    >>> model = GaussianMixture()
    >>> model.simulate(2, rng=np.random.default_rng(0), num_obs=200, num_reps=3)["y"].shape
    (2, 200, 3)
    """

    def __init__(
        self,
        num_components: int = 3,
        *,
        concentration: float = 2.0,
        means_location=None,
        means_scale: float = 1.0,
        scale: float = 1.0,
        num_obs: int | tuple[int, int] = (150, 250),
        num_reps: int | tuple[int, int] = (2, 4),
    ):
        check_settings(
            num_components, concentration=concentration, means_scale=means_scale, scale=scale
        )
        self.concentration, self.means_scale, self.scale = concentration, means_scale, scale
        self.means_location = spaced_locations(num_components, means_location)
        self._log_order = log_order_probability(self.means_location, self.means_scale)
        super().__init__(
            prior=self._prior,
            structure=Independent(weights="weights"),
            emission=self._emission,
            constraints={"weights": simplex, "means": ordered},
            num_obs=num_obs,
            num_reps=num_reps,
            log_prior=self._log_prior,
            log_emission=self._log_emission,
            stan_program=files("abmtools") / "stan" / "programs" / "gaussian_mixture.stan",
            stan_data=self._stan_data,
        )

    def _prior(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        num_components = len(self.means_location)
        means = draw_ordered_means(rng, self.means_location, self.means_scale, batch_size)
        weights = rng.dirichlet(np.full(num_components, self.concentration), batch_size)
        return {"weights": weights, "means": means}

    def _emission(self, rng: np.random.Generator, parameters: dict, z: np.ndarray, num_reps: int):
        return {"y": draw_normal(rng, parameters["means"], z, num_reps, self.scale)}

    def _log_prior(self, parameters: dict) -> np.ndarray:
        log_means = log_normal(parameters["means"], self.means_location, self.means_scale)
        log_weights = log_dirichlet(parameters["weights"], self.concentration)
        return log_weights + log_means.sum(axis=-1) - self._log_order

    def _log_emission(self, data: dict, parameters: dict) -> np.ndarray:
        return log_normal_emission(data, parameters["means"], self.scale)

    def _stan_data(self, data: dict) -> dict:
        batch = {key: value[None] for key, value in data.items()}
        total, count = (x[0] for x in sufficient(batch))
        if "mask" in data:
            total, count = total[data["mask"]], count[data["mask"]]
        return {
            "N": len(count),
            "K": self.num_components,
            "y_mean": total / count,
            "n_reps": count.astype(int),
            "concentration": np.full(self.num_components, self.concentration),
            "location": self.means_location,
            "prior_scale": self.means_scale,
            "scale": self.scale,
        }
