"""Eleven real participants: the shipped network, all in one call, beside NUTS, one after the other.

For each participant of the third case study, first 400 trials, prints

* the largest difference of a posterior mean from that of NUTS, in posterior standard deviations of
  NUTS, of the network's draws as they are and corrected: 20,000 draws weighted by Pareto-smoothed
  importance sampling, or, where k is above 0.7, refined by `abmtools.refine`;
* Pareto k of the network's 2,000 draws, the effective number of the corrected ones, and that of
  NUTS (its smallest);
* the mean absolute difference of smoothing probabilities, averaged over the posterior on both
  sides, likewise as they are and corrected;
* seconds of NUTS (4 chains x (1,000 + 1,000), with filtering and smoothing), and how many times
  faster the network is, on torch and, in a process of its own, on JAX: a single call draws 2,000
  for all participants, also with filtering and smoothing, and its time is divided by their number.

Both sides use all cores that this process may use. NUTS takes about fifteen minutes on two; with
``--nuts FOLDER`` its draws are kept there, with their times, and read again by the next run.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.pop("OMP_NUM_THREADS", None)  # before torch: both sides may use all cores

import argparse
import time
from pathlib import Path

import arviz_stats
import numpy as np
import pandas as pd
import torch
import xarray
from jax_process import start_jax_process
from participants import load
from record import Report

import abmtools as abm
from abmtools import diagnostics

NUM_SAMPLES = 2000
NUM_CORRECTED = 20_000  # so many that the error of a mean is NUTS's, not that of the weights
TARGETS = {  # of the column's worst entry, at most
    "mean": ("largest difference of a mean, in sd", 0.5),
    "mean, corrected": ("largest difference of a mean after correction, in sd", 0.1),
    "smoothing": ("largest mean difference of smoothing", 0.02),
    "smoothing, corrected": ("largest mean difference of smoothing after correction", 0.02),
}


# --- the two contenders -------------------------------------------------------------------------


def nuts(model, y: np.ndarray, path: Path | None) -> xarray.DataTree:
    """Draws of one participant, from the file if there is one."""
    if path is not None and path.exists():
        return xarray.load_datatree(path)
    tree = abm.stan.sample(model, {"y": y}, engine="stanli", seed=1)
    if path is not None:
        tree.to_netcdf(path)
    return tree


def network(workflow, data: dict, repetitions: int = 5):
    """Draws for all participants, and the seconds of a call: a median."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        posterior = workflow.sample(conditions=data, num_samples=NUM_SAMPLES, seed=1)
        seconds.append(time.perf_counter() - start)
    return posterior, float(np.median(seconds))


def seconds_of_network() -> float:
    """Of a call, as `network` takes it; for a process of its own."""
    return network(abm.load_pretrained("evidence_hmm"), load()[1])[1]


def correct(workflow, data: dict, row: int):
    """Corrected draws of one participant, their effective number, and how they were corrected."""
    one = {key: value[row : row + 1] for key, value in data.items()}
    posterior = workflow.sample(conditions=one, num_samples=NUM_CORRECTED, seed=2)
    weights = diagnostics.importance(posterior)
    if weights.pareto_k[0] < 0.7:
        return weights.correct(posterior), weights.ess[0], "PSIS"
    refined = abm.refine(workflow.sample(conditions=one, num_samples=NUM_SAMPLES, seed=2))
    return refined.posterior, NUM_SAMPLES, refined.route[0]


# --- their differences --------------------------------------------------------------------------


def largest_difference(posterior, reference, row: int) -> float:
    """Of posterior means, over all parameters, in standard deviations of the reference."""
    means, worst = posterior.mean(), 0.0
    for name, mean in means.items():
        draws = reference[name].values
        error = (mean[row] - draws.mean(axis=(0, 1))) / draws.std(axis=(0, 1))
        worst = max(worst, float(np.abs(error).max()))
    return worst


def smoothing_difference(posterior, reference, row: int) -> float:
    """Mean over trials of the absolute difference of the probability of control."""
    theirs = reference["membership"].values[..., 1].mean(axis=(0, 1))
    ours = posterior.mean_smoothing()[row, : len(theirs), 1]
    return float(np.abs(ours - theirs).mean())


def compare(posterior, corrected, reference, row: int, names: list[str]) -> dict:
    ess = arviz_stats.ess(reference.to_dataset()[names])
    return {
        "mean": largest_difference(posterior, reference, row),
        "mean, corrected": largest_difference(corrected, reference, 0),
        "smoothing": smoothing_difference(posterior, reference, row),
        "smoothing, corrected": smoothing_difference(corrected, reference, 0),
        "NUTS ESS": min(float(x.min()) for x in ess.data_vars.values()),
    }


def measure(folder: Path | None) -> tuple[pd.DataFrame, dict[str, float]]:
    """A row for each participant, and the seconds of the network for all of them, by backend."""
    names, data = load()
    workflow = abm.load_pretrained("evidence_hmm")
    model = workflow.model
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with start_jax_process() as jax:
        seconds = {"JAX": jax.submit(seconds_of_network).result()}
    posterior, seconds["torch"] = network(workflow, data)
    pareto_k, rows = diagnostics.importance(posterior).pareto_k, {}
    for row, name in enumerate(names):
        path = None if folder is None else folder / f"{name}.nc"
        tree = nuts(model, data["y"][row, data["mask"][row]], path)
        duration = tree.attrs["compile_time"] + tree.attrs["sampling_time"]
        corrected, ess, route = correct(workflow, data, row)
        rows[name] = (
            compare(posterior, corrected, tree["posterior"], row, model.parameter_names)
            | {
                "k": pareto_k[row],
                "corrected by": route,
                "ESS": ess,
                "NUTS s": duration,
            }
            | {f"faster, {label}": duration * len(names) / x for label, x in seconds.items()}
        )
        print(f"{name}: NUTS {duration:.0f} s", flush=True)
    return pd.DataFrame.from_dict(rows, orient="index"), seconds


def main(folder: Path | None) -> None:
    with Report(__file__, "evidence_hmm") as report:
        table, seconds = measure(folder)
        print(table.round(3).to_string())
        print(f"{NUM_SAMPLES} draws of each participant; {torch.get_num_threads()} threads")
        for column, (what, target) in TARGETS.items():
            report.add(f"participants, {what}", table[column].max(), at_most=target)
        report.add(
            "participants with all means within 0.5 sd, as drawn",
            (table["mean"] <= TARGETS["mean"][1]).sum(),
            unit=f"of {len(table)}",
        )
        report.add(
            "participants with Pareto k < 0.7",
            (table["k"] < 0.7).sum(),
            unit=f"of {len(table)}",
            at_least=9,
        )
        for backend, found in seconds.items():
            report.add(f"{backend}, all participants", found, unit="s")
            report.add(
                f"{backend}, smallest gain of speed over NUTS, per participant",
                table[f"faster, {backend}"].min(),
                unit="times",
                at_least=200,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nuts", type=Path, metavar="FOLDER", help="where draws of NUTS are kept")
    main(parser.parse_args().nuts)
