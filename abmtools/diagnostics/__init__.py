"""Diagnostics: numbers that say how far to trust a posterior.

==================  ============================================================================
one posterior       `importance`: evidence, Pareto k and corrected draws, by the exact density
many data sets      `gap_to_exact`: how far both factors are from the best that there is
calibration         `simulation_based_calibration` of parameters, `membership_calibration`
two posteriors      `compare`: C2ST, differences of means and quantiles, of membership
the model           `misspecification` of data by their summaries, `predictive_check` by state of
                    what `posterior_predictive` simulates
==================  ============================================================================
"""

from .calibration import SimulationBasedCalibration, simulation_based_calibration
from .comparison import Comparison, compare
from .draws import Draws
from .exact import log_posterior
from .gap import Gap, gap_to_exact, membership_losses, posterior_losses
from .importance_sampling import ImportanceResult, importance
from .misspecification import Misspecification, misspecification
from .predictive import PredictiveCheck, posterior_predictive, predictive_check
from .reliability import MembershipCalibration, membership_calibration, predicted_membership

__all__ = [
    "Comparison",
    "Draws",
    "Gap",
    "ImportanceResult",
    "MembershipCalibration",
    "Misspecification",
    "PredictiveCheck",
    "SimulationBasedCalibration",
    "compare",
    "gap_to_exact",
    "importance",
    "log_posterior",
    "membership_calibration",
    "membership_losses",
    "misspecification",
    "posterior_losses",
    "posterior_predictive",
    "predicted_membership",
    "predictive_check",
    "simulation_based_calibration",
]
