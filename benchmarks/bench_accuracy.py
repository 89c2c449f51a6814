"""How far the shipped networks are from the exact answer.

Prints the gap to exact of both factors, Pareto k, calibration of parameters and of membership, for
chains also the gap of filtering. About five minutes for each network on one core.
"""

import sys
import time

import numpy as np

import abmtools as abm
from abmtools import diagnostics
from abmtools.inference.pretrained import ARCHITECTURES

RANKED = 1000


def simulate(model, num_datasets: int, seed: int) -> list[dict]:
    """Fresh data sets over the training range: groups of ten share N and R."""
    rng = np.random.default_rng(seed)
    return [model.simulate(10, rng=rng) for _ in range(num_datasets // 10)]


def main(name: str) -> None:
    workflow = abm.load_pretrained(name)
    model, start = workflow.model, time.perf_counter()
    gap = diagnostics.Gap(
        *diagnostics.posterior_losses(workflow, simulate(model, 1000, 1), num_samples=2000, seed=1),
        *diagnostics.membership_losses(workflow, simulate(model, 2000, 2)),
    )
    print(f"== {name}\n{gap}")
    if not model.structure.exchangeable:
        pair = diagnostics.membership_losses(workflow, simulate(model, 2000, 2), kind="filtering")
        difference = np.subtract(*pair)
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        print(f"filtering, per time point: gap {difference.mean():.6f}, s.e. {error:.6f}")
    simulated = simulate(model, RANKED, 3)
    print(diagnostics.simulation_based_calibration(workflow, simulated, num_samples=999, seed=3))
    for at in ("truth", "draws"):
        result = diagnostics.membership_calibration(
            *diagnostics.predicted_membership(workflow, simulated, at=at, num_samples=500, seed=4)
        )
        print(f"membership at {at}: {result}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    for name in sys.argv[1:] or ARCHITECTURES:
        main(name)
