"""Networks: an observation encoder, a set summary and an emission scorer.

One encoder serves both factors of the joint posterior: its codes are pooled into the summary on
which p(theta | y) is conditioned, and scored against theta for p(z | y, theta).
"""

from .emission_scorer import EmissionScorer
from .observation_encoder import ObservationEncoder
from .set_summary import SetSummary
from .soft_assignment import SoftAssignment

__all__ = ["EmissionScorer", "ObservationEncoder", "SetSummary", "SoftAssignment"]
