"""The shipped networks beside NUTS, each on twenty fresh data sets.

Prints, for each data set, the C2ST of the amortized draws as they are and after PSIS resampling,
the largest difference of a posterior mean in posterior standard deviations, and of membership.
Chance alone gives a C2ST of 0.506. The ESS is the reference's smallest. About five minutes for
each network.
"""

import sys
import warnings

import numpy as np
import pandas as pd

import abmtools as abm
from abmtools import diagnostics
from abmtools.stan import StanDiagnosticsWarning

WITH_STAN = ("evidence_hmm", "gaussian_hmm", "gaussian_mixture")  # models that have a program
LABELS = ("C2ST", "mean", "membership")


def nuts_draws(model, data, *, seed: int):
    """NUTS with small steps and long chains: two close means make a funnel that defaults miss."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StanDiagnosticsWarning)  # reported as the smallest ESS
        return abm.stan.sample(model, data, seed=seed, draws=2000, adapt_delta=0.99)


def row(posterior, reference, model) -> dict:
    comparison = diagnostics.compare(posterior, reference, model=model)
    return {
        "C2ST": comparison.c2st,
        "mean": comparison.differences["mean"].abs().max(),
        "membership": comparison.membership,
        "ESS": comparison.reference_ess,
    }


def main(name: str, num_datasets: int = 20) -> None:
    workflow = abm.load_pretrained(name)
    model, rng = workflow.model, np.random.default_rng(20)
    rows = []
    for dataset in range(num_datasets):
        data = model.check_data(model.simulate(1, rng=rng))
        reference = nuts_draws(model, data, seed=dataset + 1)
        posterior = workflow.sample(conditions=data, num_samples=4000, seed=dataset)
        resampled = diagnostics.importance(posterior).resample(posterior, 2000, seed=dataset)
        corrected = row(resampled, reference, model)
        rows.append(
            row(posterior, reference, model) | {f"{k} (PSIS)": corrected[k] for k in LABELS}
        )
        print(dataset, {key: round(float(value), 3) for key, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    print(pd.DataFrame({"mean": table.mean(), "largest": table.max()}).round(4).to_string())


if __name__ == "__main__":
    for name in sys.argv[1:] or WITH_STAN:
        print("==", name)
        main(name)
