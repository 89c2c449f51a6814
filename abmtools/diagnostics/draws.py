"""Draws: one data set's posterior in one layout, whatever it came as.

Networks give a `MixturePosterior`, Stan gives a DataTree, and a prior is a dictionary of arrays.
Comparisons and plots take any of them, and read them through `Draws`: draws along the first axis,
and one labelled column, such as ``weights[0]``, for each scalar. Draws that carry importance
weights are resampled by them, always in the same way, so that all draws here weigh the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from xarray import DataTree

from ..inference import MixturePosterior
from ..inference.datatree import INDICATOR_DIMS
from ..models.data import MASKS
from ..structures.categorical import draw_systematic

__all__ = [
    "Draws",
    "require_posterior",
    "require_same_data",
    "require_workflow",
    "scalar_columns",
]

SEED = 1  # of resampling: the same posterior gives the same draws


@dataclass(frozen=True)
class Draws:
    """Draws of the parameters and of the membership of one data set.

    Attributes
    ----------
    parameters : dict of str to array
        ``{name: (S, ...)}``.
    membership : array, shape (S, N, K), or None
        p(z_i = k | y, theta_s), where it came with the draws.
    data : dict of str to array
        ``"y"``, (N, ...), and masks; empty where no data came with the draws.
    data_dims : tuple of str, or None
        Names of the axes of "y", such as ``("obs", "replicate")``, where they are known.
    unconstrained : array, shape (S, D), or None
        Draws on the unconstrained scale, where they are known.
    model : MixtureModel or None
    num_chains : int
        Chains that the draws come from, one after the other; independent draws are one chain.
    filtering : array, shape (S, T, K), or None
        Of a hidden Markov model: p(z_t = k | y_{1:t}, theta_s).
    path, most_probable_path : array of int, shape (S, T), or None
        Of a hidden Markov model, where a DataTree holds them.

    Examples
    --------
    >>> import numpy as np
    >>> draws = Draws.of({"weights": np.full((100, 2), 0.5), "scale": np.ones(100)})
    >>> list(draws.columns)
    ['weights[0]', 'weights[1]', 'scale']
    """

    parameters: Mapping[str, np.ndarray]
    membership: np.ndarray | None = None
    data: Mapping[str, np.ndarray] = field(default_factory=dict)
    unconstrained: np.ndarray | None = None
    model: object = None
    num_chains: int = 1
    filtering: np.ndarray | None = None
    path: np.ndarray | None = None
    most_probable_path: np.ndarray | None = None
    data_dims: tuple[str, ...] | None = None

    @classmethod
    def of(cls, posterior, argument: str = "posterior") -> "Draws":
        """Read a posterior.

        Parameters
        ----------
        posterior : MixturePosterior, DataTree, mapping of str to array, or Draws
            Of one data set. A mapping holds draws along the first axis, as a model's prior
            returns them.
        argument : str
            Name used in messages.

        Raises
        ------
        TypeError
            If it is none of these.
        ValueError
            If it holds several data sets or no draws, or a DataTree has no group ``posterior``.
        """
        if isinstance(posterior, Draws):
            return posterior
        if isinstance(posterior, MixturePosterior):
            return cls._of_posterior(posterior, argument)
        if isinstance(posterior, DataTree):
            return cls._of_tree(posterior, argument)
        if isinstance(posterior, Mapping) and posterior:
            return cls({name: np.asarray(value) for name, value in posterior.items()})
        raise TypeError(
            f"{argument}: expected a MixturePosterior, a DataTree or a dictionary of draws, "
            f"got {type(posterior).__name__}."
        )

    @classmethod
    def _of_posterior(cls, posterior: MixturePosterior, argument: str) -> "Draws":
        if len(posterior) != 1:
            raise ValueError(
                f"{argument}: expected the posterior of one data set, got {len(posterior)}; "
                f"choose one, for example {argument}[0]."
            )
        posterior = posterior.with_equal_weights(seed=SEED)
        return cls(
            parameters={name: x[0] for name, x in posterior.parameters.items()},
            membership=posterior.membership[0],
            filtering=None if posterior.filtering is None else posterior.filtering[0],
            data={name: x[0] for name, x in posterior.data.items()},
            unconstrained=posterior.unconstrained[0],
            model=posterior.model,
            data_dims=getattr(posterior.model, "observation_dims", None),
        )

    @classmethod
    def _of_tree(cls, tree: DataTree, argument: str) -> "Draws":
        if "posterior" not in tree.children:
            raise ValueError(
                f"{argument}: expected a DataTree with a group 'posterior', "
                f"got the groups {list(tree.children)}."
            )
        dataset = tree["posterior"].to_dataset()
        if not {"chain", "draw"} <= set(dataset.dims) or "dataset" in dataset.dims:
            raise ValueError(
                f"{argument}: expected the dimensions chain and draw and one data set, "
                f"got the dimensions {dict(dataset.sizes)}."
            )
        dataset = dataset.transpose("chain", "draw", ...)
        draws = {
            str(name): variable.values.reshape(-1, *variable.shape[2:])
            for name, variable in dataset.data_vars.items()
        }
        statistics = tree["sample_stats"].data_vars if "sample_stats" in tree.children else {}
        if "log_weight" in statistics:
            log_weight = statistics["log_weight"].transpose("chain", "draw").values.reshape(1, -1)
            rng = np.random.default_rng(SEED)
            chosen = draw_systematic(rng, np.exp(log_weight), log_weight.size)[0]
            draws = {name: value[chosen] for name, value in draws.items()}
        observed = tree["observed_data"].data_vars if "observed_data" in tree.children else {}
        indicators = {name: draws.pop(name, None) for name in INDICATOR_DIMS}
        return cls(
            parameters=draws,
            **indicators,
            data={str(name): variable.values for name, variable in observed.items()},
            num_chains=dataset.sizes["chain"],
            data_dims=tuple(map(str, observed["y"].dims)) if "y" in observed else None,
        )

    @property
    def num_samples(self) -> int:
        """Number of draws S."""
        return len(next(iter(self.parameters.values())))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Every scalar parameter under its label, ``{"weights[0]": (S,), ...}``."""
        return scalar_columns(self.parameters)

    def on_real_line(self, model) -> np.ndarray:
        """Draws on the unconstrained scale of a model, (S, D)."""
        if self.unconstrained is not None:
            return self.unconstrained
        parameters = {name: self.parameters[name][None] for name in model.parameter_names}
        return model.unconstrain(parameters, model.check_data(self.data) if self.data else None)[0]


def require_posterior(posterior) -> None:
    """Refuse what is no `MixturePosterior`."""
    if not isinstance(posterior, MixturePosterior):
        raise TypeError(
            "posterior: expected a MixturePosterior, as workflow.sample returns, "
            f"got {type(posterior).__name__}."
        )


def require_workflow(workflow) -> None:
    """Refuse what is no workflow: it lacks a model, as models do, or does not sample."""
    if not (hasattr(workflow, "model") and hasattr(workflow, "sample")):
        raise TypeError(f"workflow: expected a MixtureWorkflow, got {type(workflow).__name__}.")


def require_same_data(draws: Draws, other: Draws, argument: str = "reference") -> None:
    """Raise a ValueError if both hold data, and these differ where both have observed them."""
    if "y" not in draws.data or "y" not in other.data:
        return
    (y, shown), (other_y, other_shown) = map(_observed, (draws, other))
    if y.shape != other_y.shape:
        raise ValueError(
            f"{argument}: expected the posterior's data, y of shape {y.shape}, "
            f"got shape {other_y.shape}."
        )
    # Data in single and in double precision are the same.
    differs = shown & other_shown & ~np.isclose(y, other_y, rtol=1e-5, atol=1e-6, equal_nan=True)
    if differs.any():
        raise ValueError(
            f"{argument}: expected the posterior's data, got others at {np.sum(differs)} of "
            f"{differs.size} values of y."
        )


def _observed(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """y, (N, ...), and where it is observed, in the same shape."""
    y = np.asarray(draws.data["y"], dtype="float64")
    shown = np.ones(y.shape, dtype=bool)
    for name in MASKS:
        if name in draws.data:
            mask = np.asarray(draws.data[name], dtype=bool)
            shown &= mask.reshape(mask.shape + (1,) * (y.ndim - mask.ndim))
    return y, shown


def scalar_columns(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Split arrays {name: (S, ...)} into scalars {label: (S,)}; indices start at zero."""
    columns = {}
    for name, value in parameters.items():
        for index in np.ndindex(value.shape[1:]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            columns[label] = value[(slice(None), *index)]
    return columns
