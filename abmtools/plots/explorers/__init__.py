"""Explorers: sliders that move data or a prior, and a network that answers while they move."""

from .evidence import EvidenceHMMExplorer
from .hmm import GaussianHMMExplorer
from .mixture import GaussianMixtureExplorer

__all__ = ["EvidenceHMMExplorer", "GaussianHMMExplorer", "GaussianMixtureExplorer"]
