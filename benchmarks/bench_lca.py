"""The leaky competing accumulator: where no exact answer is known, how near the network is to one.

Prints

* anchor (a): data simulated without leak and inhibition, where the accumulators are Wald but for
  the floor at zero: cross-entropy of the true state of the network's smoothing, of the Wald model's
  exact smoothing, and of smoothing by brute force;
* anchor (b): the same for parameters from the prior, where brute force is all there is;
* how much of each parameter 400 trials tell: posterior by prior standard deviation, and the
  correlation of the posterior means with the truth, over 300 data sets;
* the eleven participants: how well their states and the parameters that both models have agree with
  the cognitive case study's, and which model the comparison prefers;
* the comparison of the two models: accuracy, calibration and loss on 1,000 data sets;
* the error of the simulator's steps, and its time beside that of ssm-simulators, if installed;
* seconds for 2,000 draws with filtering and smoothing of one person.

Brute force simulates each state four million times at each parameter vector; ten minutes in all on
one core. Calibration over 1,000 data sets is in bench_accuracy.
"""

import time

import numpy as np
import pandas as pd
from participants import load
from record import Report

import abmtools as abm
from abmtools import diagnostics
from abmtools.diagnostics import simulated_membership
from abmtools.models.leaky_accumulators import STEP, race

NUM_VECTORS, NUM_TRIALS = 20, 1000
NO_LEAK = 0.01  # per second: the network sees the logarithm


def cross_entropy(probabilities: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Of the true states, mean over the trials of each data set, (B,)."""
    return -np.log(np.take_along_axis(probabilities, z[..., None], axis=-1)[..., 0]).mean(axis=1)


def add_gap(report: Report, what: str, gap: np.ndarray, at_most: float | None = None) -> None:
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    report.add(what, gap.mean(), unit="nats per trial", error=error, at_most=at_most)


def anchors(report: Report, workflow) -> None:
    model, rng = workflow.model, np.random.default_rng(1)
    wald = abm.EvidenceAccumulationHMM()
    for label, changes in {"no leak, no inhibition": NO_LEAK, "the prior": None}.items():
        theta = model.prior(rng, NUM_VECTORS)
        if changes is not None:
            theta |= {name: np.full(NUM_VECTORS, changes) for name in ("leak", "inhibition")}
        data = model.simulate_data(theta, rng=rng, num_obs=NUM_TRIALS)
        z, one = data["z"], {name: value[:, None] for name, value in theta.items()}
        brute = simulated_membership(model, data, theta, seed=2)
        network = workflow.membership({"y": data["y"]}, one)[:, 0]
        reference = cross_entropy(brute, z)
        print(f"{label}: {NUM_VECTORS} data sets x {NUM_TRIALS} trials, cross-entropy")
        print(f"  brute force (reference)  {reference.mean():.4f}")
        print(f"  mean |difference|        {np.abs(network - brute)[..., 1].mean():.4f}")
        gap = cross_entropy(network, z) - reference
        add_gap(report, f"gap of smoothing to brute force, {label}", gap, at_most=0.01)
        parameters = {name: one[name] for name in model.parameter_names if name in wald.space.names}
        parameters["controlled_drift"] = one["input"]
        exact = wald.exact_membership({"y": data["y"]}, parameters)[:, 0]
        difference = np.abs(network - exact)[..., 1].mean()
        print(f"  mean |difference|, Wald  {difference:.4f}")
        gap = cross_entropy(exact, z) - reference
        add_gap(report, f"the same of the Wald model's exact smoothing, {label}", gap)


def recovery(report: Report, workflow, num_datasets: int = 300) -> None:
    rng = np.random.default_rng(5)
    simulated = [
        workflow.model.simulate(20, rng=rng, num_obs=400) for _ in range(num_datasets // 20)
    ]
    draws = diagnostics.simulation_based_calibration(workflow, simulated, num_samples=500, seed=5)
    rows = {}
    for name, target in draws.targets.items():
        for k in range(target.shape[1]):
            estimate = draws.estimates[name][..., k]
            label = f"{name}[{k}]" if target.shape[1] > 1 else name
            rows[label] = {
                "posterior sd / prior sd": estimate.std(axis=1).mean() / target[:, k].std(),
                "correlation": np.corrcoef(estimate.mean(axis=1), target[:, k])[0, 1],
            }
    print(f"recovery, {num_datasets} data sets of 400 trials")
    print(pd.DataFrame.from_dict(rows, orient="index").round(2).to_string())
    for label in ("leak", "inhibition"):
        report.add(
            f"posterior sd / prior sd of {label}, {num_datasets} data sets",
            rows[label]["posterior sd / prior sd"],
        )


def participants(report: Report, leaky, comparison) -> None:
    """The eleven participants by both models; draws of the one with a likelihood are corrected."""
    names, data = load()
    wald = comparison.workflows["wald"]
    draws = {
        label: workflow.sample(conditions=data, num_samples=2000, seed=6)
        for label, workflow in {"leaky": leaky, "wald": wald}.items()
    }
    draws["wald"] = diagnostics.importance(draws["wald"]).correct(draws["wald"])
    ours, theirs = (draws[label].mean_smoothing()[..., 1] for label in ("leaky", "wald"))
    mask = data["mask"]
    means = {label: posterior.mean() for label, posterior in draws.items()}
    table = pd.DataFrame(index=names)
    table["p(leaky)"] = comparison.estimate(conditions=data)["model_probs"][:, 1]
    table["states, mean |difference|"] = np.mean(np.abs(ours - theirs), axis=1, where=mask)
    table["same state, share"] = np.mean((ours > 0.5) == (theirs > 0.5), axis=1, where=mask)
    spread = draws["wald"].std()
    for name in ("stay", "threshold", "guessing_drift", "non_decision_time"):
        difference = (means["leaky"][name] - means["wald"][name]) / spread[name]
        for k, column in enumerate(difference.reshape(len(names), -1).T):
            table[f"{name}[{k}]" if difference.ndim > 1 else name] = column
    print("participants; parameters: difference of posterior means in sd of the Wald model")
    print(table.round(3).to_string())
    same = table["same state, share"].min()
    report.add("participants: share of trials in the same state as by Wald, smallest", same)


def comparison_check(report: Report, comparison, num_datasets: int = 1000) -> None:
    rng = np.random.default_rng(7)
    batches = [comparison.model.simulate(50, rng=rng) for _ in range(num_datasets // 50)]
    found = [comparison.estimate(conditions=batch)["model_probs"] for batch in batches]
    probabilities, truth = (
        np.concatenate(found),
        np.concatenate([x["model_indices"] for x in batches]),
    )
    loss = -np.log(np.sum(probabilities * truth, axis=1)).mean()
    z = truth.argmax(axis=1)
    calibration = diagnostics.membership_calibration(probabilities, z)
    accuracy = np.mean(probabilities.argmax(axis=1) == z)
    where = f"{num_datasets} data sets of 100 to 1,000 trials"
    report.add(f"share of right choices, {where}", accuracy)
    report.add("cross-entropy of the choice", loss, unit="nats")
    report.add("calibration error of p(M | y)", calibration.expected_calibration_error)


def steps(num_races: int = 200_000) -> None:
    rng = np.random.default_rng(3)
    columns = [np.array([[3.0, 6.0]]), *(np.array([x]) for x in (2.0, 2.0, 2.0))]
    rows = np.zeros(num_races, dtype=int)
    print("mean time and accuracy of a race, by length of the simulator's steps")
    for step in (10 * STEP, STEP, STEP / 10):
        times, won = race(rng, *columns, rows, step=step)
        error = times.std() / np.sqrt(num_races)
        print(f"  {1e3 * step:5.1f} ms: {times.mean():.4f} s (s.e. {error:.4f}), {won.mean():.4f}")


def speed(report: Report, workflow, num_people: int = 64, num_trials: int = 400) -> None:
    rng = np.random.default_rng(4)
    theta = workflow.model.prior(rng, num_people)
    rows = np.repeat(np.arange(num_people), num_trials)
    names = ("input", "leak", "inhibition")
    columns = [*(theta[name] for name in names), theta["threshold"][:, 1]]
    where = f"{num_people * num_trials:,} races in steps of 1 ms"
    ours = seconds(lambda: race(rng, *columns, rows, step=0.001))
    report.add(f"simulator, {where}", ours, unit="s")
    try:
        from cssm.race_models import lca
        from ssms.basic_simulators.boundary_functions import constant
    except ImportError:
        print("ssm-simulators is not installed")
    else:
        inputs, leak, inhibition, threshold = (x.astype("float32")[rows] for x in columns)
        zeros = np.zeros((len(rows), 2), dtype="float32")
        arguments = (inputs, zeros, leak[:, None], inhibition[:, None], zeros[:, :1], zeros + 1)
        options = {
            "deadline": np.full(len(rows), 999, dtype="float32"),
            "delta_t": 0.001,
            "max_t": 10.0,
            "n_samples": 1,
            "n_trials": len(rows),
            "boundary_fun": constant,
            "boundary_params": {"a": threshold},
            "return_option": "minimal",
        }
        theirs = seconds(lambda: lca(*arguments, **options), 1)
        report.add(f"ssm-simulators, {where}", theirs, unit="s")
    y = workflow.model.simulate(1, rng=rng, num_obs=num_trials)["y"]
    duration = seconds(lambda: workflow.sample(conditions={"y": y}, num_samples=2000, seed=1))
    report.add(f"2,000 draws with filtering and smoothing, {num_trials} trials", duration, unit="s")


def seconds(function, repetitions: int = 5) -> float:
    """Median over some calls."""
    durations = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))


if __name__ == "__main__":
    workflow, comparison = (abm.load_pretrained(x) for x in ("lca_hmm", "speeded_comparison"))
    with Report(__file__, "lca_hmm") as report:
        anchors(report, workflow)
        recovery(report, workflow)
        participants(report, workflow, comparison)
        steps()
        speed(report, workflow)
    with Report(__file__, "speeded_comparison") as report:
        comparison_check(report, comparison)
