r"""Model comparison: which of several mixture models, and then its parameters and indicators.

.. math:: p(M, \theta, z \mid y) = p(M \mid y) \; p(\theta \mid y, M) \; p(z \mid y, \theta, M)

The last two factors are those of one `MixtureWorkflow` for each model. The first is learned by one
more network, which sees data sets simulated from models that are themselves drawn from their prior
p(M), and is trained by

.. math:: \mathcal{L} = \mathbb{E}\left[-\log q(M \mid y)\right] .

It is smallest where q is the posterior (Radev et al., 2021). No model needs a likelihood, and what
is learned is an average over all parameters: of :math:`p(M \mid y) \propto p(M) \, p(y \mid M)` the
evidence

.. math:: p(y \mid M) = \int p(y \mid \theta, M) \, p(\theta \mid M) \, d\theta

is never computed. `abmtools.diagnostics.log_marginal_likelihood` computes it, where there is a
likelihood, to compare.
"""

import warnings
from collections.abc import Mapping

import bayesflow as bf
import numpy as np

from ..models.model_choice import ModelChoice
from ..networks import ObservationEncoder, SequenceSummary, SetSummary
from ..seeds import check_seed, seed_keras
from .comparison_estimator import ComparisonEstimator
from .comparison_posterior import ComparisonPosterior
from .dataset import ModelSimulator
from .estimator import without_gradients
from .training import SeededTraining
from .workflow import (
    NUM_ADAPT,
    ExtrapolationWarning,
    MixtureWorkflow,
    datasets_at_once,
    warn_if_outside,
)

__all__ = ["MixtureComparisonWorkflow"]


class MixtureComparisonWorkflow(SeededTraining, bf.ModelComparisonWorkflow):
    """Amortized comparison of mixture models, and inference in each of them.

    Parameters
    ----------
    models : mapping of name to MixtureModel
        Names are strings, or numbers such as those of components. The models must agree about
        their data: numbers of observations and replicates, and features.
    workflows : mapping of name to MixtureWorkflow, optional
        Ready ones, of some or all of the models; the others are made.
    prior : sequence of float, optional
        Prior probabilities of the models; equal by default.
    summary_network : SetSummary, optional
        Of the network for p(M | y). By default a `SequenceSummary` where the order of the
        observations means something in any of the models, else a `SetSummary`.
    initial_learning_rate, optimizer, checkpoint, checkpoint_every
        As in `MixtureWorkflow`, for the network for p(M | y) alone.
    seed : int, optional
        As in `MixtureWorkflow`, for all networks.

    Raises
    ------
    TypeError, ValueError
        See `ModelChoice`; if a workflow has no model or another one, or the seed is no
        non-negative integer.

    Examples
    --------
    >>> from abmtools import GaussianLocationMixture, MixtureComparisonWorkflow
    >>> models = {size: GaussianLocationMixture(size, num_obs=50) for size in (1, 2)}
    >>> workflow = MixtureComparisonWorkflow(models, seed=1)
    >>> history = workflow.fit_online(
    ...     epochs=1, num_batches_per_epoch=2, batch_size=8, fit_parameters=True, verbose=0)
    >>> data = workflow.simulate(3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=10, seed=1)
    >>> posterior.probabilities.shape
    (3, 2)
    >>> posterior[2].parameters["means"].shape
    (3, 10, 2)
    """

    def __init__(
        self,
        models: Mapping,
        *,
        workflows: Mapping | None = None,
        prior=None,
        summary_network=None,
        initial_learning_rate: float = 3e-3,
        optimizer=None,
        checkpoint=None,
        checkpoint_every: int = 1,
        seed: int | None = None,
    ):
        # The parent's __init__ wants simulators and BayesFlow's data; this sets the same state.
        self.model = ModelChoice(models, prior)
        seeds = self._make_seeds(seed)
        self.workflows = self._make_workflows(workflows or {}, seeds[1:])
        seed_keras(seeds[0])
        self._init_training(
            seeds[0],
            initial_learning_rate=initial_learning_rate,
            optimizer=optimizer,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        self.simulator = ModelSimulator(self.model, (self.seed, 0, 0, 1))
        self.model_names = [str(name) for name in self.models]
        self.estimator = ComparisonEstimator(
            self.model,
            inference_network=_make_classifier(),
            summary_network=summary_network or self._make_summary(),
        )
        batch = self.model.simulate(NUM_ADAPT, rng=np.random.default_rng((self.seed, 0, 0, 2)))
        batch = self.adapter(batch)
        self.estimator.build_from_data(batch)
        self.estimator.summary_network.adapt(batch["summary_variables"], batch.get("summary_mask"))

    @property
    def models(self) -> dict:
        """The models by name."""
        return self.model.models

    @property
    def prior(self) -> np.ndarray:
        """Prior probabilities of the models, (M,)."""
        return self.model.prior

    @property
    def weights(self) -> list:
        """All variables of all networks but those that ship on their own, with a card."""
        own = (x.weights for x in self.workflows.values() if x.card is None)
        return sum(own, self.estimator.weights)

    def _make_seeds(self, seed: int | None) -> list:
        """One seed for the comparison and one for each model."""
        size = len(self.models) + 1
        if seed is None:
            return [None] * size
        states = np.random.SeedSequence(check_seed(seed)).generate_state(size)
        return [int(x) for x in states]

    def _make_workflows(self, ready: Mapping, seeds: list) -> dict:
        unknown = set(ready) - set(self.models)
        if unknown:
            raise ValueError(
                f"workflows: expected models of {list(self.models)}, got {sorted(unknown)}."
            )
        for name, workflow in ready.items():
            if workflow.model is not self.models[name]:
                raise ValueError(f"workflows[{name!r}]: expected one of models[{name!r}].")
        return {
            name: ready[name] if name in ready else MixtureWorkflow(model, seed=seed)
            for (name, model), seed in zip(self.models.items(), seeds, strict=True)
        }

    def _make_summary(self):
        first = self.model.first
        encoder = ObservationEncoder(
            replicates=first.num_reps is not None, squares=first.observation_features is None
        )
        return SetSummary(encoder) if self.model.exchangeable else SequenceSummary(encoder)

    def fit_online(
        self,
        epochs: int = 50,
        num_batches_per_epoch: int = 200,
        batch_size: int = 128,
        *,
        fit_parameters: bool = False,
        **kwargs,
    ):
        """Train p(M | y) on fresh simulations, and each model's two factors where asked to.

        Parameters
        ----------
        epochs, num_batches_per_epoch, batch_size : int
            As in `MixtureWorkflow`.
        fit_parameters : bool
            Whether to train, after p(M | y), the workflows in `workflows` in the same way. What is
            about the data of one network (``resume``, ``simulator``, ``validation_data``) cannot be
            given then: train `workflows` by their own ``fit_online``.
        **kwargs
            As in `MixtureWorkflow.fit_online`.

        Returns
        -------
        keras.callbacks.History
            ``loss``, the mean of -log q(M | y), nats. Those of the workflows are theirs.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            As in `MixtureWorkflow.fit_online`, or if an option does not go with `fit_parameters`.
        """
        for name in ("resume", "simulator", "validation_data"):
            if fit_parameters and kwargs.get(name):
                raise ValueError(f"{name}: cannot be given with fit_parameters=True.")
        sizes = {"num_batches_per_epoch": num_batches_per_epoch, "batch_size": batch_size}
        history = super().fit_online(epochs, **sizes, **kwargs)
        if fit_parameters:
            for workflow in self.workflows.values():
                workflow.fit_online(epochs, **sizes, **kwargs)
        return history

    def fit_offline(self, data, *args, **kwargs):
        """Train p(M | y) on data sets that were simulated before.

        Parameters
        ----------
        data : dict
            What `ModelChoice.simulate` returns; checked once.
        *args, **kwargs
            As in `MixtureWorkflow.fit_offline`.

        Returns
        -------
        keras.callbacks.History

        Raises
        ------
        TypeError, ValueError
            For bad data, see `MixtureModel.check_data`, or if ``"model_indices"`` are no rows of
            zeros with one one for each data set.
        """
        return super().fit_offline(self.check_training_data(data), *args, **kwargs)

    def check_training_data(self, data) -> dict[str, np.ndarray]:
        """Data sets with the model that has made each of them, (B, M)."""
        checked = self._check_data(data)
        if "model_indices" not in data:
            raise ValueError(f"data: expected 'model_indices', got {sorted(data)}.")
        indices, expected = np.asarray(data["model_indices"]), (len(checked["y"]), len(self.models))
        if indices.shape != expected or not np.isin(indices, (0, 1)).all():
            raise ValueError(
                f"data['model_indices']: expected zeros and ones of shape {expected}, got "
                f"{indices.dtype} of shape {indices.shape}."
            )
        if not np.all(indices.sum(axis=1) == 1):
            raise ValueError("data['model_indices']: expected a single one in each row.")
        return {**data, **checked}

    def estimate(self, *, conditions: Mapping, merge_scores: bool = True) -> dict[str, np.ndarray]:
        """Posterior probabilities of the models.

        Parameters
        ----------
        conditions : dict
            ``{"y": ...}`` and masks, for one data set or a batch; see `MixtureModel.check_data`.
        merge_scores : bool
            What BayesFlow's diagnostics ask for; there is one score only.

        Returns
        -------
        dict
            ``"model_probs"``, ``"log_odds"`` against the first model, and ``"log_bayes_factors"``,
            which leave the models' prior out; each (B, M). Under another prior:
            `ComparisonPosterior.with_prior`.

        Raises
        ------
        TypeError, ValueError
            For bad data, see `MixtureModel.check_data`.

        Warns
        -----
        ExtrapolationWarning
            If the number of observations or replicates lies outside the training range.

        Notes
        -----
        One of the models comes out best of data, too, that none of them could have made: times in
        milliseconds instead of seconds, for instance. `abmtools.diagnostics.misspecification` of
        this workflow finds such data.
        """
        if not merge_scores:
            raise ValueError(f"merge_scores: expected True, got {merge_scores!r}.")
        data = self._check_data(conditions)
        warn_if_outside(self.model, data)
        return self._estimate(data)

    def _check_data(self, conditions) -> dict[str, np.ndarray]:
        """Data as every model accepts them, without their truth."""
        if isinstance(conditions, Mapping):  # BayesFlow's diagnostics pass the truth along
            conditions = {key: x for key, x in conditions.items() if key != "model_indices"}
        return self.model.check_data(conditions)

    @without_gradients
    def _estimate(self, data: dict) -> dict[str, np.ndarray]:
        size, found = datasets_at_once(data), []
        for start in range(0, len(data["y"]), size):
            part = {key: value[start : start + size] for key, value in data.items()}
            found.append(self.estimator.estimate(conditions=part, model_prior=self.prior))
        return {name: np.concatenate([x[name] for x in found]) for name in found[0]}

    def sample(
        self, *, conditions: Mapping, num_samples: int = 2000, seed: int | None = None
    ) -> ComparisonPosterior:
        """Probabilities of the models, and draws from the posterior of each.

        Parameters
        ----------
        conditions : dict
            As in `estimate`.
        num_samples : int
            Draws from each model.
        seed : int, optional
            Makes the draws repeatable.

        Returns
        -------
        ComparisonPosterior

        Raises
        ------
        TypeError, ValueError
            As in `estimate`, or if num_samples < 1.

        Warns
        -----
        ExtrapolationWarning
            As in `estimate`.
        """
        data = self._check_data(conditions)
        warn_if_outside(self.model, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExtrapolationWarning)  # said once
            posteriors = {
                name: workflow.sample(conditions=data, num_samples=num_samples, seed=seed)
                for name, workflow in self.workflows.items()
            }
        probabilities = self._estimate(data)["model_probs"].astype("float64")
        return ComparisonPosterior(
            probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
            posteriors=posteriors,
            prior=self.prior,
        )


def _make_classifier() -> bf.networks.ScoringRuleNetwork:
    """From a summary to log odds, by two hidden layers."""
    return bf.networks.ScoringRuleNetwork(
        scoring_rules={"model": bf.scoring_rules.CrossEntropyScore()},
        subnet_kwargs={"widths": (64, 64), "dropout": 0.0, "activation": "silu"},
    )
