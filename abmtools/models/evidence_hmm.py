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
(2025), arXiv:2501.10229.

No response comes before :math:`\tau`. Its unconstrained scale is therefore relative to the fastest
response, :math:`\operatorname{logit}(\tau / (\min_t rt_t + 0.001))`, which the networks share with
that paper.
"""

from importlib.resources import files

import numpy as np
from scipy.special import ndtr, ndtri

from ..structures import Markov, persistent
from .constraints import below, interval, positive, positive_ordered
from .mixture import MixtureModel
from .wald import log_density, log_survival

__all__ = ["EvidenceAccumulationHMM"]

MARGIN = 0.001  # seconds that the non-decision time's bound lies above the fastest response
OFFSET = 0.1  # seconds; keeps the inverse of short times within bounds
SHIFTS = (0.5, 0.8, 0.95)  # shares of that bound from which the networks see times


class EvidenceAccumulationHMM(MixtureModel):
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
        normals = {
            "guessing_threshold": guessing_threshold,
            "threshold_difference": threshold_difference,
            "guessing_drift": guessing_drift,
            "incorrect_drift": incorrect_drift,
            "drift_difference": drift_difference,
        }
        self.normals = {name: _pair(value, name) for name, value in normals.items()}
        self.stay_prior = _pair(stay_prior, "stay_prior", both_positive=True)
        if not (np.isfinite(non_decision_time) and non_decision_time > 0):
            raise ValueError(
                f"non_decision_time: expected a positive number, got {non_decision_time}."
            )
        self.non_decision_time = float(non_decision_time)
        super().__init__(
            prior=self._prior,
            structure=Markov(transition=_transition, initial="uniform"),
            emission=self._emission,
            constraints={
                "stay": interval(0, 1),
                "threshold": positive_ordered,
                "guessing_drift": positive,
                "controlled_drift": positive_ordered,
                "non_decision_time": below(fastest),
            },
            num_obs=num_obs,
            log_prior=self._log_prior,
            log_emission=_log_emission,
            observation_features=_observation_features,
            dataset_features=_dataset_features,
            stan_program=files("abmtools") / "stan" / "programs" / "evidence_hmm.stan",
            stan_data=self._stan_data,
        )

    @property
    def parameter_dims(self) -> dict[str, tuple]:
        """As for any `MixtureModel`; the controlled drifts are of accumulators, not components."""
        return super().parameter_dims | {"controlled_drift": ("accumulator",)}

    def check_data(self, data):
        """As `MixtureModel.check_data`, for positive response times and responses 0 or 1.

        Raises
        ------
        ValueError
            If an observed response time is not positive, or a response neither 0 nor 1.
        """
        checked = super().check_data(data)
        observed = checked.get("mask", np.ones(checked["y"].shape[:2], dtype=bool))
        times, responses = checked["y"][observed].T
        if times.min() <= 0:
            raise ValueError(
                f"data['y']: expected positive response times in column 0, got {times.min()}."
            )
        if not np.isin(responses, (0, 1)).all():
            found = responses[~np.isin(responses, (0, 1))][0]
            raise ValueError(
                f"data['y']: expected 1 (correct) or 0 (incorrect) in column 1, got {found}."
            )
        return checked

    def simulate_data(self, parameters, *, rng, num_obs=None, num_reps=None):
        """As `MixtureModel.simulate_data`; T is drawn log-uniformly, so that half are short."""
        if num_obs is None:
            low, high = np.log(self.num_obs[0]), np.log(self.num_obs[1] + 1)
            num_obs = min(int(np.exp(rng.uniform(low, high))), self.num_obs[1])
        return super().simulate_data(parameters, rng=rng, num_obs=num_obs, num_reps=num_reps)

    def _prior(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        draws = {
            name: _draw_positive_normal(rng, *pair, batch_size)
            for name, pair in self.normals.items()
        }
        thresholds = [draws["guessing_threshold"], draws["threshold_difference"]]
        drifts = [draws["incorrect_drift"], draws["drift_difference"]]
        return {
            "stay": rng.beta(*self.stay_prior, (batch_size, 2)),
            "threshold": np.cumsum(thresholds, axis=0).T,
            "guessing_drift": draws["guessing_drift"],
            "controlled_drift": np.cumsum(drifts, axis=0).T,
            "non_decision_time": rng.exponential(self.non_decision_time, batch_size),
        }

    def _emission(self, rng: np.random.Generator, parameters: dict, z: np.ndarray):
        threshold = np.take_along_axis(parameters["threshold"], z, axis=1)
        incorrect, correct = (drift[:, None] for drift in parameters["controlled_drift"].T)
        guessing = z == 0
        drift = np.where(guessing, parameters["guessing_drift"][:, None], incorrect)
        time = rng.wald(threshold / drift, threshold**2)
        response = rng.random(z.shape) < 0.5
        other = rng.wald((threshold / correct)[~guessing], threshold[~guessing] ** 2)
        response[~guessing] = other < time[~guessing]
        time[~guessing] = np.minimum(time[~guessing], other)
        time += parameters["non_decision_time"][:, None]
        return {"y": np.stack([time, response], axis=-1)}

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


def fastest(data: dict) -> np.ndarray:
    """Upper bound of the non-decision time, (B,): the fastest response and a millisecond."""
    times = data["y"][..., 0]
    if "mask" in data:
        times = np.where(data["mask"], times, np.inf)
    return times.min(axis=1) + MARGIN


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


def _observation_features(data: dict) -> np.ndarray:
    """Near natural statistics of a Wald time, and the response, with products, (B, T, 7)."""
    y = data["y"].astype("float32")
    time, response = y[..., 0], 2 * y[..., 1:] - 1
    time = np.where(time > 0, time, 1.0)  # missing times are zero
    statistics = np.stack([np.log(time), time, 1 / (time + OFFSET)], axis=-1)
    return np.concatenate([response, statistics, response * statistics], axis=-1)


def _dataset_features(data: dict) -> np.ndarray:
    """The bound of tau, and the same statistics of times since shares of it, (B, T, 7)."""
    bound = fastest(data)[:, None].astype("float32")
    times = np.maximum(
        (data["y"][..., 0].astype("float32") + MARGIN) / bound, 1.0
    )  # missing ones are less
    since = [times - share for share in SHIFTS]
    logs = [np.log(x) for x in since]
    inverse = [(1 - share) / x for share, x in zip(SHIFTS, since, strict=True)]
    return np.stack([np.broadcast_to(np.log(bound), times.shape), *logs, *inverse], axis=-1)


def _transition(parameters):
    return persistent(parameters["stay"])


def _draw_positive_normal(rng, location: float, scale: float, size: int) -> np.ndarray:
    """Normal draws, (size,), conditioned on being positive, by inversion."""
    below_zero = ndtr(-location / scale)
    return location + scale * ndtri(below_zero + (1 - below_zero) * (1 - rng.random(size)))


def _pair(value, argument: str, *, both_positive: bool = False) -> tuple[float, float]:
    first, second = value if np.shape(value) == (2,) else (np.nan, np.nan)
    if not (np.isfinite(first) and np.isfinite(second) and second > 0):
        raise ValueError(f"{argument}: expected a location and a positive scale, got {value!r}.")
    if both_positive and first <= 0:
        raise ValueError(f"{argument}: expected two positive numbers, got {value!r}.")
    return float(first), float(second)
