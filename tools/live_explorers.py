"""The live explorers of the book: their sliders, their data, and what the package answers.

An explorer's data are a function of its sliders and of fixed random numbers, so that they move
smoothly. It is written twice, here and in ``book/assets/live/NAME.js``; what the two answer is
compared in a browser, at `Explorer.checked`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from abmtools import MixturePosterior
from abmtools.inference.estimator import FAR
from abmtools.plots.explorers.noise import Noise, chain_states, mixture_indicators

__all__ = ["EXPLORERS", "Explorer", "answer", "base_noise", "check_answers"]

NUM_DRAWS = 300  # enough for smooth densities, few enough to answer while a slider moves
NUM_COMPARED = 50  # of them, in the checks
SEED = 1
DIGITS = 4  # of fixed random numbers
FIXED = ("uniform", "coins", "errors")


@dataclass(frozen=True)
class Explorer:
    """What an explorer shows.

    Parameters
    ----------
    name : str
        Of the trained network.
    controls : list of dict
        Sliders: name, label, ends, step and first value of each.
    draw_fixed : callable
        ``draw_fixed()`` draws the fixed random numbers, {name: array}.
    simulate : callable
        ``simulate(settings, fixed)`` returns the data set, ``"y"``, (N, R), and a mask where there
        is one, the true indicators, (N,), and the true parameters.
    checked : list of dict
        Settings at which the browser's answers are compared with the package's.
    """

    name: str
    controls: list[dict]
    draw_fixed: Callable
    simulate: Callable
    checked: list[dict]


def control(name: str, label: str, low: float, high: float, step: float, value: float) -> dict:
    """A slider."""
    return {
        "name": name, "label": label, "min": low, "max": high, "step": step, "value": value,
    }  # fmt: skip


# --- what the package answers ---------------------------------------------------------------------


def base_noise(workflow) -> np.ndarray:
    """Base noise for all data sets, (S, D), float32."""
    base = workflow.estimator.inference_network.base_distribution
    noise = base.sample((NUM_DRAWS,), seed=keras.random.SeedGenerator(SEED))
    return keras.ops.convert_to_numpy(noise)


def answer(workflow, data: dict, noise: np.ndarray) -> MixturePosterior:
    """The posterior of one data set, by the workflow's own networks, from base noise (S, D).

    Where the prior has no mass, `MixtureWorkflow.sample` draws again; here as in an explorer such
    draws are left out.
    """
    estimator, data = workflow.estimator, workflow.model.check_data(data)
    adapted = estimator.adapter(data, strict=False)
    summary = estimator.summary_network(
        adapted["summary_variables"], mask=adapted.get("summary_mask")
    )
    conditions = keras.ops.repeat(summary, len(noise), axis=0)
    draws = estimator.inference_network(noise, conditions=conditions, inverse=True)
    draws = draws[keras.ops.all(keras.ops.abs(draws) < FAR, axis=-1)]
    u = estimator.standardizer.maybe_standardize(draws, key="inference_variables", forward=False)
    u = keras.ops.convert_to_numpy(u)[None]
    found = estimator.indicators(data, u)
    return MixturePosterior(workflow.model, data, u, **found)


def check_answers(explorer: Explorer, workflow, fixed: dict, noise: np.ndarray) -> list[dict]:
    """Settings and the package's answers, rounded to what the checks need."""
    found = []
    for settings in explorer.checked:
        data, _, _ = explorer.simulate(settings, fixed)
        posterior = answer(workflow, data, noise)
        numbers = {
            name: value[0, :NUM_COMPARED] for name, value in posterior.parameters.items()
        } | indicator_means(posterior)
        numbers = {name: value.round(6) for name, value in numbers.items()}
        found.append({"settings": settings, "numbers": numbers})
    return found


def indicator_means(posterior: MixturePosterior) -> dict[str, np.ndarray]:
    """What is known of the indicators, averaged over draws, each (N, K)."""
    if posterior.model.structure.exchangeable:
        return {"membership": posterior.mean_membership()[0]}
    return {
        "filtering": posterior.mean_filtering()[0],
        "smoothing": posterior.mean_smoothing()[0],
    }


def rounded(noise: Noise) -> dict[str, np.ndarray]:
    """Fixed random numbers that are short in JSON."""
    return {name: getattr(noise, name).round(DIGITS) for name in FIXED}


# --- the Gaussian mixture -------------------------------------------------------------------------


def draw_fixed_mixture() -> dict[str, np.ndarray]:
    return rounded(Noise.draw(SEED, num_obs=250, num_reps=3))


def simulate_mixture(settings: dict, fixed: dict) -> tuple[dict, np.ndarray, dict]:
    """Components left of, near and right of zero; the last observation is the reader's."""
    side = (1 - settings["weight"]) / 2
    weights = np.array([side, settings["weight"], side])
    means = settings["separation"] * np.array([-1.0, settings["position"], 1.0])
    noise = Noise(*(fixed[name][: settings["observations"]] for name in FIXED))
    z = mixture_indicators(noise, weights)
    y = means[z][:, None] + noise.errors
    y[-1] = settings["own"]
    return {"y": y}, z, {"weights": weights, "means": means}


# --- the Gaussian hidden Markov model -------------------------------------------------------------


def draw_fixed_chain() -> dict[str, np.ndarray]:
    fixed = rounded(Noise.draw(SEED, num_obs=100, num_reps=5))
    return fixed | {"counts": np.random.default_rng(SEED + 1).integers(2, 6, 100)}


def simulate_chain(settings: dict, fixed: dict) -> tuple[dict, np.ndarray, dict]:
    """Two states; one time point is shifted."""
    persistence = settings["persistence"]
    z = chain_states(Noise(*(fixed[name] for name in FIXED)), persistence)
    means = settings["separation"] * np.array([-0.5, 0.5])
    observed = np.arange(fixed["errors"].shape[1]) < fixed["counts"][:, None]
    y = means[z][:, None] + fixed["errors"]
    y[settings["time"] - 1] += settings["shift"]
    truth = {"stay": np.array([persistence, persistence]), "means": means}
    return {"y": y * observed, "replicate_mask": observed}, z, truth


EXPLORERS = {
    "gaussian_mixture": Explorer(
        name="gaussian_mixture",
        controls=[
            control("separation", "Separation", 0.5, 4, 0.05, 2),
            control("position", "Position of the middle component", -0.8, 0.8, 0.02, 0),
            control("weight", "Weight of the middle component", 0.05, 0.9, 0.01, 0.4),
            control("observations", "Observations", 150, 250, 1, 200),
            control("own", "Your observation", -6, 6, 0.05, 1),
        ],
        draw_fixed=draw_fixed_mixture,
        simulate=simulate_mixture,
        checked=[
            {"separation": 2, "position": 0, "weight": 0.4, "observations": 200, "own": 1},
            {"separation": 0.8, "position": 0.5, "weight": 0.7, "observations": 160, "own": -3},
        ],
    ),
    "gaussian_hmm": Explorer(
        name="gaussian_hmm",
        controls=[
            control("persistence", "Persistence", 0.5, 0.98, 0.01, 0.9),
            control("separation", "Separation", 0.5, 4, 0.05, 1.5),
            control("time", "Time point", 1, 100, 1, 77),
            control("shift", "Shift", -6, 6, 0.05, 0),
        ],
        draw_fixed=draw_fixed_chain,
        simulate=simulate_chain,
        checked=[
            {"persistence": 0.9, "separation": 1.5, "time": 77, "shift": 0},
            {"persistence": 0.6, "separation": 3, "time": 7, "shift": -4},
        ],
    ),
}
