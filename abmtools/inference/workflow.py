r"""The workflow: simulate, train, sample; one object that a user holds.

`MixtureWorkflow` is a BayesFlow workflow whose estimator learns both factors of
:math:`p(\theta, z \mid y)`. Its networks follow from the model's structure and shapes; every part
can be passed in.
"""

import warnings
from typing import Never

import bayesflow as bf
import keras
import numpy as np

from ..models.mixture import MixtureModel
from ..networks import (
    DirectMLP,
    EmissionScorer,
    ObservationEncoder,
    SequenceClassifier,
    SequenceSummary,
    SetSummary,
)
from ..seeds import fold_seed, seed_keras
from .adapter import make_adapter
from .dataset import ModelSimulator
from .estimator import MixtureEstimator
from .posterior import MixturePosterior
from .threads import run_in_threads
from .training import SeededTraining

__all__ = ["ExtrapolationWarning", "MixtureWorkflow"]

ROWS_PER_BATCH = 20_000  # parameter draws at a time: their flow activations stay in cache
PROBABILITIES_AT_ONCE = 1_000_000  # membership probabilities at a time, 4 MB, for the same reason
OBSERVATIONS_AT_ONCE = 50_000  # of data sets with few draws, where summaries are what fills memory
NUM_ADAPT = 256  # simulated data sets from which the encoder takes the data's location and scale


class ExtrapolationWarning(UserWarning):
    """Data lie outside the range of sizes that the networks were trained on."""


class MixtureWorkflow(SeededTraining, bf.BasicWorkflow):
    """Amortized inference for a mixture model.

    Parameters
    ----------
    model : MixtureModel
    encoder : ObservationEncoder, optional
    summary_network : SetSummary, optional
        By default a `SequenceSummary` where the order of the observations means something, else a
        `SetSummary`. Must hold the shared encoder as its ``encoder``; if given, leave `encoder`
        out.
    inference_network : bayesflow.networks.InferenceNetwork, optional
        By default a narrow coupling flow of four affine layers.
    emission_scorer : EmissionScorer, optional
    sequence_classifier : SequenceClassifier, optional
        Learns filtering and smoothing without knowing the structure, in place of a scorer. The
        default where the structure can only be simulated.
    correction : LikelihoodCorrection, optional
        Of the posterior, by a few values of the likelihood of the data at hand; none by default.
        `abmtools.fit_correction` trains it, after the other networks.
    num_scored : int, optional
        See `MixtureEstimator`.
    initial_learning_rate : float
        Peak of the cosine schedule.
    optimizer : keras.Optimizer or type, optional
        As in ``bayesflow.BasicWorkflow``, by default Adam. For long training on JAX
        `abmtools.inference.make_muon` gets further in the same time.
    checkpoint : path, optional
        File for the state of training, written atomically; ``fit_*(resume=True)`` goes on from it.
    checkpoint_every : int
        Epochs between writes.
    seed : int, optional
        Makes initial weights, training data and training repeatable on one machine; not negative.
        Keras' initializers know only the global seed, so this sets it
        (``keras.utils.set_random_seed``); without a seed nothing global is touched. Networks that
        are passed in have drawn their initializers' seeds already: call
        ``keras.utils.set_random_seed`` before making them.

    Raises
    ------
    TypeError, ValueError
        If networks do not go together or with the model, the model's simulations are not what it
        accepts, checkpoint_every is no positive integer, or the seed no non-negative one.

    Examples
    --------
    >>> from abmtools import GaussianMixture, MixtureWorkflow
    >>> workflow = MixtureWorkflow(GaussianMixture(), seed=1)
    >>> history = workflow.fit_online(epochs=1, num_batches_per_epoch=2, batch_size=4, verbose=0)
    >>> data = workflow.simulate(3, num_obs=200, num_reps=3)
    >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=10, seed=1)
    >>> posterior.membership.shape
    (3, 10, 200, 3)
    """

    def __init__(
        self,
        model,
        *,
        encoder=None,
        summary_network=None,
        inference_network=None,
        emission_scorer=None,
        sequence_classifier=None,
        correction=None,
        num_scored: int | None = 64,
        initial_learning_rate: float = 3e-3,
        optimizer=None,
        checkpoint=None,
        checkpoint_every: int = 1,
        seed: int | None = None,
    ):
        if not isinstance(model, MixtureModel):
            raise TypeError(f"model: expected a MixtureModel, got {type(model).__name__}.")
        # bf.BasicWorkflow.__init__ builds an estimator of its own kind; this sets the same state.
        seed_keras(seed)
        self._init_training(
            seed,
            initial_learning_rate=initial_learning_rate,
            optimizer=optimizer,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        self.model = model
        # NumPy pads short seeds with zeros: a fourth number keeps clear of training's three.
        self.simulator = ModelSimulator(model, (self.seed, 0, 0, 1))
        if summary_network is not None and encoder is not None:
            raise ValueError("encoder: leave it out, the summary_network holds the shared encoder.")
        if summary_network is None:
            encoder = encoder or ObservationEncoder(
                replicates=model.num_reps is not None, squares=model.observation_features is None
            )
            exchangeable = model.structure.exchangeable
            summary_network = SetSummary(encoder) if exchangeable else SequenceSummary(encoder)
        if sequence_classifier is None and not model.has_known_structure:
            sequence_classifier = SequenceClassifier(model.num_components)
        if sequence_classifier is None:
            emission_scorer = emission_scorer or EmissionScorer(model.num_components)
        self._check_classifier(emission_scorer, sequence_classifier)
        if correction is not None and not model.has_likelihood:
            raise ValueError(f"correction: expected none, {model.name} has no likelihood.")
        self.estimator = MixtureEstimator(
            model=model,
            adapter=make_adapter(model),
            summary_network=summary_network,
            inference_network=inference_network or default_flow(),
            emission_scorer=emission_scorer,
            sequence_classifier=sequence_classifier,
            correction=correction,
            num_scored=num_scored,
        )
        self._build()

    def _check_classifier(self, emission_scorer, sequence_classifier) -> None:
        """Exactly one of the two, for as many components as the model has."""
        if sequence_classifier is not None and emission_scorer is not None:
            raise ValueError("emission_scorer: leave it out where there is a sequence_classifier.")
        if sequence_classifier is not None and self.model.structure.exchangeable:
            raise ValueError(
                f"sequence_classifier: the observations of {self.model.name} have no order."
            )
        for name, network in {
            "emission_scorer": emission_scorer,
            "sequence_classifier": sequence_classifier,
        }.items():
            expected = self.model.num_components
            if network is not None and network.num_components != expected:
                raise ValueError(
                    f"{name}: expected num_components={expected} as in {self.model.name}, "
                    f"got {network.num_components}."
                )

    def _build(self) -> None:
        """Build the networks and adapt them to a first simulation."""
        rng = np.random.default_rng((self.seed, 0, 0, 2))
        simulated = self.model.simulate(NUM_ADAPT, rng=rng)
        self.model.check_simulated(simulated)
        batch = self.adapter(simulated)
        self.estimator.build_from_data(batch)
        self.estimator.summary_network.adapt(batch["summary_variables"], batch.get("summary_mask"))

    @property
    def weights(self) -> list:
        """All variables of the networks, for `abmtools.inference.save_weights`."""
        return self.estimator.weights

    def fit_offline(self, data, *args, **kwargs):
        """Train on data sets that were simulated before, as `bayesflow.BasicWorkflow.fit_offline`.

        Parameters
        ----------
        data : dict
            What `simulate_datasets` or the model's ``simulate`` returns; checked once.
        *args, **kwargs
            ``epochs``, ``batch_size``, ``validation_data``, ``resume`` and others. BayesFlow
            shuffles by NumPy's global generator, so a resumed run has another order of the data.

        Returns
        -------
        keras.callbacks.History

        Raises
        ------
        TypeError, ValueError
            See `MixtureModel.check_simulated`, and `fit_online`.
        """
        return super().fit_offline(self.check_training_data(data), *args, **kwargs)

    def check_training_data(self, data) -> dict[str, np.ndarray]:
        """Data sets with their truth, as `MixtureModel.check_simulated` accepts them."""
        return self.model.check_simulated(data)

    # --- inference -------------------------------------------------------------------------

    def _prepare_for_diagnostics(self, *args, **kwargs):
        """BayesFlow's diagnostics want an axis of variables, which scalar parameters lack."""
        samples, targets = super()._prepare_for_diagnostics(*args, **kwargs)
        return self._with_variable_axis(samples, 2), self._with_variable_axis(targets, 1)

    def _with_variable_axis(self, values, ndim: int) -> dict:
        scalars = [name for name, shape in self.model.parameter_shapes.items() if not shape]
        columns = {
            name: np.asarray(values[name])[..., None]
            for name in scalars
            if name in values and np.ndim(values[name]) == ndim
        }
        return {**values, **columns}

    def sample(
        self, *, conditions, num_samples: int = 2000, seed: int | None = None, batch_size=None
    ) -> MixturePosterior:
        """Draw from p(theta | y) and evaluate p(z | y, theta) at every draw.

        Parameters
        ----------
        conditions : dict
            ``{"y": ...}`` and masks, for one data set or a batch; see `MixtureModel.check_data`.
        num_samples : int
        seed : int, optional
            Makes the draws repeatable; not negative.
        batch_size : int, optional
            Data sets at a time; by default as many as keep activations in cache.

        Returns
        -------
        MixturePosterior

        Raises
        ------
        ValueError, TypeError
            For bad data, see `MixtureModel.check_data`, or if num_samples < 1 or the seed is no
            non-negative integer.

        Warns
        -----
        ExtrapolationWarning
            If the number of observations or replicates lies outside the training range.
        """
        if not (isinstance(num_samples, int | np.integer) and num_samples >= 1):
            raise ValueError(f"num_samples: expected a positive integer, got {num_samples!r}.")
        if not (batch_size is None or (isinstance(batch_size, int) and batch_size >= 1)):
            raise ValueError(f"batch_size: expected a positive integer, got {batch_size!r}.")
        data = self.model.check_data(conditions)
        warn_if_outside(self.model, data)
        blocks = _blocks(data, batch_size or datasets_at_once(data, ROWS_PER_BATCH, num_samples))
        if seed is not None:
            seed = keras.random.SeedGenerator(fold_seed(seed))
        draw = self.estimator.sample_unconstrained
        draws = np.concatenate([draw(_take(data, rows), num_samples, seed=seed) for rows in blocks])
        return MixturePosterior(
            model=self.model,
            data=data,
            unconstrained=draws.astype("float64"),
            log_prob_function=self.log_prob_unconstrained,
            **self._indicators(data, draws),
        )

    def _indicators(self, data: dict, u: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of the indicators at u, (B, S, D), for as many data sets as fit a cache."""
        per_dataset = u.shape[1] * data["y"].shape[1] * self.model.num_components
        first, *others = _blocks(data, datasets_at_once(data, PROBABILITIES_AT_ONCE, per_dataset))
        part = self.estimator.indicators(_take(data, first), u[first])
        if not others:
            return part
        # In the order of the part's axes in memory: otherwise each copy would rearrange them.
        found = {name: np.empty_like(x, shape=(len(u), *x.shape[1:])) for name, x in part.items()}

        def fill(rows, part):
            for name, values in part.items():
                found[name][rows] = values

        fill(first, part)
        indicators = self.estimator.indicators
        run_in_threads(lambda rows: fill(rows, indicators(_take(data, rows), u[rows])), others)
        return found

    def log_prob_unconstrained(self, data, u: np.ndarray) -> np.ndarray:
        """log q(u | y) on the unconstrained scale, (B, S), for u of shape (B, S, D).

        Raises
        ------
        TypeError, ValueError
            For bad data, see `MixtureModel.check_data`, or if u has another shape.
        """
        data = self.model.check_data(data)
        if (
            np.ndim(u) != 3
            or len(u) != len(data["y"])
            or u.shape[-1] != self.model.num_unconstrained
        ):
            raise ValueError(
                f"u: expected shape ({len(data['y'])}, S, {self.model.num_unconstrained}), "
                f"got {np.shape(u)}."
            )
        blocks = _blocks(data, datasets_at_once(data, ROWS_PER_BATCH, u.shape[1]))
        log_prob = self.estimator.log_prob_unconstrained
        parts = run_in_threads(lambda rows: log_prob(_take(data, rows), u[rows]), blocks)
        return np.concatenate(parts).astype("float64")

    def membership(self, data, parameters) -> np.ndarray:
        """Amortized p(z_i = k | y, theta), (B, S, N, K), at parameters {name: (B, S, ...)}.

        For a chain this is smoothing.

        Raises
        ------
        ValueError
            For bad data or parameters, see `MixtureModel.check_data` and `check_draws`.
        """
        return self._indicators(*self._checked(data, parameters))["membership"]

    def filtering(self, data, parameters) -> np.ndarray:
        """Amortized p(z_t = k | y_{1:t}, theta), (B, S, T, K), at parameters {name: (B, S, ...)}.

        Raises
        ------
        ValueError
            If the model's observations have no order, and as in `membership`.
        """
        if self.model.structure.exchangeable:
            raise ValueError(f"filtering: the observations of {self.model.name} have no order.")
        return self._indicators(*self._checked(data, parameters))["filtering"]

    def scores(self, data, parameters) -> np.ndarray:
        """Learned scores f_k(y_i, theta), (B, S, N, K), at parameters {name: (B, S, ...)}.

        They approximate log p(y_i | z_i = k, theta) up to a constant for each observation, so that
        only differences between components mean something; zero where an observation is masked.

        Raises
        ------
        ValueError
            If a sequence classifier takes the place of a scorer, and as in `membership`.
        """
        if self.estimator.emission_scorer is None:
            raise ValueError("scores: the networks have a sequence classifier and no scorer.")
        data, u = self._checked(data, parameters)
        per_dataset = u.shape[1] * data["y"].shape[1]
        blocks = _blocks(data, datasets_at_once(data, PROBABILITIES_AT_ONCE, per_dataset))
        scores = self.estimator.emission_scores
        return np.concatenate(
            run_in_threads(lambda rows: scores(_take(data, rows), u[rows]), blocks)
        )

    def _checked(self, data, parameters) -> tuple[dict, np.ndarray]:
        """Checked data, and u, (B, S, D), of checked parameters {name: (B, S, ...)}."""
        data = self.model.check_data(data)
        parameters = self.model.check_draws(parameters, len(data["y"]))
        return data, self.model.unconstrain(parameters, data)

    # --- what BayesFlow's workflows have, and this one has under another name ---------------

    def estimate(self, *args, **kwargs) -> Never:
        """An AttributeError: the networks give draws, whose `MixturePosterior.mean` estimates."""
        raise AttributeError(
            "estimate: this workflow has no point estimates. Use sample() and the posterior's "
            "mean(), std() or quantile()."
        )

    @staticmethod
    def samples_to_data_frame(samples: MixturePosterior):
        """`MixturePosterior.to_pandas`."""
        return samples.to_pandas()


def datasets_at_once(data: dict, limit: float = np.inf, per_dataset: int = 1) -> int:
    """How many data sets stay within a limit and within that on observations; at least one."""
    return int(max(1, min(limit // per_dataset, OBSERVATIONS_AT_ONCE // data["y"].shape[1])))


def _blocks(data: dict, size: int) -> list[slice]:
    """Blocks of so many data sets, and a last one of the rest."""
    return [slice(start, start + size) for start in range(0, len(data["y"]), size)]


def _take(data: dict, rows: slice) -> dict:
    return {name: values[rows] for name, values in data.items()}


def warn_if_outside(model, data: dict, *, stacklevel: int = 3) -> None:
    """An `ExtrapolationWarning` if checked data are smaller or larger than simulated ones."""
    observed = data["mask"].sum(axis=1) if "mask" in data else np.array([data["y"].shape[1]])
    sizes = {"observations": (observed, model.num_obs)}
    if model.num_reps is not None:
        sizes["replicates"] = (_num_replicates(data), model.num_reps)
    for what, (size, (low, high)) in sizes.items():
        if size.min() < low or size.max() > high:
            warnings.warn(
                f"{model.name}: the networks were trained on {low} to {high} {what}, "
                f"these data have {size.min()} to {size.max()}; check the result, for example "
                "with abmtools.diagnostics.importance.",
                ExtrapolationWarning,
                stacklevel=stacklevel,
            )


def _num_replicates(data: dict) -> np.ndarray:
    """Numbers of observed replicates of the observations that are not masked."""
    if "replicate_mask" not in data:
        return np.array([data["y"].shape[2]])
    return data["replicate_mask"].sum(axis=2)[data.get("mask", np.True_)].ravel()


def default_flow(depth: int = 4, width: int = 64) -> bf.networks.CouplingFlow:
    """A coupling flow of affine layers, by default four, narrow enough for a CPU.

    Its base has slightly heavier tails than a normal: one far-fetched data set then costs the loss
    a logarithm, not a square, and cannot upset training.
    """
    return bf.networks.CouplingFlow(
        depth=depth,
        base_distribution="student_t",
        subnet=DirectMLP,
        subnet_kwargs={
            "widths": (width, width),
            "activation": "silu",
            "residual": False,
            "dropout": 0.0,
        },
    )
