"""The eleven participants of the cognitive case studies, as one batch."""

import numpy as np

import abmtools as abm

__all__ = ["load"]

NUM_TRIALS = 400


def load() -> tuple[list[str], dict[str, np.ndarray]]:
    """Names of the participants, and their trials as one batch with a mask."""
    trials = abm.datasets.load_dutilh2011()
    trials = trials[trials["trial"] <= NUM_TRIALS]
    names = list(trials["participant"].cat.categories)
    y, mask = np.zeros((len(names), NUM_TRIALS, 2)), np.zeros((len(names), NUM_TRIALS), dtype=bool)
    for row, (_, own) in enumerate(trials.groupby("participant", observed=True)):
        y[row, : len(own)] = own[["rt", "correct"]].to_numpy(dtype="float64")
        mask[row, : len(own)] = True
    return names, {"y": y, "mask": mask}
