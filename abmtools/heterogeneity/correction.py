"""Training of a network's correction by the likelihood, on heterogeneous data.

The other networks stay as they are. So all that they and the likelihood say of a data set, its
summary, its probes and the base variables of its draws, is computed once, and what is left to train
is a small perceptron: minutes, where the networks took hours. The loss is the inconsistency of the
corrected posterior (`abmtools.inference.consistency`).
"""

from contextlib import nullcontext

import keras
import numpy as np

from ..diagnostics.draws import require_workflow
from ..inference.consistency import inconsistency
from ..inference.padding import pad_to_few_sizes
from ..models.data import KEYS
from ..models.description import describe
from ..seeds import check_seed
from .data import HeterogeneousData, centered

__all__ = ["fit_correction"]

DATASETS_AT_ONCE = 128


def fit_correction(
    workflow,
    data: HeterogeneousData,
    *,
    epochs: int = 15,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    verbose=0,
) -> dict[str, list]:
    """Train the correction of a workflow's posterior; its other networks stay as they are.

    Parameters
    ----------
    workflow : MixtureWorkflow
        Trained, and made with a ``correction``.
    data : HeterogeneousData
        Of the same model; tens of thousands of data sets.
    epochs, batch_size : int
    learning_rate : float
        Of Adam at the beginning; it falls to zero along a cosine.
    seed : int
        Of the order of the data.
    verbose : int
        As in Keras.

    Returns
    -------
    dict of str to list
        ``"loss"``, the mean inconsistency of each epoch in nats.

    Raises
    ------
    TypeError, ValueError
        If the workflow has no correction, the data are none or of another model, or a number is
        not positive. The correction is as it was then.

    Notes
    -----
    It may lead a few of the model's own data sets astray, of which a fifth of the data are: compare
    `diagnostics.gap_to_exact` and calibration before and after.

    Examples
    --------
    >>> import abmtools as abm
    >>> from abmtools.networks import LikelihoodCorrection
    >>> workflow = abm.MixtureWorkflow(
    ...     abm.GaussianHMM(), correction=LikelihoodCorrection(), seed=1
    ... )
    >>> history = workflow.fit_online(20, 20, 16, verbose=0)
    >>> data = abm.heterogeneous_data(workflow, 64, seed=1)
    >>> losses = abm.fit_correction(workflow, data, epochs=2, batch_size=16)["loss"]
    >>> len(losses)
    2
    """
    require_workflow(workflow)
    correction = getattr(workflow.estimator, "correction", None)
    if correction is None:
        raise ValueError(
            "workflow: expected one with a correction, as by "
            "MixtureWorkflow(model, correction=LikelihoodCorrection()), got one without."
        )
    if not isinstance(data, HeterogeneousData):
        raise TypeError(f"data: expected HeterogeneousData, got {type(data).__name__}.")
    expected, found = describe(workflow.model), describe(data.model)
    if found != expected:
        raise ValueError(f"data: expected those of {expected}, got those of {found}.")
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate: expected a positive number, got {learning_rate!r}.")
    seed = check_seed(seed)
    known, log_ratio = _prepare(workflow.estimator, data)
    correction.adapt(known["probes"], known["summary"])
    base = workflow.estimator.inference_network.base_distribution
    steps = epochs * -(-len(log_ratio) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    network = _Corrected(correction, base)
    network.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        loss=lambda expected, found: inconsistency(expected - found),
    )
    correction.trainable = True
    try:
        with _gradients():
            return _fit(network, known, log_ratio, epochs, batch_size, seed, verbose)
    finally:
        correction.trainable = False


class _Corrected(keras.Model):
    """log q(u | y) with the correction less that without, (B, L)."""

    def __init__(self, correction, base_distribution):
        super().__init__()
        self.correction, self.base_distribution = correction, base_distribution

    def call(self, known: dict):
        shift, log_scale = self.correction(known["probes"], known["summary"])
        return self.correction.log_ratio(self.base_distribution, known["base"], shift, log_scale)


def _fit(network, known: dict, log_ratio, epochs, batch_size, seed, verbose) -> dict[str, list]:
    """Epochs whose order is drawn from the seed, and nothing global."""
    rng, losses = np.random.default_rng(seed), []
    for epoch in range(epochs):
        order = rng.permutation(len(log_ratio))
        history = network.fit(
            {name: x[order] for name, x in known.items()}, log_ratio[order],
            batch_size=batch_size, initial_epoch=epoch, epochs=epoch + 1, shuffle=False,
            verbose=verbose,
        )  # fmt: skip
        losses += history.history["loss"]
    return {"loss": losses}


def _prepare(estimator, data: HeterogeneousData) -> tuple[dict, np.ndarray]:
    """What is known of each data set and its draws, and log p(u, y) - log q(u | y), (B, L).

    Without data sets for which that is not finite, which says that the flow is lost there.
    """
    parts = []
    for block in data.blocks:
        for start in range(0, len(block["y"]), DATASETS_AT_ONCE):
            rows = slice(start, start + DATASETS_AT_ONCE)
            part = {name: np.array(values[rows]) for name, values in block.items()}
            if keras.backend.backend() == "jax":  # which compiles anew for each size
                part = pad_to_few_sizes(part, estimator.model)
            observed = {name: part[name] for name in KEYS if name in part}
            parts.append(_describe(estimator, estimator.model.check_data(observed), part))
    known = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kept = np.logical_and.reduce(
        [np.isfinite(x.reshape(len(x), -1)).all(axis=1) for x in known.values()]
    )
    if not kept.any():
        raise ValueError("workflow: its density is not finite for any of the data; train it first.")
    known = {name: x[kept] for name, x in known.items()}
    return known, known.pop("log_ratio")


def _describe(estimator, observed: dict, part: dict) -> dict[str, np.ndarray]:
    """Probes, summaries and base variables of checked data with draws, as NumPy arrays."""
    found = estimator.describe(observed, part["draws"])
    return found | {"log_ratio": centered(part["log_joint"] - found.pop("log_q"))}


def _gradients():
    """BayesFlow switches torch's autograd off."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.enable_grad()
