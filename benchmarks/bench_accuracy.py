"""How far the shipped networks are from the exact answer.

Prints the gap to exact of both factors, Pareto k, calibration of parameters and of membership, for
chains also the gap of filtering; of a model without a likelihood only what is calibration. Five to
ten minutes for each network on one core. The data sets of speeded decisions all have 400 trials.
"""

import sys
import time

import numpy as np

import abmtools as abm
from abmtools import diagnostics
from abmtools.inference.pretrained import ARCHITECTURES

# Data sets for the gap of the posterior, that of the indicators, and calibration, and their size;
# by default sizes vary over the training range.
DATASETS = {
    "evidence_hmm": (300, 1000, 1000, {"num_obs": 400}),
    "lca_hmm": (0, 0, 1000, {"num_obs": 400}),  # no likelihood: calibration only
    "gaussian_mixture": (3000, 2000, 1000, {}),  # a few hard data sets carry its gap
}
COMPARISONS = ("component_count", "speeded_comparison")  # bench_components and bench_lca
MIXTURES = [name for name in ARCHITECTURES if name not in COMPARISONS]
DEFAULT = (1000, 2000, 1000, {})
LENGTHS = {"evidence_hmm": (100, 1000)}  # at which the gap is measured too, on 100 data sets


def print_gaps(workflow, for_posterior: list[dict], for_indicators: list[dict]) -> None:
    gap = diagnostics.Gap(
        *diagnostics.posterior_losses(workflow, for_posterior, num_samples=2000, seed=1),
        *diagnostics.membership_losses(workflow, for_indicators),
    )
    print(gap)
    if not workflow.model.structure.exchangeable:
        pair = diagnostics.membership_losses(workflow, for_indicators, kind="filtering")
        difference = np.subtract(*pair)
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        print(f"filtering, per time point: gap {difference.mean():.6f}, s.e. {error:.6f}")


def main(name: str) -> None:
    workflow = abm.load_pretrained(name)
    model, start = workflow.model, time.perf_counter()
    for_posterior, for_indicators, for_calibration, sizes = DATASETS.get(name, DEFAULT)

    def simulate(num_datasets: int, seed: int) -> list[dict]:
        """Fresh data sets: groups of ten share N and R."""
        rng = np.random.default_rng(seed)
        return [model.simulate(10, rng=rng, **sizes) for _ in range(num_datasets // 10)]

    print(f"== {name}")
    if model.has_likelihood:
        print_gaps(workflow, simulate(for_posterior, 1), simulate(for_indicators, 2))
    for num_obs in LENGTHS.get(name, ()):
        rng = np.random.default_rng(5)
        simulated = [model.simulate(10, rng=rng, num_obs=num_obs) for _ in range(10)]
        print(f"{num_obs} observations\n{diagnostics.gap_to_exact(workflow, simulated, seed=5)}")
    simulated = simulate(for_calibration, 3)
    print(diagnostics.simulation_based_calibration(workflow, simulated, num_samples=999, seed=3))
    for at in ("truth", "draws"):
        result = diagnostics.membership_calibration(
            *diagnostics.predicted_membership(workflow, simulated, at=at, num_samples=500, seed=4)
        )
        print(f"membership at {at}: {result}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    for name in sys.argv[1:] or MIXTURES:
        main(name)
