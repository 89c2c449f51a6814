"""Trained networks that ship with the package.

Each has a folder under ``weights/`` with ``weights.npz`` and ``card.json``: model, architecture,
training budget, seed, versions, losses and the measured gap to the exact answer.
``make train MODEL=...`` makes it again.
"""

import hashlib
import json
from importlib.resources import files

import keras

from ..models import EvidenceAccumulationHMM, GaussianHMM, GaussianMixture
from ..networks import EmissionScorer, ObservationEncoder, SequenceSummary
from .checkpoint import load_weights
from .workflow import MixtureWorkflow

__all__ = ["ARCHITECTURES", "load_card", "load_pretrained", "weights_folder"]


def gaussian_mixture(**kwargs) -> MixtureWorkflow:
    """The first case study's workflow, untrained; options are those of `MixtureWorkflow`.

    With a known scale the replicates' mean and number are sufficient, so the encoder needs no
    learned replicate features. All else is as for any model.
    """
    encoder = ObservationEncoder(replicates=True, width=0)
    return MixtureWorkflow(GaussianMixture(), encoder=encoder, **kwargs)


def gaussian_hmm(**kwargs) -> MixtureWorkflow:
    """The second case study's workflow, untrained; options are those of `MixtureWorkflow`.

    As for `gaussian_mixture`, the replicates' mean and number are all that the encoder needs.
    """
    encoder = ObservationEncoder(replicates=True, width=0)
    return MixtureWorkflow(GaussianHMM(), encoder=encoder, **kwargs)


def evidence_hmm(**kwargs) -> MixtureWorkflow:
    """The third case study's workflow, untrained; options are those of `MixtureWorkflow`.

    The non-decision time moves all response times, so the scorer has joint features.
    """
    seed = kwargs.get("seed")
    if seed is not None:  # the scorer and the summary draw their initializers' seeds here
        keras.utils.set_random_seed(seed)
    encoder = ObservationEncoder(squares=False)
    return MixtureWorkflow(
        EvidenceAccumulationHMM(),
        summary_network=SequenceSummary(encoder, num_slots=2),
        emission_scorer=EmissionScorer(2, num_joint=16),
        **kwargs,
    )


ARCHITECTURES = {
    "evidence_hmm": evidence_hmm,
    "gaussian_hmm": gaussian_hmm,
    "gaussian_mixture": gaussian_mixture,
}


def weights_folder(name: str):
    """Folder of a trained network.

    Raises
    ------
    ValueError
        If there is no network of that name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"name: expected one of {sorted(ARCHITECTURES)}, got {name!r}.")
    return files("abmtools.inference") / "weights" / name


def load_card(name: str) -> dict:
    """The card of a trained network, as a dictionary."""
    return json.loads((weights_folder(name) / "card.json").read_text())


def load_pretrained(name: str) -> MixtureWorkflow:
    """Load a trained network.

    Parameters
    ----------
    name : {"gaussian_mixture", "gaussian_hmm", "evidence_hmm"}

    Returns
    -------
    MixtureWorkflow
        Ready to `sample`; its card is the attribute ``card``.

    Raises
    ------
    ValueError
        If the name is unknown, or the weights file is corrupted or not the one of the card.
    FileNotFoundError
        If the weights file is missing.

    Examples
    --------
    >>> from abmtools import load_pretrained
    >>> workflow = load_pretrained("gaussian_mixture")
    >>> workflow.card["model"]
    'GaussianMixture'
    """
    path = weights_folder(name) / "weights.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"No weights file at {path}: reinstall abmtools, or run `make train MODEL={name}`."
        )
    card = load_card(name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"{path} is corrupted: its SHA-256 is {digest}, the card says {card['sha256']}. "
            "Reinstall abmtools."
        )
    workflow = ARCHITECTURES[name]()
    load_weights(workflow.estimator, path)
    workflow.card = card
    return workflow
