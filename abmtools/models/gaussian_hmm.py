r"""The Gaussian hidden Markov model of the second case study.

.. math::
    a_{kk} &\sim \operatorname{Beta}(c, c) \\
    \mu_k &\sim \operatorname{Normal}(m_k, s), \text{ conditioned on } \mu_0 < \dots < \mu_{K-1} \\
    z_1 &\sim \operatorname{Uniform}\{0, \dots, K - 1\} , \qquad
    p(z_t = k \mid z_{t-1} = j) = a_{jk} \\
    y_{tj} &\sim \operatorname{Normal}(\mu_{z_t}, \sigma), \quad j = 1, \ldots, R_t

Whoever leaves a state goes to each other one with the same probability,
:math:`a_{jk} = (1 - a_{jj}) / (K - 1)`; for two states that is no restriction. Defaults are those
of Kucharský & Bürkner (2025), *Amortized Bayesian Mixture Models*, arXiv:2501.10229.
"""

from importlib.resources import files

import numpy as np

from ..structures import Markov, persistent
from .constraints import interval, ordered
from .densities import log_beta, log_normal, log_order_probability
from .mixture import MixtureModel
from .normal import (
    check_settings,
    draw_normal,
    draw_ordered_means,
    log_normal_emission,
    spaced_locations,
    sufficient,
)

__all__ = ["GaussianHMM"]


class GaussianHMM(MixtureModel):
    r"""Hidden Markov model of K states with normal emissions of known scale and ordered means.

    Parameters
    ----------
    num_components : int
    concentration : float
        Parameter c of the Beta prior of each probability to stay.
    means_location : sequence of K floats, optional
        Prior locations :math:`m_k`; by default K values two units apart around zero.
    means_scale : float
        Prior scale s of each mean before ordering.
    scale : float
        Standard deviation sigma of a replicate.
    num_obs : int or (int, int)
        Time points T to simulate, see `MixtureModel`.
    num_reps : int or (int, int)
        Range of :math:`R_t`, which is uniform on it and independent between time points.
    constant_reps : float
        Share of simulated data sets whose time points all have the same number of replicates,
        again uniform on its range. Where :math:`R_t` is independent, no data set of 100 time
        points is like that, and a network that has seen none is worse for it.

    Raises
    ------
    ValueError
        If K < 2, a scale or the concentration is not positive, the locations are not K finite
        non-decreasing numbers, or `constant_reps` is not in [0, 1].

    Notes
    -----
    Parameters are ``stay``, (K,), the diagonal of the transition matrix, and ``means``, (K,),
    ordered; data are ``y``, (T, R), with ``replicate_mask`` where numbers of replicates differ.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import GaussianHMM
    >>> data = GaussianHMM().simulate(2, rng=np.random.default_rng(0))
    >>> data["y"].shape, data["replicate_mask"].sum(axis=2).min()
    ((2, 100, 5), np.int64(2))
    """

    def __init__(
        self,
        num_components: int = 2,
        *,
        concentration: float = 2.0,
        means_location=None,
        means_scale: float = 1.0,
        scale: float = 1.0,
        num_obs: int | tuple[int, int] = 100,
        num_reps: int | tuple[int, int] = (2, 5),
        constant_reps: float = 0.0,
    ):
        check_settings(
            num_components, concentration=concentration, means_scale=means_scale, scale=scale
        )
        if not 0 <= constant_reps <= 1:
            raise ValueError(f"constant_reps: expected a share in [0, 1], got {constant_reps}.")
        self.concentration, self.means_scale, self.scale = concentration, means_scale, scale
        self.constant_reps = constant_reps
        self.means_location = spaced_locations(num_components, means_location)
        self._log_order = log_order_probability(self.means_location, self.means_scale)
        super().__init__(
            prior=self._prior,
            structure=Markov(transition=_transition, initial="uniform"),
            emission=self._emission,
            constraints={"stay": interval(0, 1), "means": ordered},
            num_obs=num_obs,
            num_reps=num_reps,
            log_prior=self._log_prior,
            log_emission=self._log_emission,
            stan_program=files("abmtools") / "stan" / "programs" / "gaussian_hmm.stan",
            stan_data=self._stan_data,
        )

    def _simulate_data(self, parameters, *, rng, num_obs=None, num_reps=None):
        """As `MixtureModel.simulate_data`; with ``num_reps`` all time points have so many."""
        low, high = self.num_reps
        data = super()._simulate_data(
            parameters, rng=rng, num_obs=num_obs, num_reps=high if num_reps is None else num_reps
        )
        if num_reps is not None or low == high:
            return data
        count = rng.integers(low, high + 1, data["z"].shape)
        if self.constant_reps:
            constant = rng.random((len(count), 1)) < self.constant_reps
            count = np.where(constant, count[:, :1], count)
        observed = np.arange(high) < count[..., None]
        return data | {"y": data["y"] * observed, "replicate_mask": observed}

    def _prior(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        size = (batch_size, len(self.means_location))
        stay = rng.beta(self.concentration, self.concentration, size)
        means = draw_ordered_means(rng, self.means_location, self.means_scale, batch_size)
        return {"stay": stay, "means": means}

    def _emission(self, rng: np.random.Generator, parameters: dict, z: np.ndarray, num_reps: int):
        return {"y": draw_normal(rng, parameters["means"], z, num_reps, self.scale)}

    def _log_prior(self, parameters: dict) -> np.ndarray:
        log_means = log_normal(parameters["means"], self.means_location, self.means_scale)
        log_stay = log_beta(parameters["stay"], self.concentration, self.concentration)
        return log_stay.sum(axis=-1) + log_means.sum(axis=-1) - self._log_order

    def _log_emission(self, data: dict, parameters: dict) -> np.ndarray:
        return log_normal_emission(data, parameters["means"], self.scale)

    def _stan_data(self, data: dict) -> dict:
        total, count = (x[0] for x in sufficient({key: value[None] for key, value in data.items()}))
        count = np.where(data.get("mask", np.True_), count, 0)
        return {
            "T": len(count),
            "K": self.num_components,
            "y_mean": total / np.maximum(count, 1),
            "n_reps": count.astype(int),
            "concentration": self.concentration,
            "location": self.means_location,
            "prior_scale": self.means_scale,
            "scale": self.scale,
        }


def _transition(parameters):
    return persistent(parameters["stay"])
