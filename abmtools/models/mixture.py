r"""A mixture model: prior x structure x emission.

.. math:: p(\theta, z, y) = p(\theta) \; p(z \mid \theta) \; \prod_i p(y_i \mid z_i, \theta)

Only the ability to simulate from the three parts is needed. Where a model also knows
:math:`\log p(y_i \mid z_i = k, \theta)`, the same `structures` functions that turn a network's
scores into membership probabilities give the exact ones, and the likelihood

.. math:: p(y \mid \theta) = \sum_z p(z \mid \theta) \prod_i p(y_i \mid z_i, \theta) .
"""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from .data import KEYS, ObservedData, require_truth
from .names import check_names
from .parameters import ParameterSpace
from .probe import probe_data, probe_emission, probe_features, probe_prior

__all__ = ["MixtureModel"]


class MixtureModel:
    r"""A finite mixture from which data can be simulated.

    Parameters
    ----------
    prior : callable
        ``prior(rng, batch_size)`` returns ``{name: (batch_size, ...)}``: scalars or vectors. Some
        names are taken, such as "y", "draw" and "membership".
    structure : Independent, Markov or Simulated
        How the indicators depend on each other.
    emission : callable
        ``emission(rng, parameters, z)`` returns ``{"y": (B, N)}``, ``(B, N, D)`` or, when
        `num_reps` is given, ``emission(rng, parameters, z, num_reps)`` returns ``(B, N, R)``.
        It may add ``"mask"``, (B, N), and ``"replicate_mask"``, (B, N, R); True is observed.
    constraints : dict of str to Constraint, optional
        For example ``{"weights": abmtools.simplex, "means": abmtools.ordered}``.
    num_obs : int or (int, int)
        Observations per data set, or the inclusive range from which each batch draws one N.
    num_reps : int or (int, int), optional
        Exchangeable replicates per observation, in the same way; None means no replicate axis.
    log_prior : callable, optional
        ``log_prior(parameters)`` returns (B, S) from ``{name: (B, S, ...)}``, up to a constant;
        where models are compared, with it.
    log_emission : callable, optional
        ``log_emission(data, parameters)`` returns log p(y_i | z_i = k, theta), (B, S, N, K), from
        data ``{"y": (B, N, ...)}`` and parameters ``{name: (B, S, ...)}``.
    observation_features : callable, optional
        ``observation_features(data)`` returns what the networks see of each observation in place
        of y, (B, N, E), such as its natural statistics. Each row a function of its own observation.
    dataset_features : callable, optional
        ``dataset_features(data)``, (B, N, F): more features for the summary network alone, which
        may relate an observation to the rest of its data set. Both get data as `check_data` returns
        it, where missing observations are zero, and what they make of these is not used.
    stan_program : str or path, optional
        A Stan program (a path, or code) with the same parameter names and a matrix ``membership``.
    stan_data : callable, optional
        ``stan_data(data)`` returns the program's data block from one data set (no batch axis).
    name : str, optional
        Used in messages and checkpoints; the class name by default.

    Raises
    ------
    TypeError, ValueError
        If a part is not callable or the prior or emission returns wrong names, shapes or values;
        both are called a few times, with a generator of their own, to find that out.

    Examples
    --------
    >>> import numpy as np
    >>> from abmtools import Independent, MixtureModel, ordered, simplex
    >>> def prior(rng, batch_size):
    ...     return {"weights": rng.dirichlet([2, 2], batch_size),
    ...             "means": np.sort(rng.normal(size=(batch_size, 2)))}
    >>> def emission(rng, parameters, z):
    ...     means = np.take_along_axis(parameters["means"], z, axis=1)
    ...     return {"y": rng.normal(means, 1.0)}
    >>> model = MixtureModel(prior=prior, structure=Independent("weights"), emission=emission,
    ...                      constraints={"weights": simplex, "means": ordered}, num_obs=20)
    >>> {key: value.shape for key, value in model.simulate(5, rng=np.random.default_rng(1)).items()}
    {'weights': (5, 2), 'means': (5, 2), 'z': (5, 20), 'y': (5, 20)}
    """

    def __init__(
        self,
        *,
        prior: Callable,
        structure,
        emission: Callable,
        constraints: Mapping | None = None,
        num_obs: int | tuple[int, int] = 100,
        num_reps: int | tuple[int, int] | None = None,
        log_prior: Callable | None = None,
        log_emission: Callable | None = None,
        observation_features: Callable | None = None,
        dataset_features: Callable | None = None,
        stan_program=None,
        stan_data: Callable | None = None,
        name: str | None = None,
    ):
        for argument, value in {"prior": prior, "emission": emission}.items():
            if not callable(value):
                raise TypeError(f"{argument}: expected a callable, got {type(value).__name__}.")
        for argument, value in {"log_prior": log_prior, "log_emission": log_emission}.items():
            if not (value is None or callable(value)):
                raise TypeError(f"{argument}: expected a callable, got {type(value).__name__}.")
        if isinstance(structure, type) or not hasattr(structure, "simplex_parameters"):
            raise TypeError(
                "structure: expected a structure such as abmtools.Independent(), got "
                f"{structure if isinstance(structure, type) else type(structure).__name__}."
            )
        self.prior, self.structure, self.emission = prior, structure, emission
        self.log_prior, self.log_emission = log_prior, log_emission
        self.observation_features, self.dataset_features = observation_features, dataset_features
        self.stan_program, self.stan_data = stan_program, stan_data
        self.name = name or type(self).__name__
        self.num_obs = _range(num_obs, "num_obs")
        self.num_reps = None if num_reps is None else _range(num_reps, "num_reps")
        shapes, draws = probe_prior(prior)
        self.space = ParameterSpace(shapes, constraints or {})
        self.num_components = structure.num_components(draws)
        for name in structure.simplex_parameters:
            if self.space.constraints[name].name != "simplex":
                raise ValueError(
                    f"constraints: expected abmtools.simplex for {name!r}, which holds the "
                    f"structure's probabilities, got {self.space.constraints[name]!r}."
                )
        check_names(self)
        self.num_features, simulated = probe_emission(self)
        probe_data(self, simulated)
        self.num_dataset_features = probe_features(self, simulated)

    # --- what the model is made of ---------------------------------------------------------

    @property
    def parameter_names(self) -> list[str]:
        """Names of the parameters, in the prior's order."""
        return self.space.names

    @property
    def parameter_shapes(self) -> dict[str, tuple]:
        """Event shape of each parameter."""
        return self.space.shapes

    @property
    def parameter_dims(self) -> dict[str, tuple]:
        """ArviZ dimension names: "component" for an axis of length K."""
        return {
            name: tuple(
                "component" if size == self.num_components else f"{name}_dim_{axis}"
                for axis, size in enumerate(shape)
            )
            for name, shape in self.parameter_shapes.items()
        }

    @property
    def observation_dims(self) -> tuple[str, ...]:
        """ArviZ dimension names of one data set's "y"."""
        replicate = ("replicate",) if self.num_reps is not None else ()
        return ("obs", *replicate, "feature")[: 1 + len(replicate) + (self.num_features > 1)]

    @property
    def num_unconstrained(self) -> int:
        """Dimension D of the unconstrained space."""
        return self.space.size

    @property
    def unconstrained_names(self) -> list[str]:
        """Names of the unconstrained coordinates."""
        return self.space.unconstrained_names

    @property
    def has_likelihood(self) -> bool:
        """Whether the prior, the emission density and the structure's distribution are known."""
        known = self.log_prior is not None and self.log_emission is not None
        return known and self.has_known_structure

    @property
    def has_known_structure(self) -> bool:
        """Whether p(z | theta) is known, and not only simulated."""
        return hasattr(self.structure, "log_likelihood")

    def unconstrain(self, parameters, data=None) -> np.ndarray:
        """Parameters ``{name: (B, ..., *shape)}`` to u, (B, ..., D); see `ParameterSpace`.

        Here and in the next two functions, ``data``, a batch ``{"y": (B, N, ...)}``, is needed
        where a constraint depends on the data, and ignored elsewhere.
        """
        return self.space.unconstrain(parameters, self.space.bounds(data))

    def constrain(self, u, data=None):
        """u, (B, ..., D), to parameters; the inverse of `unconstrain`."""
        return self.space.constrain(u, self.space.bounds(data))

    def log_det_jacobian(self, parameters, data=None) -> np.ndarray:
        """``log |du / dtheta|``, shape (B, ...)."""
        return self.space.log_det_jacobian(parameters, self.space.bounds(data))

    # --- simulation ------------------------------------------------------------------------

    def simulate(
        self,
        batch_size: int,
        *,
        rng: np.random.Generator,
        num_obs: int | None = None,
        num_reps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Simulate data sets of one size.

        Parameters
        ----------
        batch_size : int
        rng : numpy.random.Generator
        num_obs, num_reps : int, optional
            Drawn from the model's ranges if not given.

        Returns
        -------
        dict
            Parameters (B, ...), ``"z"`` (B, N) and what the emission returns.

        Raises
        ------
        TypeError
            If `rng` is no generator.
        ValueError
            If num_obs or num_reps is no positive integer, or there are no replicates.
        """
        _check_generator(rng)
        parameters = self.prior(rng, batch_size)
        return parameters | self._simulate_data(
            parameters, rng=rng, num_obs=num_obs, num_reps=num_reps
        )

    def simulate_data(
        self, parameters, *, rng, num_obs: int | None = None, num_reps: int | None = None
    ) -> dict[str, np.ndarray]:
        """Simulate one data set for each parameter vector {name: (B, ...)}: ``z``, ``y``.

        Raises
        ------
        TypeError
            If `rng` is no generator.
        ValueError
            If a parameter is missing, unknown, of the wrong shape or outside its constraint, or as
            in `simulate`.
        """
        _check_generator(rng)
        checked = self.space.check(parameters)
        for name, shape in self.parameter_shapes.items():
            if checked[name].ndim != 1 + len(shape):
                raise ValueError(
                    f"parameters[{name!r}]: expected one leading axis, (B, ...), got "
                    f"{checked[name].shape}."
                )
        return self._simulate_data(parameters, rng=rng, num_obs=num_obs, num_reps=num_reps)

    def _simulate_data(self, parameters, *, rng, num_obs: int | None, num_reps: int | None) -> dict:
        """As `simulate_data`, of parameters that are the prior's or have been checked."""
        num_obs = _draw_size(rng, self.num_obs, num_obs, "num_obs")
        z = self.structure.sample(rng, parameters, num_obs)
        if self.num_reps is None:
            if num_reps is not None:
                raise ValueError(f"num_reps: {self.name} has no replicates, got {num_reps}.")
            return {"z": z} | self.emission(rng, parameters, z)
        num_reps = _draw_size(rng, self.num_reps, num_reps, "num_reps")
        return {"z": z} | self.emission(rng, parameters, z, num_reps)

    # --- exact quantities, where the model has a likelihood --------------------------------

    def check_data(self, data: Mapping) -> dict[str, np.ndarray]:
        """Validate data and add the batch axis if there is one data set without it.

        Returns
        -------
        dict
            ``"y"`` float64 (B, N, ...) and, where given, ``"mask"`` and ``"replicate_mask"``.

        Raises
        ------
        TypeError, ValueError
            See `ObservedData`.
        """
        return ObservedData(self).check(data)

    def check_simulated(self, simulated: Mapping) -> dict[str, np.ndarray]:
        """Validate simulated data sets, a batch of them with their truth.

        Returns
        -------
        dict
            Parameters (B, ...), ``"z"`` (B, N), and what `check_data` returns.

        Raises
        ------
        TypeError
            If simulated is not a mapping.
        ValueError
            If something is missing, a parameter is outside its constraint, or the data are not
            what `check_data` takes, or z is not of their shape or not 0, ..., K - 1.
        """
        require_truth(self, simulated)
        parameters = self.space.check({name: simulated[name] for name in self.parameter_names})
        data = self.check_data({key: simulated[key] for key in KEYS if key in simulated})
        z, shape = np.asarray(simulated["z"]), data["y"].shape[:2]
        if z.shape != shape or not np.all(np.isin(z, np.arange(self.num_components))):
            raise ValueError(
                f"z: expected indicators 0 to {self.num_components - 1} of shape {shape}, "
                f"got shape {z.shape} and {np.unique(z)[:5]}."
            )
        if _leading(self, parameters) != shape[:1]:
            raise ValueError(
                f"parameters: expected one vector for each of {shape[0]} data sets, "
                f"got {_leading(self, parameters)}."
            )
        return parameters | {"z": z.astype("int64")} | data

    def check_draws(self, parameters: Mapping, num_datasets: int) -> dict[str, np.ndarray]:
        """Validate draws of the parameters, {name: (B, S, ...)}, for B data sets.

        Raises
        ------
        ValueError
            If a parameter is missing, unknown or outside its constraint, or the leading axes are
            not (B, S) with at least one draw.
        """
        checked = self.space.check(parameters)
        leading = _leading(self, checked)
        if len(leading) != 2 or leading[0] != num_datasets or not leading[1]:
            raise ValueError(
                f"parameters: expected leading axes (B, S) = ({num_datasets}, S), got {leading}."
            )
        return checked

    def emission_scores(self, data: Mapping, parameters: Mapping) -> np.ndarray:
        """Exact log p(y_i | z_i = k, theta), shape (B, S, N, K); zero where y_i is masked.

        Raises
        ------
        TypeError, ValueError
            If the model has no `log_emission`, or data or parameters are not as the model has them.
        """
        if self.log_emission is None:
            raise ValueError(
                f"{self.name} has no log_emission: its emission can only be simulated."
            )
        data = self.check_data(data)
        own = {name: parameters[name] for name in self.parameter_names if name in parameters}
        parameters = self.space.check(own)
        leading = _leading(self, parameters)
        if len(leading) != 2:
            raise ValueError(f"parameters: expected leading axes (B, S), got {leading}.")
        scores = np.asarray(self.log_emission(data, parameters))
        expected = (*leading, data["y"].shape[1], self.num_components)
        if scores.shape != expected:
            raise ValueError(f"log_emission: expected shape {expected}, got {scores.shape}.")
        return np.where(data["mask"][:, None, :, None], scores, 0.0) if "mask" in data else scores

    def exact_membership(self, data: Mapping, parameters: Mapping) -> np.ndarray:
        """Exact p(z_i = k | y, theta), shape (B, S, N, K); for a chain this is smoothing."""
        self._require_structure("exact_membership")
        scores = self.emission_scores(data, parameters)
        membership = np.exp(_numpy(self.structure.log_membership(scores, parameters)))
        if np.isnan(membership).any():
            first = np.argwhere(np.isnan(membership).any(axis=-1))[0].tolist()
            raise ValueError(
                "log_emission: expected that some component makes each observation possible, but "
                f"none does at index {first} of data set, draw and observation, or it is NaN."
            )
        return membership

    def exact_filtering(self, data: Mapping, parameters: Mapping) -> np.ndarray:
        """Exact p(z_t = k | y_{1:t}, theta) of a chain, shape (B, S, T, K)."""
        if self.structure.exchangeable:
            raise ValueError(f"exact_filtering: the observations of {self.name} have no order.")
        self._require_structure("exact_filtering")
        scores = self.emission_scores(data, parameters)
        return np.exp(_numpy(self.structure.log_filtering(scores, parameters)))

    def log_likelihood(self, data: Mapping, parameters: Mapping) -> np.ndarray:
        """Exact log p(y | theta), shape (B, S)."""
        self._require_structure("log_likelihood")
        scores = self.emission_scores(data, parameters)
        mask = self.check_data(data).get("mask")
        mask = None if mask is None else mask[:, None]
        return _numpy(self.structure.log_likelihood(scores, parameters, mask))

    def _require_structure(self, what: str) -> None:
        if not self.has_known_structure:
            raise ValueError(f"{what}: the indicators of {self.name} can only be simulated.")

    def log_joint(self, data: Mapping, parameters: Mapping) -> np.ndarray:
        """log p(theta) + log p(y | theta), shape (B, S), up to a constant of the prior.

        Raises
        ------
        ValueError
            If the model has no `log_prior` or no `log_emission`.
        """
        if self.log_prior is None:
            raise ValueError(f"{self.name} has no log_prior.")
        log_likelihood = self.log_likelihood(data, parameters)  # checks the parameters
        log_prior = np.asarray(self.log_prior(parameters))
        if log_prior.shape != log_likelihood.shape:
            raise ValueError(
                f"log_prior: expected shape (B, S) = {log_likelihood.shape}, got {log_prior.shape}."
            )
        return log_prior + log_likelihood


def _range(value, argument: str) -> tuple[int, int]:
    """Normalize a size or a range of sizes."""
    limits = [value, value] if np.isscalar(value) else list(value)
    integers = all(isinstance(limit, int | np.integer) for limit in limits)
    if len(limits) != 2 or not integers or not 1 <= limits[0] <= limits[1]:
        raise ValueError(
            f"{argument}: expected a positive integer or an increasing pair of them, got {value!r}."
        )
    return int(limits[0]), int(limits[1])


def _draw_size(rng, limits: tuple[int, int], value: int | None, argument: str) -> int:
    if value is None:
        return int(rng.integers(limits[0], limits[1] + 1))
    if not (isinstance(value, int | np.integer) and value >= 1):
        raise ValueError(f"{argument}: expected one positive integer, got {value!r}.")
    return int(value)


def _check_generator(rng) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng: expected a generator such as numpy.random.default_rng(1), got {rng!r}."
        )


def _leading(model: MixtureModel, parameters: Mapping) -> tuple:
    """Leading axes (B, S) of a dictionary of parameters."""
    name = model.parameter_names[0]
    return np.shape(parameters[name])[
        : np.ndim(parameters[name]) - len(model.parameter_shapes[name])
    ]


def _numpy(x) -> np.ndarray:
    return keras.ops.convert_to_numpy(x)
