"""How long an explorer takes from a moved slider to its picture, by part, on one core.

The network is all that happens before the posterior is known: the data, 500 draws with membership
or filtering and smoothing, in the third case study their weights for another prior. Drawing is the
rest, down to the PNG. In the third case study the network is only asked where another participant
is chosen; its sliders for the prior reweigh the draws that are there. Times are medians of forty
moves. The processor time of the whole is what a reader waits where the core has nothing else to do.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ["OMP_NUM_THREADS"] = "1"  # before torch

import time

import numpy as np
from record import Report

import abmtools as abm
from abmtools.plots import EvidenceHMMExplorer, GaussianHMMExplorer, GaussianMixtureExplorer

MOVES = 40


def measure(report: Report, explorer, slider: str, values, network: str = "network") -> None:
    """Move a slider through values, there and back."""
    control = explorer.controls[slider]
    path = [*values, *values[::-1]]
    times = []
    for move in range(MOVES):
        start = time.process_time()
        control.value = path[move % len(path)]
        processor = time.process_time() - start
        times.append([*explorer.seconds.values(), sum(explorer.seconds.values()), processor])
    answer, drawing, whole, processor = 1e3 * np.median(times, axis=0)
    report.add(f"{slider} moved: {network}", answer, unit="ms", at_most=100)
    report.add(f"{slider} moved: drawing", drawing, unit="ms")
    report.add(f"{slider} moved: the whole", whole, unit="ms")
    report.add(f"{slider} moved: processor time of the whole", processor, unit="ms")
    report.add(f"{slider} moved: the picture", len(explorer.picture()) / 1e3, unit="kB")


def people(workflow, num: int) -> dict:
    """Simulated participants with 400 trials."""
    rng = np.random.default_rng(1)
    return {"y": workflow.model.simulate(num, rng=rng, num_obs=400)["y"]}


if __name__ == "__main__":
    distances = np.linspace(0.6, 3.9, 12).round(1).tolist()
    with Report(__file__, "gaussian_mixture") as report:
        explorer = GaussianMixtureExplorer(abm.load_pretrained("gaussian_mixture"))
        measure(report, explorer, "separation", distances)
    with Report(__file__, "gaussian_hmm") as report:
        explorer = GaussianHMMExplorer(abm.load_pretrained("gaussian_hmm"))
        measure(report, explorer, "separation", distances)
        measure(report, explorer, "persistence", np.arange(0.5, 0.97, 0.04).round(2).tolist())
    with Report(__file__, "evidence_hmm") as report:
        workflow = abm.load_pretrained("evidence_hmm")
        explorer = EvidenceHMMExplorer(workflow, people(workflow, 12))
        measure(report, explorer, "participant", list(explorer.controls["participant"].options))
        scales = (2 ** np.arange(-2, 2.1, 0.25)).tolist()
        measure(report, explorer, "thresholds", scales, network="weights")
