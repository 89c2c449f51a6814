r"""Switching between guessing and controlled responding: the model of the third case study.

.. math::
    \rho_{kk} &\sim \operatorname{Beta}(16, 4), \qquad
    z_1 \sim \operatorname{Uniform}\{1, 2\}, \qquad p(z_t = k \mid z_{t-1} = j) = \rho_{jk} \\
    \alpha_1 &\sim \operatorname{N}^+(0.5, 0.3), \qquad
    \alpha_2 - \alpha_1 \sim \operatorname{N}^+(1.5, 0.5) \\
    \nu_1 &\sim \operatorname{N}^+(5.5, 1), \qquad
    \nu_{21} \sim \operatorname{N}^+(2.5, 0.5), \qquad
    \nu_{22} - \nu_{21} \sim \operatorname{N}^+(2.5, 1) \\
    \tau &\sim \operatorname{Exponential}(\text{mean } 0.2)

with :math:`\operatorname{N}^+` the normal truncated to positive values. On each trial evidence
accumulates to a threshold in a time :math:`t \sim \operatorname{Wald}(\alpha, \nu)` (`wald`), and
a response comes at :math:`\tau + t`. Who guesses (state 1) has one accumulator, with threshold
:math:`\alpha_1` and drift :math:`\nu_1`, and answers correctly or not with equal probability. Who
is in control (state 2) has two that race to :math:`\alpha_2`, one for the incorrect response with
drift :math:`\nu_{21}` and one for the correct response with drift :math:`\nu_{22}`; the winner
gives the response. So with f and S the density and survival function of the Wald distribution

.. math::
    p(t, r \mid z = 1) &= \tfrac{1}{2} f(t \mid \alpha_1, \nu_1) \\
    p(t, r \mid z = 2) &= f(t \mid \alpha_2, \nu_{2r}) \, S(t \mid \alpha_2, \nu_{2r'}) ,

r' being the response that was not given. The model is that of Kucharský, Tran, Veldkamp,
Raijmakers & Visser (2021), *Hidden Markov models of evidence accumulation in speeded decision
tasks*, Computational Brain & Behavior; priors and defaults are those of Kucharský & Bürkner
(2025), arXiv:2501.10229. What it shares with the other model of such data is in
`speeded_decisions`.
"""

from importlib.resources import files

import numpy as np

from .constraints import positive_ordered
from .speeded_decisions import SpeededDecisionHMM
from .wald import log_density, log_survival

__all__ = ["EvidenceAccumulationHMM"]


class EvidenceAccumulationHMM(SpeededDecisionHMM):
    r"""Hidden Markov model of response times and accuracy with a guessing and a controlled state.

    Parameters
    ----------
    stay_prior : (float, float)
        Parameters of the Beta prior of each probability to stay in a state.
    guessing_threshold, threshold_difference : (float, float)
        Location and scale of the truncated normal priors of :math:`\alpha_1` and
        :math:`\alpha_2 - \alpha_1`.
    guessing_drift, incorrect_drift, drift_difference : (float, float)
        The same for :math:`\nu_1`, :math:`\nu_{21}` and :math:`\nu_{22} - \nu_{21}`, per second.
    non_decision_time : float
        Prior mean of tau, seconds.
    num_obs : int or (int, int)
        Trials T to simulate. From a range one T is drawn log-uniformly for each batch.

    Raises
    ------
    ValueError
        If a scale, the mean of tau or a Beta parameter is not positive, or a pair is no pair of
        finite numbers.

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

    def __init__(
        self,
        *,
        stay_prior=(16.0, 4.0),
        guessing_threshold=(0.5, 0.3),
        threshold_difference=(1.5, 0.5),
        guessing_drift=(5.5, 1.0),
        incorrect_drift=(2.5, 0.5),
        drift_difference=(2.5, 1.0),
        non_decision_time: float = 0.2,
        num_obs: int | tuple[int, int] = (100, 1000),
    ):
        super().__init__(
            normals={
                "guessing_threshold": guessing_threshold,
                "threshold_difference": threshold_difference,
                "guessing_drift": guessing_drift,
                "incorrect_drift": incorrect_drift,
                "drift_difference": drift_difference,
            },
            race_constraints={"controlled_drift": positive_ordered},
            stay_prior=stay_prior,
            non_decision_time=non_decision_time,
            num_obs=num_obs,
            log_prior=self._log_prior,
            log_emission=_log_emission,
            stan_program=files("abmtools") / "stan" / "programs" / "evidence_hmm.stan",
            stan_data=self._stan_data,
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
        a, b = self.stay_prior
        stay = parameters["stay"]
        log_density = ((a - 1) * np.log(stay) + (b - 1) * np.log1p(-stay)).sum(axis=-1)
        threshold, drift = parameters["threshold"], parameters["controlled_drift"]
        values = {
            "guessing_threshold": threshold[..., 0],
            "threshold_difference": threshold[..., 1] - threshold[..., 0],
            "guessing_drift": parameters["guessing_drift"],
            "incorrect_drift": drift[..., 0],
            "drift_difference": drift[..., 1] - drift[..., 0],
        }
        for name, (location, scale) in self.normals.items():
            log_density -= 0.5 * np.square((values[name] - location) / scale)
        return log_density - parameters["non_decision_time"] / self.non_decision_time

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
