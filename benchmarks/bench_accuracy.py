"""How far the shipped networks are from the exact answer.

Prints the gap to exact of both factors, Pareto k, calibration of parameters and of membership, for
chains also the gap of filtering, and the loss where one is published; of a model without a
likelihood only what is calibration. Five to ten minutes for each network on one core. The data sets
of speeded decisions all have 400 trials.
"""

import sys

import numpy as np
from record import Report

import abmtools as abm
from abmtools import diagnostics
from abmtools.inference.pretrained import ARCHITECTURES
from abmtools.models.speeded_decisions import MARGIN

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
REPLICATES = {"gaussian_hmm": (2, 3, 5)}  # the same, with so many at every time point
HETEROGENEOUS = ("evidence_hmm",)  # trained on such data, too; 500 of them, less those rejected
# Targets, at most: gaps in nats per data set and per observation, and the published loss.
POSTERIOR = {"gaussian_mixture": 0.05, "gaussian_hmm": 0.1, "evidence_hmm": 0.25}
INDICATORS = {"gaussian_mixture": 0.0005, "gaussian_hmm": 0.0005, "evidence_hmm": 0.001}
PUBLISHED = {"gaussian_hmm": -1.233, "evidence_hmm": -6.472}
TRUSTED = {"gaussian_mixture": 0.99, "gaussian_hmm": 0.99}  # share of k < 0.7, at least
CALIBRATION = 0.005


def gaps(report: Report, workflow, for_posterior: list[dict], for_indicators: list[dict]) -> None:
    name, chain = report.topic, not workflow.model.structure.exchangeable
    gap = diagnostics.Gap(
        *diagnostics.posterior_losses(workflow, for_posterior, num_samples=2000, seed=1),
        *diagnostics.membership_losses(workflow, for_indicators),
    )
    print(gap)
    num_posterior, num_indicators = len(gap.posterior_loss), len(gap.membership_loss)
    report.add(
        f"gap of the posterior, {num_posterior} data sets",
        gap.posterior,
        unit="nats",
        error=gap.posterior_se,
        at_most=POSTERIOR.get(name),
    )
    report.add(
        "share of data sets with Pareto k < 0.7",
        np.mean(gap.pareto_k < 0.7),
        at_least=TRUSTED.get(name),
    )
    differences = {
        "smoothing" if chain else "membership": gap.membership_loss - gap.exact_membership_loss
    }
    if chain:
        pair = diagnostics.membership_losses(workflow, for_indicators, kind="filtering")
        differences["filtering"] = np.subtract(*pair)
    for kind, difference in differences.items():
        report.add(
            f"gap of {kind}, {num_indicators} data sets",
            difference.mean(),
            unit="nats per observation",
            error=difference.std(ddof=1) / np.sqrt(num_indicators),
            at_most=INDICATORS.get(name),
        )


def published_loss(report: Report, workflow, batches: list[dict]) -> None:
    """-log q(u | y) at the true parameters, the loss that the published networks ended with."""
    model, losses, changes = workflow.model, [], []
    for batch in batches:
        data = model.check_data(batch)
        u = model.unconstrain({name: batch[name] for name in model.parameter_names}, data)
        losses.append(-workflow.log_prob_unconstrained(data, u[:, None])[:, 0])
        if report.topic == "evidence_hmm":
            changes.append(without_margin(data["y"], batch["non_decision_time"]))
    scales = {"loss of the posterior": np.concatenate(losses)}
    if changes:
        label = "the same, bound of the non-decision time as in the published code"
        scales[label] = np.concatenate(losses) + np.concatenate(changes)
    for label, found in scales.items():
        report.add(
            f"{label}, {len(found):,} data sets (target: as published)",
            found.mean(),
            unit="nats",
            error=found.std(ddof=1) / np.sqrt(len(found)),
            at_most=PUBLISHED[report.topic],
        )


def without_margin(y: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """What a loss gains where logit(tau / m) is predicted in place of logit(tau / (m + MARGIN))."""
    fastest = y[..., 0].min(axis=1)
    bound = fastest + MARGIN
    return np.log(fastest / bound * (bound - tau) / (fastest - tau))


class Corrected:
    """A workflow whose draws are corrected by PSIS: nearly the exact posterior."""

    def __init__(self, workflow):
        self.workflow, self.model = workflow, workflow.model

    def sample(self, *, conditions, num_samples: int, seed: int):
        draws = self.workflow.sample(conditions=conditions, num_samples=2 * num_samples, seed=seed)
        return diagnostics.importance(draws).resample(draws, num_samples, seed=seed)


def calibration(report: Report, workflow, simulated: list[dict]) -> None:
    contenders = {"": workflow}
    if workflow.model.has_likelihood:
        contenders[" after correction"] = Corrected(workflow)
    for what, contender in contenders.items():
        ranks = diagnostics.simulation_based_calibration(
            contender, simulated, num_samples=999, seed=3
        )
        print(ranks)
        report.add(
            f"parameters inside the band of calibration (SBC){what}",
            ranks.inside.sum(),
            unit=f"of {len(ranks.inside)}",
            at_least=None if what else len(ranks.inside),
        )
        report.add(f"smallest log gamma of SBC{what}; negative is outside", ranks.log_gamma.min())
    for at in ("truth", "draws"):
        result = diagnostics.membership_calibration(
            *diagnostics.predicted_membership(workflow, simulated, at=at, num_samples=500, seed=4)
        )
        report.add(
            f"calibration error of membership, at the {at}",
            result.expected_calibration_error,
            at_most=CALIBRATION,
        )


def main(name: str) -> None:
    workflow = abm.load_pretrained(name)
    model = workflow.model
    for_posterior, for_indicators, for_calibration, sizes = DATASETS.get(name, DEFAULT)

    def simulate(num_datasets: int, seed: int, size: int = 10, **sizes) -> list[dict]:
        """Fresh data sets: groups of ten share N and R."""
        rng = np.random.default_rng(seed)
        return [model.simulate(size, rng=rng, **sizes) for _ in range(num_datasets // size)]

    with Report(__file__, name, flags=name) as report:
        if model.has_likelihood:
            gaps(
                report,
                workflow,
                simulate(for_posterior, 1, **sizes),
                simulate(for_indicators, 2, **sizes),
            )
        if name in PUBLISHED:
            published_loss(report, workflow, simulate(10_000, 6, 100, **sizes))
        others = [(f"{n} observations", {"num_obs": n}) for n in LENGTHS.get(name, ())]
        others += [
            (f"{r} replicates everywhere", {"num_reps": r}) for r in REPLICATES.get(name, ())
        ]
        for what, fixed in others:
            gap = diagnostics.gap_to_exact(workflow, simulate(100, 5, **fixed), seed=5)
            print(f"{what}\n{gap}")
            report.add(
                f"gap of the posterior, {what}, 100 data sets",
                gap.posterior,
                unit="nats",
                error=gap.posterior_se,
            )
        if name in HETEROGENEOUS:
            options = {"block_size": 50, "strays": workflow.model.lapses}
            data = abm.heterogeneous_data(workflow, 1000, seed=7, **options)
            values = data.inconsistency(workflow)
            report.add(
                f"inconsistency, heterogeneous data, {len(values)} data sets",
                values.mean(),
                unit="nats",
                error=values.std(ddof=1) / np.sqrt(len(values)),
            )
        calibration(report, workflow, simulate(for_calibration, 3, **sizes))


if __name__ == "__main__":
    for name in sys.argv[1:] or MIXTURES:
        main(name)
