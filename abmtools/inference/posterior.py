"""The posterior: draws of theta and membership probabilities, for one data set or many.

Axes are always (dataset, sample, observation, component).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
from arviz_base import from_dict

from ..structures.categorical import draw_categorical

__all__ = ["MixturePosterior"]

INDICATOR_DIMS = {
    "membership": ("obs", "component"),
    "filtering": ("obs", "component"),
    "path": ("obs",),
    "most_probable_path": ("obs",),
}
PATH_SEED = 1  # of the paths in a DataTree, so that making one twice gives the same


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
        probability given theta_s and, in a chain, the other observations.
    log_prob_function : callable, optional
        log q(u | y) of the network that made the draws.
    filtering : array, shape (B, S, T, K), optional
        Of a chain: p(z_t = k | y_{1:t}, theta_s).
    scores : array, shape (B, S, T, K), optional
        Of a chain: scores of each time point, log p(y_t | z_t = k, theta_s) up to a constant.
    """

    model: object
    data: Mapping[str, np.ndarray]
    unconstrained: np.ndarray
    membership: np.ndarray
    log_prob_function: Callable | None = field(default=None, repr=False)
    filtering: np.ndarray | None = field(default=None, repr=False)
    scores: np.ndarray | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return (
            f"MixturePosterior({self.model.name}, num_datasets={self.num_datasets}, "
            f"num_samples={self.num_samples}, parameters={self.model.parameter_names})"
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
        return self.model.constrain(self.unconstrained)

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
        """The posterior of some of the data sets, by an index or a slice; keeps the axis B."""
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"dataset {index} is out of range for {len(self)} data sets.")
            index = slice(index % len(self), index % len(self) + 1)
        return MixturePosterior(
            model=self.model,
            data={key: value[index] for key, value in self.data.items()},
            unconstrained=self.unconstrained[index],
            log_prob_function=self.log_prob_function,
            **{name: value[index] for name, value in self._indicators.items()},
        )

    def resample(self, indices: np.ndarray) -> "MixturePosterior":
        """Keep the draws with these indices, (B, S'), of each data set: for importance resampling.

        The result has no `log_prob`: its draws no longer follow the network.
        """
        rows = np.arange(len(self))[:, None]
        return MixturePosterior(
            model=self.model,
            data=self.data,
            unconstrained=self.unconstrained[rows, indices],
            **{name: value[rows, indices] for name, value in self._indicators.items()},
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
        """Draws z ~ p(z | y), one for each draw of theta: integers (B, S, N)."""
        if self.scores is not None:
            return self.sample_paths(seed=seed)
        return draw_categorical(np.random.default_rng(seed), self.membership)

    def to_arviz(self):
        """An ArviZ ``DataTree`` with groups ``posterior`` and ``observed_data``.

        Variables are the parameters and ``membership``, for a chain also ``filtering``, a sampled
        ``path`` and the ``most_probable_path`` of each draw; dimensions are chain (one), draw,
        dataset (only for several data sets), then ``component``, ``obs`` and ``replicate``. It
        saves to NetCDF by its own ``to_netcdf``.

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
        )


def to_datatree(model, *, draws: dict, data: dict, attrs: dict):
    """Label draws {name: (chain, draw, B, ...)} of a model as an ArviZ DataTree.

    The axis B is called "dataset", and dropped where there is one data set.
    """
    single = len(data["y"]) == 1
    dims = dict(model.parameter_dims) | INDICATOR_DIMS
    dims = {name: list(dims[name] if single else ("dataset", *dims[name])) for name in draws}
    names = ["dataset", *model.observation_dims]
    dims |= {key: names[single : value.ndim] for key, value in data.items()}
    groups = {
        "posterior": {name: x[:, :, 0] if single else x for name, x in draws.items()},
        "observed_data": {key: x[0] if single else x for key, x in data.items()},
    }
    coords = {
        "component": np.arange(model.num_components),
        "obs": np.arange(data["y"].shape[1]),
    }
    return from_dict(groups, dims=dims, coords=coords, attrs={"/": attrs, "posterior": attrs})
