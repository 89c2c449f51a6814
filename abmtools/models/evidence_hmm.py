r"""Switching between guessing and controlled responding: the model of the third case study.

What it shares with the other model of such data, guessing included, is in `speeded_decisions`. Who
is in control has two accumulators that race to the threshold :math:`\alpha_2`, each in a time
:math:`t \sim \operatorname{Wald}(\alpha_2, \nu)` (`wald`): one for the incorrect response with
drift :math:`\nu_{21}` and one for the correct response with drift :math:`\nu_{22}`,

.. math::
    \nu_{21} \sim \operatorname{N}^+(2.5, 0.5), \qquad
    \nu_{22} - \nu_{21} \sim \operatorname{N}^+(2.5, 1) .

The winner gives the response. So with f and S the density and survival function of the Wald
distribution

.. math::
    p(t, r \mid z = 1) &= \tfrac{1}{2} f(t \mid \alpha_1, \nu_1) \\
    p(t, r \mid z = 2) &= f(t \mid \alpha_2, \nu_{2r}) \, S(t \mid \alpha_2, \nu_{2r'}) ,

r' being the response that was not given. The model is that of Kucharský, Tran, Veldkamp,
Raijmakers & Visser (2021), *Hidden Markov models of evidence accumulation in speeded decision
tasks*, Computational Brain & Behavior; priors and defaults are those of Kucharský & Bürkner
(2025), arXiv:2501.10229.
"""

from importlib.resources import files

import numpy as np

from .constraints import positive_ordered
from .densities import log_beta, log_positive_normal
from .speeded_decisions import SpeededDecisionHMM
from .wald import log_density, log_survival

__all__ = ["EvidenceAccumulationHMM"]


class EvidenceAccumulationHMM(SpeededDecisionHMM):
    r"""Hidden Markov model of response times and accuracy with a guessing and a controlled state.

    Parameters
    ----------
    incorrect_drift, drift_difference : (float, float)
        Location and scale of the truncated normal priors of :math:`\nu_{21}` and
        :math:`\nu_{22} - \nu_{21}`, per second.
    **shared
        ``stay_prior``, ``guessing_threshold``, ``threshold_difference``, ``guessing_drift``,
        ``non_decision_time`` and ``num_obs``, see `SpeededDecisionHMM`.

    Raises
    ------
    ValueError
        As `SpeededDecisionHMM`.

    Notes
    -----
    Parameters are ``stay``, (2,), ``threshold``, (2,), guessing and controlled, ``guessing_drift``,
    ``controlled_drift``, (2,), incorrect and correct, and ``non_decision_time``; components are 0,
    guessing, and 1, controlled. Data are ``y``, (T, 2): response times in seconds, and whether the
    response was correct, 1 or 0.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import EvidenceAccumulationHMM
    >>> data = EvidenceAccumulationHMM().simulate(2, rng=np.random.default_rng(0), num_obs=400)
    >>> data["y"].shape, np.unique(data["y"][..., 1])
    ((2, 400, 2), array([0., 1.]))
    """

    def __init__(self, *, incorrect_drift=(2.5, 0.5), drift_difference=(2.5, 1.0), **shared):
        super().__init__(
            race={"incorrect_drift": incorrect_drift, "drift_difference": drift_difference},
            race_constraints={"controlled_drift": positive_ordered},
            log_prior=self._log_prior,
            log_emission=_log_emission,
            stan_program=files("abmtools") / "stan" / "programs" / "evidence_hmm.stan",
            stan_data=self._stan_data,
            **shared,
        )

    @property
    def parameter_dims(self) -> dict[str, tuple]:
        """As for any `MixtureModel`; the controlled drifts are of accumulators, not components."""
        return super().parameter_dims | {"controlled_drift": ("accumulator",)}

    def _race_parameters(self, draws: dict) -> dict:
        drifts = [draws["incorrect_drift"], draws["drift_difference"]]
        return {"controlled_drift": np.cumsum(drifts, axis=0).T}

    def _race(self, rng: np.random.Generator, parameters: dict, rows: np.ndarray):
        threshold = parameters["threshold"][rows, 1]
        mean = threshold[:, None] / parameters["controlled_drift"][rows]
        incorrect, correct = rng.wald(mean, np.square(threshold)[:, None]).T
        return np.minimum(incorrect, correct), correct < incorrect

    def _log_prior(self, parameters: dict) -> np.ndarray:
        log_density = log_beta(parameters["stay"], *self.stay_prior).sum(axis=-1)
        threshold, drift = parameters["threshold"], parameters["controlled_drift"]
        values = {
            "guessing_threshold": threshold[..., 0],
            "threshold_difference": threshold[..., 1] - threshold[..., 0],
            "guessing_drift": parameters["guessing_drift"],
            "incorrect_drift": drift[..., 0],
            "drift_difference": drift[..., 1] - drift[..., 0],
        }
        for name, (location, scale) in self.normals.items():
            log_density = log_density + log_positive_normal(values[name], location, scale)
        mean = self.non_decision_time
        return log_density - parameters["non_decision_time"] / mean - np.log(mean)

    def _stan_data(self, data: dict) -> dict:
        observed = data.get("mask", np.ones(len(data["y"]), dtype=bool))
        normals = dict(self.normals)
        normals["guessing_drift_prior"] = normals.pop("guessing_drift")
        return {
            "T": len(observed),
            "rt": np.where(observed, data["y"][:, 0], 1.0),
            "correct": data["y"][:, 1].astype(int),
            "observed": observed.astype(int),
            "fastest": data["y"][observed, 0].min(),
            "stay_prior": np.array(self.stay_prior),
            "non_decision_time_mean": self.non_decision_time,
            **{name: np.array(pair) for name, pair in normals.items()},
        }


def _log_emission(data: dict, parameters: dict) -> np.ndarray:
    """log p(y_t | z_t = k, theta), (B, S, T, 2)."""
    threshold = parameters["threshold"][..., None, :]
    guessing_drift = parameters["guessing_drift"][..., None]
    incorrect, correct = np.moveaxis(parameters["controlled_drift"], -1, 0)[..., None]
    time = data["y"][:, None, :, 0] - parameters["non_decision_time"][..., None]
    is_correct = data["y"][:, None, :, 1] > 0.5
    winner = np.where(is_correct, correct, incorrect)
    loser = np.where(is_correct, incorrect, correct)
    guessing = np.log(0.5) + log_density(time, threshold[..., 0], guessing_drift)
    controlled = log_density(time, threshold[..., 1], winner)
    controlled += log_survival(time, threshold[..., 1], loser)
    return np.stack([guessing, controlled], axis=-1)
