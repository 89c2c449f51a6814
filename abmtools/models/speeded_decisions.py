r"""Speeded decisions between guessing and control: what their models share.

.. math::
    \rho_{kk} &\sim \operatorname{Beta}(16, 4), \qquad
    z_1 \sim \operatorname{Uniform}\{1, 2\}, \qquad p(z_t = k \mid z_{t-1} = j) = \rho_{jk} \\
    \alpha_1 &\sim \operatorname{N}^+(0.5, 0.3), \qquad
    \alpha_2 - \alpha_1 \sim \operatorname{N}^+(1.5, 0.5) \\
    \nu_1 &\sim \operatorname{N}^+(5.5, 1), \qquad
    \tau \sim \operatorname{Exponential}(\text{mean } 0.2)

with :math:`\operatorname{N}^+` the normal truncated to positive values. On each trial evidence
accumulates to a threshold, and a response comes :math:`\tau` later. Who guesses (state 1) has one
accumulator, reaches :math:`\alpha_1` after a time :math:`t \sim \operatorname{Wald}(\alpha_1,
\nu_1)` (`wald`) and answers correctly or not with equal probability. Who is in control (state 2)
has one accumulator for each response, which race to :math:`\alpha_2`; how they race is what sets
the models apart. Priors and defaults are those of Kucharský & Bürkner (2025), arXiv:2501.10229.

No response comes before :math:`\tau`. Its unconstrained scale is therefore relative to the fastest
response, :math:`\operatorname{logit}(\tau / (\min_t rt_t + 0.001))`, which the networks share with
that paper.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from ..structures import Markov, persistent
from .constraints import below, interval, positive, positive_ordered
from .mixture import MixtureModel

__all__ = ["SpeededDecisionHMM"]

MARGIN = 0.001  # seconds that the non-decision time's bound lies above the fastest response
OFFSET = 0.1  # seconds; keeps the inverse of short times within bounds
SHIFTS = (0.5, 0.8, 0.95, 0.99, 0.999)  # shares of that bound from which the networks see times


class SpeededDecisionHMM(MixtureModel):
    r"""Base of the hidden Markov models of response times and accuracy.

    A subclass has two methods. ``_race_parameters(draws)`` makes the parameters of the race from
    draws of the truncated normals. ``_race(rng, parameters, rows)`` simulates a controlled trial
    of each of the data sets in ``rows``, (n,): decision times in seconds, and whether the correct
    response won, both (n,).

    Parameters
    ----------
    race : dict of str to (float, float)
        Location and scale of the truncated normal priors of the race's parameters.
    race_constraints : dict of str to Constraint
        Of these parameters.
    stay_prior : (float, float)
        Parameters of the Beta prior of each probability to stay in a state.
    guessing_threshold, threshold_difference : (float, float)
        Location and scale of the truncated normal priors of :math:`\alpha_1` and
        :math:`\alpha_2 - \alpha_1`.
    guessing_drift : (float, float)
        The same for :math:`\nu_1`, per second.
    non_decision_time : float
        Prior mean of tau, seconds.
    num_obs : int or (int, int)
        Trials T to simulate. From a range one T is drawn log-uniformly for each batch.
    **kwargs
        Passed to `MixtureModel`.

    Raises
    ------
    ValueError
        If a scale, the mean of tau or a Beta parameter is not positive, or a pair is no pair of
        finite numbers.
    """

    def __init__(
        self,
        *,
        race,
        race_constraints,
        stay_prior=(16.0, 4.0),
        guessing_threshold=(0.5, 0.3),
        threshold_difference=(1.5, 0.5),
        guessing_drift=(5.5, 1.0),
        non_decision_time: float = 0.2,
        num_obs: int | tuple[int, int] = (100, 1000),
        **kwargs,
    ):
        normals = {
            "guessing_threshold": guessing_threshold,
            "threshold_difference": threshold_difference,
            "guessing_drift": guessing_drift,
            **race,
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
                **race_constraints,
                "non_decision_time": below(fastest),
            },
            num_obs=num_obs,
            observation_features=_observation_features,
            dataset_features=_dataset_features,
            **kwargs,
        )

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

    def _simulate_data(self, parameters, *, rng, num_obs=None, num_reps=None):
        """As those of `MixtureModel`; T is drawn log-uniformly, so that half are short."""
        if num_obs is None:
            low, high = np.log(self.num_obs[0]), np.log(self.num_obs[1] + 1)
            num_obs = min(int(np.exp(rng.uniform(low, high))), self.num_obs[1])
        return super()._simulate_data(parameters, rng=rng, num_obs=num_obs, num_reps=num_reps)

    def lapses(self, data, *, rng: np.random.Generator) -> np.ndarray:
        """What trials could have been on which nobody decided, for `heterogeneous_data`.

        Their times are log-uniform, from half the fastest response to twice the slowest one of the
        data set; their responses are a coin's. One that came too early bounds the non-decision
        time.

        Parameters
        ----------
        data : dict
            ``"y"``, (B, T, 2), without masks.
        rng : numpy.random.Generator

        Returns
        -------
        array, shape (B, T, 2)
        """
        times = data["y"][..., 0]
        low, high = times.min(axis=1, keepdims=True) / 2, 2 * times.max(axis=1, keepdims=True)
        lapsed = np.exp(rng.uniform(np.log(low), np.log(high), times.shape))
        return np.stack([lapsed, rng.random(times.shape) < 0.5], axis=-1)

    def draw_normals(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        """Draws, (size,), from each of the truncated normal priors, by inversion."""
        draws = {}
        for name, (location, scale) in self.normals.items():
            below_zero = ndtr(-location / scale)
            uniform = below_zero + (1 - below_zero) * (1 - rng.random(size))
            draws[name] = location + scale * ndtri(uniform)
        return draws

    def _prior(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        draws = self.draw_normals(rng, batch_size)
        thresholds = [draws["guessing_threshold"], draws["threshold_difference"]]
        return {
            "stay": rng.beta(*self.stay_prior, (batch_size, 2)),
            "threshold": np.cumsum(thresholds, axis=0).T,
            "guessing_drift": draws["guessing_drift"],
            **self._race_parameters(draws),
            "non_decision_time": rng.exponential(self.non_decision_time, batch_size),
        }

    def _emission(self, rng: np.random.Generator, parameters: dict, z: np.ndarray):
        guessing = z == 0
        rows = np.nonzero(guessing)[0]
        threshold = parameters["threshold"][rows, 0]
        time, response = np.empty(z.shape), rng.random(z.shape) < 0.5
        time[guessing] = rng.wald(threshold / parameters["guessing_drift"][rows], threshold**2)
        rows = np.nonzero(~guessing)[0]
        time[~guessing], response[~guessing] = self._race(rng, parameters, rows)
        time += parameters["non_decision_time"][:, None]
        return {"y": np.stack([time, response], axis=-1)}


def fastest(data: dict) -> np.ndarray:
    """Upper bound of the non-decision time, (B,): the fastest response and a millisecond."""
    times = data["y"][..., 0]
    if "mask" in data:
        times = np.where(data["mask"], times, np.inf)
    return times.min(axis=1) + MARGIN


def _observation_features(data: dict) -> np.ndarray:
    """Near natural statistics of a Wald time, and the response, with products, (B, T, 7)."""
    y = data["y"].astype("float32")
    time, response = y[..., 0], 2 * y[..., 1:] - 1
    time = np.where(time > 0, time, 1.0)  # missing times are zero
    statistics = np.stack([np.log(time), time, 1 / (time + OFFSET)], axis=-1)
    return np.concatenate([response, statistics, response * statistics], axis=-1)


def _dataset_features(data: dict) -> np.ndarray:
    """The bound of tau, and the same statistics of times since shares of it, (B, T, 11)."""
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


def _pair(value, argument: str, *, both_positive: bool = False) -> tuple[float, float]:
    first, second = value if np.shape(value) == (2,) else (np.nan, np.nan)
    if not (np.isfinite(first) and np.isfinite(second) and second > 0):
        raise ValueError(f"{argument}: expected a location and a positive scale, got {value!r}.")
    if both_positive and first <= 0:
        raise ValueError(f"{argument}: expected two positive numbers, got {value!r}.")
    return float(first), float(second)
