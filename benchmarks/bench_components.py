"""How many components: the shipped network against marginal likelihoods, on fresh data sets.

Prints, for 200 data sets of 50 to 300 observations from one to four components: the differences of
the probabilities from those by importance sampling, whose own error is told by Pareto k and by a
repetition with other draws; for 10,000 data sets the calibration of the probabilities; the gap to
exact of each model's parameters; and times. About three minutes on one core.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import time

import numpy as np
from record import Report

import abmtools as abm
from abmtools import diagnostics

NUM_SAMPLES = 2000


def simulate(model, num_datasets: int, seed: int) -> list[dict]:
    """Fresh data sets: groups of ten share N."""
    rng = np.random.default_rng(seed)
    return [model.simulate(10, rng=rng) for _ in range(num_datasets // 10)]


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(workflow, batches: list[dict], seed: int) -> diagnostics.ModelProbabilities:
    return diagnostics.compare_model_probabilities(
        workflow, batches, num_samples=NUM_SAMPLES, seed=seed
    )


def probabilities(report: Report, workflow) -> None:
    batches = simulate(workflow.model, 200, seed=1)
    first = compare(workflow, batches, seed=1)
    print(first)
    trusted = (first.pareto_k < 0.7).all(axis=1)
    report.add(
        "difference of p(K | y) to importance sampling, mean of 200 data sets",
        first.difference.mean(),
        at_most=0.05,
    )
    report.add("the same, largest", first.difference.max())
    report.add("the same, mean where all Pareto k < 0.7", first.difference[trusted].mean())
    report.add("share of data sets with all Pareto k < 0.7", trusted.mean())
    again = compare(workflow, batches[:5], seed=2)
    noise = np.abs(again.exact - first.exact[: len(again.exact)]).mean()
    report.add(f"importance sampling against itself, {len(again.exact)} data sets", noise)
    report.add("divergence of p(K | y) from exact, mean", first.divergence.mean(), unit="nats")


def calibration(report: Report, workflow) -> None:
    batches = simulate(workflow.model, 10_000, seed=2)
    estimates = [workflow.estimate(conditions=batch)["model_probs"] for batch in batches]
    truth = np.concatenate([batch["model_indices"] for batch in batches])
    table = workflow.compute_default_diagnostics(
        {"model_indices": truth}, estimates={"model_probs": np.concatenate(estimates)}
    )
    print(table.round(4))
    error = float(table.loc["Expected Calibration Error"].max())
    report.add("calibration error of p(K | y), largest of the four, 10,000 data sets", error)


def parameters(report: Report, workflow) -> None:
    for name, network in workflow.workflows.items():
        batches = simulate(network.model, 200, seed=3)
        gap = diagnostics.gap_to_exact(network, batches, num_samples=1000, seed=3)
        print(gap)
        what = f"gap of the posterior given K = {name}, 200 data sets"
        report.add(what, gap.posterior, unit="nats", error=gap.posterior_se)


def times(report: Report, workflow) -> None:
    data = workflow.model.simulate(100, rng=np.random.default_rng(4), num_obs=200)
    batch = {"y": data["y"]}
    one = {"y": data["y"][:1]}
    contenders = {
        "probabilities, one data set": lambda: workflow.estimate(conditions=one),
        "probabilities, batch of 100": lambda: workflow.estimate(conditions=batch),
        "and 2,000 draws of each model, one data set": lambda: workflow.sample(
            conditions=one, num_samples=2000, seed=1
        ),
        "importance sampling, one data set": lambda: compare(workflow, [one], seed=1),
    }
    for label, function in contenders.items():
        median = np.median([seconds(function) for _ in range(5)])
        report.add(label, 1e3 * median, unit="ms")


if __name__ == "__main__":
    shipped = abm.load_pretrained("component_count")
    with Report(__file__, "component_count") as report:
        for part in (probabilities, calibration, parameters, times):
            part(report, shipped)
