"""Diagnostics: numbers that say how far to trust a posterior.

==================  ============================================================================
one posterior       `importance`: evidence, Pareto k and corrected draws, by the exact density
many data sets      `gap_to_exact`: how far both factors are from the best that there is
calibration         `simulation_based_calibration` of parameters, `membership_calibration`
two posteriors      `compare`: C2ST, differences of means and quantiles, of membership
several models      `log_marginal_likelihood`, by which `compare_model_probabilities` judges
no likelihood       `simulated_scores`, `simulated_membership`: near-exact ones, by brute force
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
from .marginal_likelihood import (
    MarginalLikelihood,
    ModelProbabilities,
    compare_model_probabilities,
    log_marginal_likelihood,
)
from .misspecification import Misspecification, misspecification
from .predictive import PredictiveCheck, posterior_predictive, predictive_check
from .reliability import (
    MembershipCalibration,
    calibrated_errors,
    membership_calibration,
    predicted_membership,
)
from .simulated_density import simulated_membership, simulated_scores

__all__ = [
    "Comparison",
    "Draws",
    "Gap",
    "ImportanceResult",
    "MarginalLikelihood",
    "MembershipCalibration",
    "Misspecification",
    "ModelProbabilities",
    "PredictiveCheck",
    "SimulationBasedCalibration",
    "calibrated_errors",
    "compare",
    "compare_model_probabilities",
    "gap_to_exact",
    "importance",
    "log_marginal_likelihood",
    "log_posterior",
    "membership_calibration",
    "membership_losses",
    "misspecification",
    "posterior_losses",
    "posterior_predictive",
    "predicted_membership",
    "predictive_check",
    "simulated_membership",
    "simulated_scores",
    "simulation_based_calibration",
]
