"""Plots: pictures of posteriors and of diagnostics, in matplotlib.

==================  ============================================================================
parameters          `marginals` and `pairs` of one or more posteriors and the truth
membership          `membership_curves` with bands, `membership_scatter` of two posteriors
calibration         `calibration` of membership, `rank_ecdf` and `recovery` of parameters
training            `losses`
==================  ============================================================================

Every function takes the axes to draw on, or makes a figure in the style of `style.context`, and
returns the axes. None shows a figure, and importing this changes no setting of matplotlib.
"""

from . import style
from .membership import calibration, membership_curves, membership_scatter
from .parameters import marginals, pairs
from .simulation import rank_ecdf, recovery
from .training import losses

__all__ = [
    "calibration",
    "losses",
    "marginals",
    "membership_curves",
    "membership_scatter",
    "pairs",
    "rank_ecdf",
    "recovery",
    "style",
]
