"""Plots: pictures of posteriors and of diagnostics, in matplotlib.

==================  ============================================================================
parameters          `marginals` and `pairs` of one or more posteriors and the truth
membership          `membership_curves` with bands, `membership_scatter` of two posteriors
sequences           `sequence` of data, `paths` of states
states              `state_probabilities`, `filtering_and_smoothing`
calibration         `calibration` of membership, `rank_ecdf` and `recovery` of parameters
the model           `misspecification` by summaries, `predictive_check` of statistics by state
training            `losses`
explorers           sliders, and a network that answers while they move: `GaussianMixtureExplorer`,
                    `GaussianHMMExplorer`, `EvidenceHMMExplorer`
==================  ============================================================================

Every function takes the axes to draw on, or makes a figure in the style of `style.context`, and
returns the axes. None shows a figure, and importing this changes no setting of matplotlib.
Explorers are for notebooks; making one, and nothing else here, needs ipywidgets.
"""

from . import style
from .checks import misspecification, predictive_check
from .explorers import EvidenceHMMExplorer, GaussianHMMExplorer, GaussianMixtureExplorer
from .membership import calibration, membership_curves, membership_scatter
from .parameters import marginals, pairs
from .sequences import paths, sequence
from .simulation import rank_ecdf, recovery
from .states import filtering_and_smoothing, state_probabilities
from .training import losses

__all__ = [
    "EvidenceHMMExplorer",
    "GaussianHMMExplorer",
    "GaussianMixtureExplorer",
    "calibration",
    "filtering_and_smoothing",
    "losses",
    "marginals",
    "membership_curves",
    "membership_scatter",
    "misspecification",
    "pairs",
    "paths",
    "predictive_check",
    "rank_ecdf",
    "recovery",
    "sequence",
    "state_probabilities",
    "style",
]
