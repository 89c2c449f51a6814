r"""The posterior: draws of theta and membership probabilities, for one data set or many.

Axes are always (dataset, sample, observation, component).

Draws may carry importance weights :math:`w_s`, which sum to one for each data set. Of a function h
of the parameters, or of the membership at them, the posterior mean is then

.. math:: \mathbb{E}[h \mid y] \approx \sum_s w_s \, h(\theta_s) ,

and quantiles are those of the distribution that has the mass :math:`w_s` at :math:`\theta_s`.
Draws without weights have :math:`w_s = 1 / S`, and their quantiles are interpolated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np

from ..structures.categorical import draw_categorical, draw_systematic
from .datatree import to_datatree
from .selection import select_datasets

__all__ = ["MixturePosterior"]

PATH_SEED = 1  # of the paths in a DataTree, so that making one twice gives the same
RESAMPLE_SEED = 1  # for the same reason


@dataclass(frozen=True)
class MixturePosterior:
    r"""Draws from p(theta | y) with p(z | y, theta) at each draw.

    Attributes
    ----------
    model : MixtureModel
    data : dict
        ``"y"``, (B, N, ...), and masks.
    unconstrained : array, shape (B, S, D)
        Draws on the unconstrained scale.
    membership : array, shape (B, S, N, K)
        p(z_i = k | y, theta_s); in a chain, smoothing. Where an observation is masked, its prior
        probability given theta_s and, in a chain, the other observations. Before the first and
        after the last observation of a sequence, a `SequenceClassifier` has nothing to say.
    log_prob_function : callable, optional
        log q(u | y) of the network that made the draws.
    filtering : array, shape (B, S, T, K), optional
        Of a chain: p(z_t = k | y_{1:t}, theta_s).
    scores : array, shape (B, S, T, K), optional
        Of a chain: scores of each time point, log p(y_t | z_t = k, theta_s) up to a constant.
    log_weights : array, shape (B, S), optional
        Logarithms of importance weights that sum to one for each data set, as
        `diagnostics.ImportanceResult.correct` sets them; without them all draws weigh the same.
    """

    model: object
    data: Mapping[str, np.ndarray]
    unconstrained: np.ndarray
    membership: np.ndarray
    log_prob_function: Callable | None = field(default=None, repr=False)
    filtering: np.ndarray | None = field(default=None, repr=False)
    scores: np.ndarray | None = field(default=None, repr=False)
    log_weights: np.ndarray | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        weighted = "" if self.log_weights is None else ", weighted"
        return (
            f"MixturePosterior({self.model.name}, num_datasets={self.num_datasets}, "
            f"num_samples={self.num_samples}, parameters={self.model.parameter_names}{weighted})"
        )

    @property
    def num_datasets(self) -> int:
        """Number of data sets B."""
        return self.unconstrained.shape[0]

    @property
    def num_samples(self) -> int:
        """Number of draws S per data set."""
        return self.unconstrained.shape[1]

    @cached_property
    def parameters(self) -> dict[str, np.ndarray]:
        """Draws on the model's own scale, {name: (B, S, ...)}."""
        return self.model.constrain(self.unconstrained, self.data)

    @cached_property
    def log_prob(self) -> np.ndarray:
        """log q(u_s | y) of each draw on the unconstrained scale, (B, S).

        Raises
        ------
        ValueError
            If the draws do not come from a network, for instance after loading from a file.
        """
        if self.log_prob_function is None:
            raise ValueError("log_prob: these draws come without the network that made them.")
        return self.log_prob_function(self.data, self.unconstrained)

    def __len__(self) -> int:
        return self.num_datasets

    def __getitem__(self, index) -> "MixturePosterior":
        """The posterior of some of the data sets; keeps the axis B.

        Parameters
        ----------
        index : int, slice, or list or array of int or bool
            Of the data sets. `with_equal_weights` thins their draws.

        Raises
        ------
        IndexError
            If there is no such data set.
        TypeError
            If the index is anything else.
        """
        index = select_datasets(index, len(self))
        return MixturePosterior(
            model=self.model,
            data={key: value[index] for key, value in self.data.items()},
            unconstrained=self.unconstrained[index],
            log_prob_function=self.log_prob_function,
            log_weights=None if self.log_weights is None else self.log_weights[index],
            **{name: value[index] for name, value in self._indicators.items()},
        )

    def resample(self, indices: np.ndarray) -> "MixturePosterior":
        """Keep the draws with these indices, (B, S'), of each data set: for importance resampling.

        The result has no weights and no `log_prob`: its draws no longer follow the network.
        """
        rows = np.arange(len(self))[:, None]
        return MixturePosterior(
            model=self.model,
            data=self.data,
            unconstrained=self.unconstrained[rows, indices],
            **{name: value[rows, indices] for name, value in self._indicators.items()},
        )

    def with_equal_weights(
        self, num_samples: int | None = None, *, seed: int = RESAMPLE_SEED
    ) -> "MixturePosterior":
        """Draws that all weigh the same, by systematic resampling, with replacement.

        A draw of weight w appears ``num_samples * w`` times, rounded up or down; without weights,
        evenly spaced draws are kept. Draws without weights are returned as they are if num_samples
        is not given.

        Parameters
        ----------
        num_samples : int, optional
            Draws to return; as many as there are by default.
        seed : int

        Raises
        ------
        ValueError
            If num_samples < 1.
        """
        if num_samples is None and self.log_weights is None:
            return self
        num_samples = self.num_samples if num_samples is None else num_samples
        if not (isinstance(num_samples, int | np.integer) and num_samples >= 1):
            raise ValueError(f"num_samples: expected a positive integer, got {num_samples!r}.")
        rng = np.random.default_rng(seed)
        return self.resample(draw_systematic(rng, self.weights, num_samples))

    # --- summaries ------------------------------------------------------------------------

    @property
    def weights(self) -> np.ndarray:
        """Weights of the draws, (B, S), summing to one for each data set."""
        if self.log_weights is None:
            return np.full(self.unconstrained.shape[:2], 1 / self.num_samples)
        return np.exp(self.log_weights)

    def mean(self) -> dict[str, np.ndarray]:
        """Posterior means of the parameters, {name: (B, ...)}."""
        return {name: self._mean(x) for name, x in self.parameters.items()}

    def std(self) -> dict[str, np.ndarray]:
        """Posterior standard deviations of the parameters, {name: (B, ...)}."""
        means = self.mean()
        return {
            name: np.sqrt(self._mean(np.square(x - means[name][:, None])))
            for name, x in self.parameters.items()
        }

    def quantile(self, q) -> dict[str, np.ndarray]:
        """Posterior quantiles of the parameters.

        Parameters
        ----------
        q : float or array of floats, shape (Q,)
            Between 0 and 1.

        Returns
        -------
        dict of str to array
            ``{name: (B, ...)}``, or ``{name: (Q, B, ...)}`` for several.
        """
        if self.log_weights is None:
            return {name: np.quantile(x, q, axis=1) for name, x in self.parameters.items()}
        return {
            name: np.stack(
                [
                    np.quantile(draws, q, axis=0, weights=weights, method="inverted_cdf")
                    for draws, weights in zip(x, self.weights, strict=True)
                ],
                axis=np.ndim(q),
            )
            for name, x in self.parameters.items()
        }

    def mean_membership(self) -> np.ndarray:
        """p(z_i = k | y), (B, N, K): membership, averaged over the posterior of theta."""
        return self._mean(self.membership)

    def mean_smoothing(self) -> np.ndarray:
        """p(z_t = k | y_{1:T}) of a chain, (B, T, K): another name of `mean_membership`.

        Raises
        ------
        ValueError
            If the model's observations have no order.
        """
        return self._mean(self.smoothing)

    def mean_filtering(self) -> np.ndarray:
        """p(z_t = k | y_{1:t}, theta) of a chain, averaged over theta given all data: (B, T, K).

        Raises
        ------
        ValueError
            If the model's observations have no order.
        """
        self._require_chain("mean_filtering", filtering=True)
        return self._mean(self.filtering)

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Weighted mean over the draws of x, (B, S, ...), in double precision."""
        if self.log_weights is None:
            return x.mean(axis=1, dtype="float64")
        return np.stack(
            [np.tensordot(w, draws, axes=1) for w, draws in zip(self.weights, x, strict=True)]
        )

    @property
    def _indicators(self) -> dict[str, np.ndarray]:
        """What there is of membership, filtering and scores."""
        names = ("membership", "filtering", "scores")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    # --- indicators -----------------------------------------------------------------------

    @property
    def smoothing(self) -> np.ndarray:
        """p(z_t = k | y_{1:T}, theta_s) of a chain, (B, S, T, K): another name of membership.

        Raises
        ------
        ValueError
            If the model's observations have no order.
        """
        self._require_chain("smoothing", filtering=True)
        return self.membership

    def sample_paths(self, *, seed: int) -> np.ndarray:
        """Draws z_{1:T} ~ p(z | y, theta_s) of a chain, one path per draw of theta: (B, S, T).

        Neighbours of a path depend on each other as in the posterior, so that any function of the
        states, such as the number of switches, can be computed path by path.

        Raises
        ------
        ValueError
            If the model is no Markov chain, or the draws come without scores.
        """
        self._require_chain("sample_paths")
        rng = np.random.default_rng(seed)
        return self.model.structure.draw(self.scores, self.parameters, self._mask, rng=rng)

    def most_probable_path(self) -> np.ndarray:
        """The most probable path of a chain given each draw of theta, (B, S, T).

        Raises
        ------
        ValueError
            If the model is no Markov chain, or the draws come without scores.
        """
        self._require_chain("most_probable_path")
        structure = self.model.structure
        path = structure.most_probable_path(self.scores, self.parameters, self._mask)
        return keras.ops.convert_to_numpy(path).astype(int)

    @property
    def _mask(self) -> np.ndarray | None:
        return self.data["mask"][:, None] if "mask" in self.data else None

    def _require_chain(self, name: str, *, filtering: bool = False) -> None:
        if (self.filtering if filtering else self.scores) is None:
            needed = "ordered observations" if filtering else "a Markov structure and a scorer"
            raise ValueError(f"{name}: expected draws from a network with {needed}, got {self!r}.")

    def draw_indicators(self, *, seed: int) -> np.ndarray:
        """Draws z ~ p(z | y, theta_s), one for each draw of theta: integers (B, S, N).

        They have the weights of these draws, if there are any. Where a `SequenceClassifier` knows
        single states only, each is drawn on its own from its smoothing probability.
        """
        if self.scores is not None:
            return self.sample_paths(seed=seed)
        return draw_categorical(np.random.default_rng(seed), self.membership)

    def to_arviz(self):
        """An ArviZ ``DataTree`` with groups ``posterior`` and ``observed_data``.

        Variables are the parameters and ``membership``, for a chain also ``filtering``, a sampled
        ``path`` and the ``most_probable_path`` of each draw; dimensions are chain (one), draw,
        dataset (only for several data sets), then ``component``, ``obs`` and ``replicate``. It
        saves to NetCDF by its own ``to_netcdf``. Draws with weights have a further group
        ``sample_stats`` with ``log_weight``, (chain, draw[, dataset]); ArviZ' own functions leave
        it alone, except that ``arviz.extract`` resamples by weights that it is given.

        Returns
        -------
        xarray.DataTree
        """
        draws = self.parameters | {"membership": self.membership}
        if self.filtering is not None:
            draws["filtering"] = self.filtering
        if self.scores is not None:
            draws["path"] = self.sample_paths(seed=PATH_SEED)
            draws["most_probable_path"] = self.most_probable_path()
        return to_datatree(
            self.model,
            draws={name: np.moveaxis(x, 0, 1)[None] for name, x in draws.items()},
            data=self.data,
            attrs={"inference_library": "abmtools"},
            log_weights=None if self.log_weights is None else self.log_weights.T[None],
        )

    def to_pandas(self):
        """Draws of the parameters as a table, with a column for each number.

        Columns are ``stay[0]``, ``stay[1]``, ``threshold[0]`` and so on, rows are indexed by
        ``dataset`` and ``draw``. Draws with weights have a further column ``weight``.

        Returns
        -------
        pandas.DataFrame

        Examples
        --------
        >>> import abmtools as abm
        >>> workflow = abm.load_pretrained("gaussian_hmm")
        >>> data = workflow.simulate(2, num_obs=100, num_reps=3)
        >>> posterior = workflow.sample(conditions={"y": data["y"]}, num_samples=500, seed=1)
        >>> posterior.to_pandas().groupby("dataset").mean().shape
        (2, 4)
        """
        import pandas as pd

        from ..diagnostics.draws import scalar_columns

        flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in self.parameters.items()}
        columns = scalar_columns(flat)
        if self.log_weights is not None:
            columns["weight"] = self.weights.ravel()
        rows = [range(self.num_datasets), range(self.num_samples)]
        index = pd.MultiIndex.from_product(rows, names=["dataset", "draw"])
        return pd.DataFrame(columns, index=index)
