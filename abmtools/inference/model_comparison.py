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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import bayesflow as bf
import keras
import numpy as np

from ..networks import ObservationEncoder, SequenceSummary, SetSummary
from .adapter import append_observations
from .dataset import ModelSimulator
from .posterior import MixturePosterior
from .training import SeededTraining
from .workflow import NUM_ADAPT, ExtrapolationWarning, MixtureWorkflow, warn_if_outside

__all__ = ["ComparisonPosterior", "MixtureComparisonWorkflow", "ModelChoice"]

DATA = ("y", "mask", "replicate_mask")


class ModelChoice:
    """Several models of the same kind of data, one of which is drawn for each data set.

    Parameters
    ----------
    models : mapping of name to MixtureModel
        At least two.
    prior : sequence of float, optional
        Prior probabilities of the models; equal by default.

    Raises
    ------
    TypeError
        If models is not a mapping.
    ValueError
        If there are fewer than two models, they disagree about what a data set is or what networks
        see of it, or the prior has other than one positive number for each, summing to one.
    """

    def __init__(self, models: Mapping, prior=None):
        if not isinstance(models, Mapping):
            raise TypeError(
                f"models: expected a dictionary of models, got {type(models).__name__}."
            )
        if len(models) < 2:
            raise ValueError(f"models: expected at least two, got {list(models)}.")
        self.models = dict(models)
        self.first = next(iter(self.models.values()))
        self.num_obs, self.num_reps = self.first.num_obs, self.first.num_reps
        self.name = " or ".join(dict.fromkeys(model.name for model in self.models.values()))
        self.prior = check_prior(prior, len(self.models))
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Refuse models whose data sets differ in kind: that would say which model it is."""
        attributes = ("num_obs", "num_reps", "num_features", "num_dataset_features")
        data = self.first.simulate(2, rng=np.random.default_rng(0), num_obs=self.num_obs[0])
        for name, model in self.models.items():
            for attribute in attributes:
                expected, found = getattr(self.first, attribute), getattr(model, attribute)
                if found != expected:
                    raise ValueError(
                        f"models[{name!r}]: expected {attribute}={expected} as in the first "
                        f"model, got {found}."
                    )
            for attribute in ("observation_features", "dataset_features"):
                ours, theirs = (getattr(x, attribute) for x in (self.first, model))
                same = (ours is None) == (theirs is None)
                if not same or (ours and not np.array_equal(ours(data), theirs(data))):
                    raise ValueError(
                        f"models[{name!r}]: expected the {attribute} of the first model."
                    )

    @property
    def exchangeable(self) -> bool:
        """Whether the order of the observations means nothing in any model."""
        return all(model.structure.exchangeable for model in self.models.values())

    def simulate(
        self,
        batch_size: int,
        *,
        rng: np.random.Generator,
        num_obs: int | None = None,
        num_reps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Simulate data sets of one size, each from a model drawn from the prior.

        Parameters
        ----------
        batch_size : int
        rng : numpy.random.Generator
        num_obs, num_reps : int, optional
            Drawn as the first model draws them if not given.

        Returns
        -------
        dict
            ``"y"``, masks where a model has them, and ``"model_indices"``, one-hot (B, M).
        """
        sizes = self._sizes(rng, num_obs, num_reps)
        chosen = rng.choice(len(self.models), size=batch_size, p=self.prior)
        data = {"model_indices": np.eye(len(self.models), dtype="float32")[chosen]}
        for index, model in enumerate(self.models.values()):
            rows = np.flatnonzero(chosen == index)
            if rows.size:
                simulated = model.simulate(rows.size, rng=rng, **sizes)
                for key in DATA:
                    if key in simulated:
                        _put(data, key, rows, simulated[key], batch_size)
        return data

    def _sizes(self, rng, num_obs, num_reps) -> dict:
        """N and R as given, or as in a data set of the first model."""
        y = self.first.simulate(1, rng=rng, num_obs=num_obs, num_reps=num_reps)["y"]
        return {"num_obs": y.shape[1], "num_reps": None if self.num_reps is None else y.shape[2]}


def _put(data: dict, key: str, rows: np.ndarray, values: np.ndarray, batch_size: int) -> None:
    """Put values into some rows; what no model masks is observed."""
    if key not in data:
        fill = 0 if key == "y" else True
        data[key] = np.full((batch_size, *values.shape[1:]), fill, dtype=values.dtype)
    data[key][rows] = values


def check_prior(prior, num_models: int) -> np.ndarray:
    """Prior probabilities of the models, (M,), checked; equal ones for None."""
    if prior is None:
        return np.full(num_models, 1 / num_models)
    found = np.asarray(prior, dtype="float64")
    if found.shape != (num_models,) or not np.all(found > 0) or abs(found.sum() - 1) > 1e-6:
        raise ValueError(
            f"prior: expected {num_models} positive numbers that sum to one, got {prior}."
        )
    return found / found.sum()


@dataclass(frozen=True)
class ComparisonPosterior:
    """The posterior over models, and over each model's parameters and indicators.

    ``posterior[name]`` is the `MixturePosterior` of that model.

    Attributes
    ----------
    probabilities : array, shape (B, M)
        p(M | y) of each data set; columns in the order of `names`.
    posteriors : dict of name to MixturePosterior
        p(theta, z | y, M).
    prior : array, shape (M,)
        The prior probabilities that p(M | y) belongs to.
    """

    probabilities: np.ndarray
    posteriors: dict
    prior: np.ndarray

    @property
    def names(self) -> list:
        """Names of the models, in order."""
        return list(self.posteriors)

    def __getitem__(self, name) -> MixturePosterior:
        if name not in self.posteriors:
            raise KeyError(f"expected one of the models {self.names}, got {name!r}.")
        return self.posteriors[name]

    def __repr__(self) -> str:
        return f"ComparisonPosterior(models={self.names}, num_datasets={len(self.probabilities)})"

    def average(self, quantity: Callable) -> np.ndarray:
        r"""Average over the models of something that means the same in all of them.

        .. math:: \sum_M p(M \mid y) \, f_M

        Parameters
        ----------
        quantity : callable
            ``quantity(posterior)`` returns f_M, (B, ...), from a `MixturePosterior`.

        Returns
        -------
        array, shape (B, ...)

        Raises
        ------
        ValueError
            If the models' shapes differ, or the first axis is not that of the data sets.
        """
        values = [np.asarray(quantity(posterior)) for posterior in self.posteriors.values()]
        shapes = {value.shape for value in values}
        if len(shapes) > 1 or values[0].shape[:1] != self.probabilities.shape[:1]:
            raise ValueError(
                f"quantity: expected the same shape ({len(self.probabilities)}, ...) for all "
                f"models, got {sorted(shapes)}."
            )
        return np.einsum("bm,mb...->b...", self.probabilities, np.stack(values))

    def with_prior(self, prior) -> "ComparisonPosterior":
        r"""The same under other prior probabilities of the models, without any new computation.

        .. math:: p'(M \mid y) \propto p(M \mid y) \, p'(M) / p(M)

        Raises
        ------
        ValueError
            If the prior has other than one positive number for each model, summing to one.
        """
        prior = check_prior(prior, len(self.prior))
        weighted = self.probabilities * (prior / self.prior)
        weighted = weighted / weighted.sum(axis=1, keepdims=True)
        return replace(self, probabilities=weighted, prior=prior)


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
        See `ModelChoice`; if a workflow has no model or another one.

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
        if seed is not None:
            keras.utils.set_random_seed(seeds[0])
        self._init_training(
            seeds[0],
            initial_learning_rate=initial_learning_rate,
            optimizer=optimizer,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        self.simulator = ModelSimulator(self.model, (self.seed, 0, 0, 1))
        self.model_names = [str(name) for name in self.models]
        self.estimator = bf.estimators.ModelComparisonEstimator(
            inference_network=_make_classifier(),
            summary_network=summary_network or self._make_summary(),
            adapter=make_comparison_adapter(self.model),
            standardize=None,  # the encoder standardizes
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
        return [int(x) for x in np.random.SeedSequence(seed).generate_state(size)]

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
            Whether to train, after p(M | y), the workflows in `workflows` in the same way.
        **kwargs
            As in `MixtureWorkflow.fit_online`.

        Returns
        -------
        keras.callbacks.History
            ``loss``, the mean of -log q(M | y), nats. Those of the workflows are theirs.
        """
        sizes = {"num_batches_per_epoch": num_batches_per_epoch, "batch_size": batch_size}
        history = super().fit_online(epochs, **sizes, **kwargs)
        if fit_parameters:
            for workflow in self.workflows.values():
                workflow.fit_online(epochs, **sizes, **kwargs)
        return history

    def estimate(self, *, conditions: Mapping, **kwargs) -> dict[str, np.ndarray]:
        """Posterior probabilities of the models.

        Parameters
        ----------
        conditions : dict
            ``{"y": ...}`` and masks, for one data set or a batch; see `MixtureModel.check_data`.
        **kwargs
            As in ``bayesflow.ModelComparisonWorkflow.estimate``.

        Returns
        -------
        dict
            ``"model_probs"``, ``"log_odds"`` against the first model, and ``"log_bayes_factors"``,
            which leave the models' prior out; each (B, M).

        Raises
        ------
        TypeError, ValueError
            For bad data, see `MixtureModel.check_data`.

        Warns
        -----
        ExtrapolationWarning
            If the number of observations or replicates lies outside the training range.
        """
        data = self._check_data(conditions)
        warn_if_outside(self.model, data)
        return self._estimate(data, **kwargs)

    def _check_data(self, conditions) -> dict[str, np.ndarray]:
        """Data as every model accepts them."""
        if isinstance(conditions, Mapping):  # BayesFlow's diagnostics pass the truth along
            conditions = {key: x for key, x in conditions.items() if key != "model_indices"}
        checked = [model.check_data(conditions) for model in self.models.values()]
        return checked[0]

    def _estimate(self, data: dict, **kwargs) -> dict[str, np.ndarray]:
        kwargs.setdefault("model_prior", self.prior)
        return self.estimator.estimate(conditions=data, **kwargs)

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


def make_comparison_adapter(choice: ModelChoice) -> bf.Adapter:
    """The BayesFlow adapter of a `ModelChoice`: data as for its models, model as target."""
    adapter = bf.Adapter().rename("model_indices", "inference_variables")
    append_observations(adapter, choice.first)
    return adapter.keep(["inference_variables", "summary_variables", "summary_mask"])


def _make_classifier() -> bf.networks.ScoringRuleNetwork:
    """From a summary to log odds, by two hidden layers."""
    return bf.networks.ScoringRuleNetwork(
        scoring_rules={"model": bf.scoring_rules.CrossEntropyScore()},
        subnet_kwargs={"widths": (64, 64), "dropout": 0.0, "activation": "silu"},
    )
