"""Trained networks that ship with the package.

Each has a folder under ``weights/`` with ``weights.npz`` and ``card.json``: model, architecture,
training budget, seed, versions, losses and the measured gap to the exact answer.
``make train MODEL=...`` makes it again.

Where the environment variable ``ABMTOOLS_WEIGHTS`` names a folder, all networks are looked for
there and nowhere else. ``make book PROFILE=gpu`` trains every network into such a folder and
executes the book with it.
"""

import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path

from ..models import (
    EvidenceAccumulationHMM,
    GaussianHMM,
    GaussianLocationMixture,
    GaussianMixture,
    LeakyAccumulatorHMM,
)
from ..networks import (
    EmissionScorer,
    LikelihoodCorrection,
    ObservationEncoder,
    SequenceSummary,
    SetSummary,
)
from ..seeds import seed_keras
from .checkpoint import load_weights
from .model_comparison import MixtureComparisonWorkflow
from .workflow import MixtureWorkflow, default_flow

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

    Its networks are larger than the data of the model alone would need: those of people differ, and
    its posterior is nearer to exact there. What is still missing there a correction asks of the
    likelihood.
    """
    seed_keras(kwargs.get("seed"))  # the correction draws its initializers' seeds here
    return _speeded_decisions(
        EvidenceAccumulationHMM(),
        summary={"summary_dim": 64, "pooled_widths": (192,)},
        flow={"depth": 6, "width": 96},
        **{"correction": LikelihoodCorrection()} | kwargs,
    )


def lca_hmm(**kwargs) -> MixtureWorkflow:
    """The workflow of its counterpart without a likelihood, untrained; options as above.

    Its posterior has two parameters more, so its networks are larger.
    """
    return _speeded_decisions(
        LeakyAccumulatorHMM(),
        summary={"num_heads": 4, "summary_dim": 64, "pooled_widths": (192,)},
        flow={"depth": 6, "width": 96},
        **kwargs,
    )


def _speeded_decisions(
    model, *, summary: dict | None = None, flow: dict | None = None, **kwargs
) -> MixtureWorkflow:
    """The non-decision time moves all response times, so the scorer has joint features."""
    seed_keras(kwargs.get("seed"))  # the scorer and the summary draw their initializers' seeds here
    encoder = ObservationEncoder(squares=False)
    return MixtureWorkflow(
        model,
        summary_network=SequenceSummary(encoder, num_slots=2, **(summary or {})),
        inference_network=default_flow(**(flow or {})),
        emission_scorer=EmissionScorer(2, num_joint=16),
        **kwargs,
    )


def speeded_comparison(*, seed: int | None = None) -> MixtureComparisonWorkflow:
    """Whether controlled responses come from Wald accumulators or from leaky competing ones.

    The comparison is untrained; the networks for the parameters are those that ship.
    """
    workflows = {"wald": load_pretrained("evidence_hmm"), "leaky": load_pretrained("lca_hmm")}
    seed_keras(seed)
    return MixtureComparisonWorkflow(
        {name: workflow.model for name, workflow in workflows.items()},
        workflows=workflows,
        summary_network=SequenceSummary(ObservationEncoder(squares=False), num_slots=2),
        seed=seed,
    )


def component_count(*, seed: int | None = None) -> MixtureComparisonWorkflow:
    """The workflow that counts components from one to four, untrained.

    Five networks ship in one file, so they are narrower than by default.
    """
    models = {size: GaussianLocationMixture(size) for size in range(1, 5)}
    seeds = [None if seed is None else seed + size for size in models]
    workflows = {
        size: _location_mixture(model, own_seed)
        for (size, model), own_seed in zip(models.items(), seeds, strict=True)
    }
    seed_keras(seed)
    summary_network = SetSummary(ObservationEncoder(), summary_dim=40)
    return MixtureComparisonWorkflow(
        models, workflows=workflows, summary_network=summary_network, seed=seed
    )


def _location_mixture(model, seed: int | None) -> MixtureWorkflow:
    """One component has nothing to assign, and a posterior near a normal one."""
    seed_keras(seed)
    single = model.num_components == 1
    return MixtureWorkflow(
        model,
        summary_network=SetSummary(
            ObservationEncoder(), summary_dim=32, num_passes=2 if single else 4, pooled_widths=(64,)
        ),
        inference_network=default_flow(depth=2, width=32) if single else default_flow(),
        emission_scorer=EmissionScorer(1, rank=1, parameter_widths=()) if single else None,
        seed=seed,
    )


ARCHITECTURES = {
    "component_count": component_count,
    "evidence_hmm": evidence_hmm,
    "gaussian_hmm": gaussian_hmm,
    "gaussian_mixture": gaussian_mixture,
    "lca_hmm": lca_hmm,
    "speeded_comparison": speeded_comparison,
}


def weights_folder(name: str):
    """Folder of a trained network, in ``ABMTOOLS_WEIGHTS`` if that is set, else in the package.

    Raises
    ------
    ValueError
        If there is no network of that name.
    NotADirectoryError
        If ``ABMTOOLS_WEIGHTS`` is set and names no folder.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"name: expected one of {sorted(ARCHITECTURES)}, got {name!r}.")
    elsewhere = os.environ.get("ABMTOOLS_WEIGHTS")
    if not elsewhere:
        return files("abmtools.inference") / "weights" / name
    if not Path(elsewhere).is_dir():
        raise NotADirectoryError(
            "ABMTOOLS_WEIGHTS: expected a folder that holds one folder for each trained network, "
            f"got {elsewhere!r}. Unset it to load the networks of the package."
        )
    return Path(elsewhere) / name


def load_card(name: str) -> dict:
    """The card of a trained network, as a dictionary.

    Examples
    --------
    >>> from abmtools.inference import load_card
    >>> card = load_card("gaussian_hmm")
    >>> card["model"], card["num_obs"]
    ('GaussianHMM', [100, 100])
    """
    return json.loads((weights_folder(name) / "card.json").read_text())


def load_pretrained(name: str) -> MixtureWorkflow | MixtureComparisonWorkflow:
    """Load a trained network.

    Parameters
    ----------
    name : {"gaussian_mixture", "gaussian_hmm", "evidence_hmm", "lca_hmm", "component_count", \
"speeded_comparison"}

    Returns
    -------
    MixtureWorkflow or MixtureComparisonWorkflow
        The latter for "component_count" and "speeded_comparison". Ready to `sample`; its card is
        the attribute ``card``.

    Raises
    ------
    ValueError
        If the name is unknown, or the weights file is corrupted or not the one of the card.
    FileNotFoundError
        If the weights file is missing.
    NotADirectoryError
        If ``ABMTOOLS_WEIGHTS`` is set and names no folder.

    Notes
    -----
    The environment variable ``ABMTOOLS_WEIGHTS`` names a folder of networks that are loaded instead
    of those in the package, for example networks that you trained yourself: ``make train-all``.

    Examples
    --------
    >>> from abmtools import load_pretrained
    >>> workflow = load_pretrained("gaussian_mixture")
    >>> workflow.card["model"]
    'GaussianMixture'
    """
    path = weights_folder(name) / "weights.npz"
    if not path.is_file():
        remedy = (
            "unset ABMTOOLS_WEIGHTS" if "ABMTOOLS_WEIGHTS" in os.environ else "reinstall abmtools"
        )
        raise FileNotFoundError(
            f"No weights file at {path}: {remedy}, or run `make train MODEL={name}`."
        )
    card = load_card(name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"{path} is corrupted: its SHA-256 is {digest}, the card says {card['sha256']}. "
            "Reinstall abmtools."
        )
    workflow = ARCHITECTURES[name]()
    load_weights(workflow, path)
    workflow.card = card
    return workflow
