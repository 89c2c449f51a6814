"""Networks: encoders and summaries of observations, and classifiers of indicators.

One encoder serves both factors of the joint posterior: its codes are pooled into the summary on
which p(theta | y) is conditioned, and scored against theta for p(z | y, theta).
"""

from .chain_assignment import ChainAssignment
from .direct_mlp import DirectMLP
from .emission_scorer import EmissionScorer
from .likelihood_correction import LikelihoodCorrection
from .observation_encoder import ObservationEncoder
from .sequence_classifier import SequenceClassifier
from .sequence_summary import SequenceSummary
from .set_summary import SetSummary
from .soft_assignment import SoftAssignment

__all__ = [
    "ChainAssignment",
    "DirectMLP",
    "EmissionScorer",
    "LikelihoodCorrection",
    "ObservationEncoder",
    "SequenceClassifier",
    "SequenceSummary",
    "SetSummary",
    "SoftAssignment",
]
