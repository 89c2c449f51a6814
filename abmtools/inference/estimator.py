r"""The estimator: both factors of the joint posterior, trained together.

.. math:: p(\theta, z \mid y) = p(\theta \mid y) \; p(z \mid y, \theta)

A flow, conditioned on a learned summary of y, approximates the first factor; scores and the model's
structure give the second. Both are trained on simulated :math:`(\theta, z, y)` by

.. math:: \mathcal{L} = \mathbb{E}\left[-\log q(\theta \mid y)\right]
                      + \mathbb{E}\left[-\log q(z \mid y, \theta)\right] ,

the expected Kullback-Leibler divergences from the two exact factors up to constants, so each
expectation is smallest when q is the exact factor (Kucharský & Bürkner, 2025, arXiv:2501.10229).
"""

import threading

import bayesflow as bf
import keras
import numpy as np
from bayesflow.networks.helpers.standardization.standardize import Standardize
from bayesflow.utils.serialization import deserialize, serialize

from ..models.data import KEYS
from .adapter import make_adapter
from .compilation import compiled
from .consistency import inconsistency

__all__ = ["MixtureEstimator"]

NETWORKS = (
    "summary_network",
    "inference_network",
    "emission_scorer",
    "sequence_classifier",
    "correction",
)
OTHERS = 10  # weight of an inconsistency, lest noisier gradients of the other losses drown its own
FAR = 20  # prior standard deviations
REDRAWN = 64  # draws at a time to replace some of a data set
MAX_REDRAWS = 50
DRAWING = threading.Lock()  # on torch, Keras draws gamma variates from the global generator
SEQUENCES_AT_ONCE = 250  # sequences x draws at a time: the classifier's activations stay in cache


def without_gradients(function):
    """A function that keeps no graph for gradients, in whatever thread it runs.

    BayesFlow switches torch's autograd off, but only in the thread that imports it.
    """
    if keras.backend.backend() != "torch":
        return function
    import torch

    return torch.no_grad()(function)


class MixtureEstimator(bf.estimators.BasicEstimator):
    """BayesFlow estimator of p(theta | y) and p(z | y, theta).

    Parameters
    ----------
    model : MixtureModel
    adapter : bayesflow.Adapter
        See `abmtools.inference.adapter.make_adapter`.
    summary_network : SetSummary
        With the shared ``encoder``.
    inference_network : bayesflow.networks.InferenceNetwork
    emission_scorer : EmissionScorer or None
        Its scores and the model's structure give p(z | y, theta).
    sequence_classifier : SequenceClassifier, optional
        In place of a scorer: filtering and smoothing with no use of the structure.
    num_scored : int or None
        How many observations of each data set, taken from a random place, the scorer is trained
        on in a step; None for all. For exchangeable observations this is unbiased, and saves most
        of the scorer's cost; a chain is always scored as a whole.
    correction : LikelihoodCorrection, optional
        Of q(theta | y), by the likelihood. Training leaves it alone, and draws and densities have
        it; see `abmtools.heterogeneity.fit_correction`.
    **kwargs
        Passed to ``bayesflow.estimators.BasicEstimator``.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_mixture")
    >>> data = workflow.model.check_data(workflow.simulate(2, num_obs=200, num_reps=3))
    >>> u = workflow.estimator.sample_unconstrained(data, 10, seed=None)
    >>> u.shape, workflow.estimator.indicators(data, u)["membership"].shape
    ((2, 10, 5), (2, 10, 200, 3))
    """

    def __init__(
        self,
        *,
        model,
        adapter,
        summary_network,
        inference_network,
        emission_scorer,
        sequence_classifier=None,
        num_scored: int | None = 64,
        correction=None,
        **kwargs,
    ):
        super().__init__(
            adapter=adapter,
            summary_network=summary_network,
            inference_network=inference_network,
            standardize="inference_variables",
            **kwargs,
        )
        self.model = model
        self.emission_scorer = emission_scorer
        self.sequence_classifier = sequence_classifier
        self.num_scored = num_scored
        self.parameter_standardizer = Standardize(trainable=False)
        self.loss_trackers = []
        if keras.backend.backend() == "jax":  # BayesFlow averages over an epoch elsewhere only
            names = ("posterior_loss", "membership_loss")
            self.loss_trackers = [keras.metrics.Mean(name=name) for name in names]
        self.correction = correction  # last: the weights of files without one keep their places

    def __reduce__(self):
        """Pickle what it is made of: Keras knows neither models nor adapters."""
        networks = {name: serialize(getattr(self, name)) for name in NETWORKS}
        weights = [keras.ops.convert_to_numpy(variable.value) for variable in self.weights]
        return _restore, (self.model, networks, self.num_scored, weights)

    @property
    def encoder(self):
        """The observation encoder that both factors share."""
        return self.summary_network.encoder

    def build(self, data_shapes):
        """Build all networks from the shapes of an adapted batch."""
        if self.built:
            return
        super().build(data_shapes)
        space = self.model.space
        constrained = sum(shape[0] if shape else 1 for shape in space.shapes.values())
        self.parameter_standardizer.build((None, constrained + len(space.bounded)))
        codes = self.encoder.compute_output_shape(data_shapes["summary_variables"])
        codes = (*codes[:-1], codes[-1] - self.model.num_dataset_features)
        classifier = self.sequence_classifier or self.emission_scorer
        classifier.build(codes, (codes[0], 1, constrained + self.model.num_unconstrained))
        if self.correction is not None:
            summary = self.summary_network.compute_output_shape(data_shapes["summary_variables"])
            self.correction.build((None, 2 * self.model.num_unconstrained), summary)
            self.correction.trainable = False

    # --- training --------------------------------------------------------------------------

    def compute_metrics(
        self,
        inference_variables,
        summary_variables,
        indicators,
        summary_mask=None,
        bounds=None,
        others=None,
        stage: str = "training",
    ) -> dict:
        """The loss and its two parts for an adapted batch.

        Parameters
        ----------
        others : dict of str to tensor, optional
            Data sets without parameters of their own, see `inconsistency`; ten times this is a part
            of the loss then.

        Returns
        -------
        dict
            ``"loss"``; ``"posterior_loss"``, per data set and on the standardized scale;
            ``"membership_loss"``, per observation, both in nats.
        """
        metrics = super().compute_metrics(
            inference_variables, summary_variables=summary_variables, summary_mask=summary_mask,
            stage=stage,
        )  # fmt: skip
        per_dataset, per_observation = self.membership_loss(
            inference_variables, summary_variables, indicators, summary_mask, bounds, stage=stage
        )
        for tracker, value in zip(
            self.loss_trackers, (metrics["loss"], per_observation), strict=False
        ):
            tracker.update_state(value)
        loss = metrics["loss"] + per_dataset
        if others is not None:
            loss = loss + OTHERS * keras.ops.mean(self.inconsistency(others))
        return {
            "loss": loss,
            "posterior_loss": metrics["loss"],
            "membership_loss": per_observation,
        }

    def inconsistency(self, adapted: dict):
        """How much log p(u, y) - log q(u | y) varies over the draws u of each data set, (B,).

        Parameters
        ----------
        adapted : dict of str to tensor
            Data, with ``"draws"`` u, (B, L, D), and ``"log_joint"``, (B, L), log p(u, y) there.
        """
        mask = adapted.get("summary_mask")
        summary = self.summary_network(adapted["summary_variables"], mask=mask, training=False)
        _, log_q = self.to_base(summary, adapted["draws"])
        return inconsistency(adapted["log_joint"] - log_q)

    def membership_loss(self, u, observations, z, mask, bounds=None, *, stage: str):
        """-log q(z | y, theta), per data set and per observation.

        Of a sequence classifier, the mean of the losses of filtering and of smoothing.
        """
        parameters = self.constrain(u, bounds)
        if self.sequence_classifier is not None:
            return self._sequence_loss(u, parameters, observations, z, mask, stage=stage)
        size = observations.shape[1]
        if mask is None:
            mask = keras.ops.ones(observations.shape[:2])
        mask = keras.ops.cast(mask, u.dtype)
        observed = keras.ops.sum(mask, axis=-1)
        exchangeable = self.model.structure.exchangeable
        if stage == "training" and exchangeable and (self.num_scored or size) < size:
            chosen, is_new = self._choose(mask)
            observations, z, mask = (_take(x, chosen) for x in (observations, z, mask))
            mask = mask * is_new
        scores = self.scores(observations, u, parameters, stage=stage)
        log_prob = self.model.structure.log_prob(z, scores, parameters, mask)
        scored = keras.ops.maximum(keras.ops.sum(mask, axis=-1), 1.0)
        per_dataset = -keras.ops.mean(log_prob * observed / scored)
        return per_dataset, per_dataset / keras.ops.maximum(keras.ops.mean(observed), 1.0)

    def _sequence_loss(self, u, parameters, observations, z, mask, *, stage: str):
        """Cross-entropies of filtering and smoothing, from the first to the last observation."""
        features = self.parameter_features(u, parameters, stage=stage)
        codes = self.codes(observations)
        both = self.sequence_classifier(codes, features[:, None], mask=mask)
        if mask is None:
            mask = keras.ops.ones(observations.shape[:2])
        weights = _between(keras.ops.cast(mask, u.dtype))
        z = keras.ops.cast(z, "int32")[..., None]
        total = sum(
            keras.ops.sum(weights * keras.ops.take_along_axis(x[:, 0], z, axis=-1)[..., 0])
            for x in both
        )
        observed = keras.ops.sum(weights)
        per_observation = -total / (2 * keras.ops.maximum(observed, 1.0))
        return per_observation * observed / observations.shape[0], per_observation

    def _choose(self, mask):
        """`num_scored` observed ones of each data set: indices, and whether each is a new one.

        Cyclically, from a random one on; where there are fewer, the first ones come again.
        """
        observed = keras.ops.sum(mask, axis=-1, keepdims=True)
        observed = keras.ops.maximum(keras.ops.cast(observed, "int32"), 1)
        missing = keras.ops.cast(mask == 0, "int32")
        order = keras.ops.argsort(missing, axis=-1)  # keeps the order of the observed ones
        steps = keras.ops.arange(self.num_scored, dtype="int32")[None]
        start = keras.random.uniform((), seed=self.seed_generator)
        start = keras.ops.cast(start * keras.ops.cast(observed, "float32"), "int32")
        chosen = keras.ops.take_along_axis(order, (start + steps) % observed, axis=1)
        return chosen, keras.ops.cast(steps < observed, mask.dtype)

    def scores(self, observations, u, parameters, *, stage: str = "inference"):
        """Scores f_k(y_i, theta) for one parameter vector (B, D) per data set: (B, N, K)."""
        features = self.parameter_features(u, parameters, stage=stage)
        return self.emission_scorer(self.codes(observations), features[:, None])[:, 0]

    def codes(self, observations):
        """What the classifier sees of each observation on its own, (B, N, E)."""
        codes = self.encoder(observations)
        return codes[..., : codes.shape[-1] - self.model.num_dataset_features]

    def constrain(self, u, bounds=None):
        """Parameters of u, with the adapter's bounds of those that have some."""
        names = self.model.space.bounded
        bounds = {name: bounds[:, i] for i, name in enumerate(names)}
        return self.model.space.constrain(u, bounds)

    def parameter_features(self, u, parameters, *, stage: str = "inference"):
        """What the scorer sees of theta: standardized, on both scales, (..., P).

        Where a bound depends on the data, so does that coordinate of u, and what comes later
        would get into the scores of a chain, and so into its filtering. There the second scale is
        the parameter's logarithm.
        """
        space = self.model.space
        columns = [
            parameters[name] if shape else parameters[name][..., None]
            for name, shape in space.shapes.items()
        ]
        logs = [keras.ops.log(parameters[name][..., None]) for name in space.bounded]
        u = self.standardizer.maybe_standardize(u, key="inference_variables")
        if logs:
            free = np.repeat([x not in space.bounded for x in space.names], [*space.sizes.values()])
            u = keras.ops.take(u, np.flatnonzero(free), axis=-1)
        constrained = keras.ops.concatenate([*columns, *logs], axis=-1)
        return keras.ops.concatenate(
            [u, self.parameter_standardizer(constrained, stage=stage)], axis=-1
        )

    # --- inference -------------------------------------------------------------------------

    @without_gradients
    def sample_unconstrained(
        self, conditions: dict, num_samples: int, *, seed, strict: bool = True
    ) -> np.ndarray:
        """Draws u ~ q(u | y), shape (B, num_samples, D), for checked data.

        A flow that is inverted far out in its tails may blow up: rarely, draws are numbers like
        1e20. Draws more than `FAR` prior standard deviations from the prior mean, where the prior
        has no mass, are drawn again. Where draws stay there, that is an error if `strict`; else
        all draws of such a data set are NaN.

        Raises
        ------
        ValueError
            If draws stay there.
        """
        known = self._known(conditions)
        draws = self._draw_standardized(known, num_samples, seed)
        for _ in range(MAX_REDRAWS):
            far = _is_far(draws)
            affected = np.flatnonzero(far.any(axis=1))
            if not affected.size:
                break
            padded = np.resize(affected, 1 << (affected.size - 1).bit_length())  # to few sizes
            again = self._draw_standardized([x[padded] for x in known], REDRAWN, seed)
            for row, fresh in zip(affected, again[: affected.size], strict=True):
                where, fresh = np.flatnonzero(far[row]), fresh[~_is_far(fresh)]
                size = min(len(where), len(fresh))
                draws[row, where[:size]] = fresh[:size]
        else:
            draws[affected] = np.nan
        if strict and np.isnan(draws).any():
            raise ValueError(
                f"sample: draws for {affected.size} of {len(draws)} data sets are more than {FAR} "
                "prior standard deviations away; the networks are not trained, or the data are "
                "unlike all simulated ones."
            )
        return keras.ops.convert_to_numpy(self._rescale(draws))

    @compiled
    def _summarize(self, adapted: dict):
        """Summaries of adapted data, (B, P)."""
        return self.summary_network(
            adapted["summary_variables"], mask=adapted.get("summary_mask"), training=False
        )

    def _known(self, conditions: dict) -> list:
        """Of checked data all that the flow knows: (B, P) and, corrected, (B, D) twice."""
        summary = self._summarize(self.adapter(conditions, strict=False))
        if self.correction is None:
            return [summary]
        return [summary, *self._correct(self.probe(conditions, summary), summary)]

    def probe(self, conditions: dict, summary) -> np.ndarray:
        """Probes of the likelihood, (B, 2D), for checked data with their summaries.

        See `abmtools.networks.likelihood_correction`.
        """
        from ..diagnostics.exact import log_posterior  # whose package imports this one

        u, log_q = (keras.ops.convert_to_numpy(x) for x in self._at_points(summary))
        possible = np.isfinite(u).all(axis=-1) & np.isfinite(log_q)
        u = np.where(possible[..., None], u, 0.0).astype("float64")
        with np.errstate(over="ignore", invalid="ignore"):  # a point may be far from everything
            log_p = log_posterior(self.model, conditions, u)
            return self.correction.probes(np.where(possible, log_p - log_q, -np.inf))

    @without_gradients
    def describe(self, conditions: dict, u: np.ndarray) -> dict[str, np.ndarray]:
        """What a correction is trained on, for checked data and draws u, (B, S, D).

        Returns
        -------
        dict
            ``"summary"``, (B, P), ``"probes"``, (B, 2D), ``"base"``, base variables of u, and
            ``"log_q"``, log q(u | y) without a correction, (B, S).
        """
        summary = self._summarize(self.adapter(conditions, strict=False))
        base, log_q = self._to_base(summary, u.astype("float32"))
        found = {"summary": summary, "base": base, "log_q": log_q}
        found = {name: keras.ops.convert_to_numpy(x) for name, x in found.items()}
        return found | {"probes": self.probe(conditions, summary)}

    @compiled
    def _to_base(self, summary, u) -> tuple:
        """`to_base` of numbers u."""
        return self.to_base(summary, keras.ops.convert_to_tensor(u))

    @compiled
    def _at_points(self, summary) -> tuple:
        """Where the flow takes the points of the base space, (B, 2D + 1, D), and log q there.

        Up to a constant for each data set.
        """
        points = keras.ops.convert_to_tensor(self.correction.points(self.model.num_unconstrained))
        points = keras.ops.repeat(points[None], summary.shape[0], axis=0)
        draws, log_q = self._from_base(summary, points, density=True)
        return self._rescale_here(draws), log_q

    @compiled
    def _correct(self, probes, summary) -> list:
        """Shift and log scale of the base variable, (B, D) each."""
        return self.correction(keras.ops.convert_to_tensor(probes), summary)

    def _draw_standardized(self, known: list, num_samples: int, seed) -> np.ndarray:
        seed = self.inference_network.seed_generator if seed is None else seed
        with DRAWING:
            draws = self._draw(*known, num_samples=num_samples, seed=seed)
        return np.array(keras.ops.convert_to_numpy(draws))

    @compiled
    def _draw(self, summary, *correction, num_samples: int, seed):
        """Draws from the flow, standardized: (B, S, D)."""
        if not correction:
            return self.sampler.sample(
                self.inference_network, num_samples=num_samples, conditions=summary, seed=seed
            )
        shift, log_scale = (x[:, None] for x in correction)
        base = self.inference_network.base_distribution
        base = base.sample((summary.shape[0], num_samples), seed=seed)
        return self._from_base(summary, shift + keras.ops.exp(log_scale) * base)

    def _from_base(self, summary, base, **kwargs):
        """Where the flow takes base variables (B, S, D)."""
        summary = keras.ops.repeat(summary[:, None], base.shape[1], axis=1)
        return self.inference_network(base, conditions=summary, inverse=True, **kwargs)

    @compiled
    def _rescale(self, draws):
        """Standardized draws on the unconstrained scale."""
        return self._rescale_here(keras.ops.convert_to_tensor(draws))

    def _rescale_here(self, draws):
        """The same of tensors, within a program."""
        return self.standardizer.maybe_standardize(draws, key="inference_variables", forward=False)

    @without_gradients
    def log_prob_unconstrained(self, conditions: dict, u: np.ndarray) -> np.ndarray:
        """log q(u | y) on the unconstrained scale, (B, S), at u, (B, S, D), for checked data."""
        summary, *correction = self._known(conditions)
        log_q = self._log_prob(summary, u.astype("float32"), *correction)
        return keras.ops.convert_to_numpy(log_q)

    @compiled
    def _log_prob(self, summary, u, *correction):
        """log q(u | y) at numbers u, (B, S, D), from what the flow knows."""
        base, log_q = self.to_base(summary, keras.ops.convert_to_tensor(u))
        if not correction:
            return log_q
        return log_q + self.correction.log_ratio(
            self.inference_network.base_distribution, base, *correction
        )

    @without_gradients
    def log_prob(self, data: dict, to_numpy: bool = True, **kwargs):
        """BayesFlow's log q(theta | y), (B,), of data with their parameters, with the correction.

        As there, the density is that of the constrained parameters.
        """
        found = super().log_prob(data, to_numpy=to_numpy, **kwargs)
        if self.correction is None:
            return found
        conditions = self.model.check_data({name: data[name] for name in KEYS if name in data})
        summary, *correction = self._known(conditions)
        u = keras.ops.convert_to_numpy(self.adapter(data, strict=False)["inference_variables"])
        base, _ = self._to_base(summary, u[:, None].astype("float32"))
        density = self.inference_network.base_distribution
        change = self.correction.log_ratio(density, base, *correction)[:, 0]
        return found + (keras.ops.convert_to_numpy(change) if to_numpy else change)

    def to_base(self, summary, u) -> tuple:
        """Base variables of u, (B, S, D), and log q(u | y) without a correction, (B, S).

        Of tensors, also in training.
        """
        u, log_det = self.standardizer.maybe_standardize(
            u, key="inference_variables", log_det_jac=True
        )
        summary = keras.ops.repeat(summary[:, None], u.shape[1], axis=1)
        base, log_q = self.inference_network(u, conditions=summary, density=True)
        return base, log_q + log_det

    @without_gradients
    def indicators(self, conditions: dict, u: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of the indicators at u, (B, S, D), for checked data.

        Returns
        -------
        dict
            ``"membership"``, q(z_i = k | y, theta), (B, S, N, K). For a chain, where that is
            smoothing, also ``"filtering"``, q(z_t = k | y_{1:t}, theta), and the ``"scores"`` from
            which paths are drawn, of the same shape.
        """
        adapted, u = self.adapter(conditions, strict=False), u.astype("float32")
        if self.sequence_classifier is not None:
            return self._classify(adapted, u)
        found = self._structured(adapted, u)
        return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}

    @without_gradients
    def emission_scores(self, conditions: dict, u: np.ndarray) -> np.ndarray:
        """The scorer's f_k(y_i, theta) at u, (B, S, D), for checked data: (B, S, N, K)."""
        adapted = self.adapter(conditions, strict=False)
        return keras.ops.convert_to_numpy(self._scores_at(adapted, u.astype("float32")))

    @compiled
    def _scores_at(self, adapted: dict, u):
        """Scores at (B, S) parameter vectors."""
        return self._score(adapted, u)[0]

    @compiled
    def _structured(self, adapted: dict, u) -> dict:
        """Membership, and for a chain filtering and scores, by the model's structure."""
        scores, parameters = self._score(adapted, u)
        structure = self.model.structure
        if structure.exchangeable:
            return {"membership": structure.membership(scores, parameters)}
        filtering, smoothing = structure.filtering_and_smoothing(scores, parameters)
        return {"membership": smoothing, "filtering": filtering, "scores": scores}

    def _score(self, adapted: dict, u) -> tuple:
        """Scores at (B, S) parameter vectors, and the parameters."""
        codes, features, parameters = self._represent(adapted, u)
        scores = self.emission_scorer(codes, features)
        if "summary_mask" in adapted:  # a missing observation says nothing
            scores = scores * adapted["summary_mask"][:, None, :, None]
        return scores, parameters

    def _represent(self, adapted: dict, u) -> tuple:
        """What classifiers see of observations and of parameters, and the parameters."""
        u = keras.ops.convert_to_tensor(u)
        parameters = self.constrain(u, adapted.get("bounds"))
        codes = self.codes(adapted["summary_variables"])
        return codes, self.parameter_features(u, parameters), parameters

    def _classify(self, adapted: dict, u: np.ndarray) -> dict[str, np.ndarray]:
        """Filtering and smoothing by the sequence classifier, for some sequences at a time."""
        num_datasets, num_samples = u.shape[:2]
        found = None
        rows = max(1, SEQUENCES_AT_ONCE // num_samples)
        for first in range(0, num_datasets, rows):
            some = {name: values[first : first + rows] for name, values in adapted.items()}
            for start in range(0, num_samples, SEQUENCES_AT_ONCE):
                block = np.s_[first : first + rows, start : start + SEQUENCES_AT_ONCE]
                both = [keras.ops.convert_to_numpy(x) for x in self._classified(some, u[block])]
                if found is None:
                    shape = (num_datasets, num_samples, *both[0].shape[2:])
                    found = np.empty((2, *shape), dtype=both[0].dtype)
                found[:, *block] = both
        return {"membership": found[1], "filtering": found[0]}

    @compiled
    def _classified(self, adapted: dict, u) -> list:
        """Filtering and smoothing at (B, S) parameter vectors."""
        codes, features, _ = self._represent(adapted, u)
        both = self.sequence_classifier(codes, features, mask=adapted.get("summary_mask"))
        return [keras.ops.exp(x) for x in both]


def _is_far(standardized: np.ndarray) -> np.ndarray:
    """Whether draws (..., D) are far outside the prior, or not numbers at all; (...)."""
    with np.errstate(invalid="ignore"):
        return ~np.all(np.abs(standardized) < FAR, axis=-1)


def _between(mask):
    """One from the first to the last one of a mask, (B, T), gaps included, and zero elsewhere."""
    before = keras.ops.cumsum(mask, axis=1)
    after = keras.ops.sum(mask, axis=1, keepdims=True) - before + mask
    return keras.ops.cast((before > 0) & (after > 0), mask.dtype)


def _take(x, chosen):
    """Of x, (B, N, ...), the observations with indices (B, M)."""
    chosen = keras.ops.reshape(chosen, (*chosen.shape, *(1 for _ in x.shape[2:])))
    return keras.ops.take_along_axis(x, chosen, axis=1)


def _restore(model, networks: dict, num_scored: int | None, weights: list) -> MixtureEstimator:
    """An estimator from what `MixtureEstimator.__reduce__` returns."""
    estimator = MixtureEstimator(
        model=model,
        adapter=make_adapter(model),
        num_scored=num_scored,
        **{name: deserialize(config) for name, config in networks.items()},
    )
    estimator.build_from_data(estimator.adapter(model.simulate(2, rng=np.random.default_rng(0))))
    for variable, value in zip(estimator.weights, weights, strict=True):
        variable.assign(value)
    return estimator
