r"""Heterogeneity: training on data sets that the model does not make, with draws that are right.

A flow that is trained on simulations minimizes
:math:`\mathbb{E}_{p(y)} \operatorname{KL}[p(\theta \mid y) \,\|\, q(\theta \mid y)]`, the average
over data sets that the *model* makes. Real data are never quite like those: people tire, learn and
look away, so that no single :math:`\theta` has made all their responses. The posterior of such data
is what it is, and NUTS finds it; a network has seen nothing like them.

But the average may be over any data sets, as long as the parameters that belong to each are draws
of *its* posterior,

.. math:: \mathbb{E}_{\tilde p(y)} \, \mathbb{E}_{p(\theta \mid y)} [-\log q(\theta \mid y)] ,

and where the model has a likelihood there are such draws for any y: the network's own, resampled by
their Pareto-smoothed importance weights, with indicators drawn from :math:`p(z \mid y, \theta)`.

The weights cannot be trusted where the network is far off, and those are the data sets to learn
from. So the proposal adapts: a multivariate t takes the mean and covariance of the weighted draws,
its own draws are weighed in turn, and so on. Bad weights :math:`w` are first made milder,
:math:`w^\beta`, with the largest :math:`\beta \le 1` that leaves a fifth of the draws in effect.
Data sets whose weights are bad to the end are left out.

Which :math:`\tilde p`? Here half the data sets are the model's own, and half heterogeneous. These
have the indicators of one :math:`\theta`, and observations from several,

.. math:: \theta^{(j)} = (1 - s) \, \theta + s \, \theta'_j , \qquad \theta'_j \sim p(\theta) ,

in turns or one after the other, by weights that are drawn, too. The spread s is uniform, and some
parameters do not vary at all. A mean of parameters has to be possible itself; for all constraints
of `abmtools` it is. Half of these data sets have strays besides: up to a tenth of the observations,
from :math:`\theta'_j` itself, or whatever else one fears in one's data.

References
----------
Bugallo, M. F., Elvira, V., Martino, L., Luengo, D., Miguez, J., & Djuric, P. M. (2017). Adaptive
importance sampling: The past, the present, and the future. IEEE Signal Processing Magazine, 34(4),
60-79.
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
sampling. Journal of Machine Learning Research, 25(72), 1-58.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import gammaln, logsumexp

from .diagnostics.importance_sampling import MIN_SAMPLES, log_ratio, weigh
from .inference.padding import pad_to_few_sizes
from .inference.simulation import make_blocks
from .jobs import run_jobs
from .models.data import KEYS
from .structures.categorical import draw_categorical, draw_systematic

__all__ = ["HeterogeneousData", "heterogeneous_data", "simulate_heterogeneous"]

MOST_SOURCES = 8  # parameter vectors behind one data set
SPREAD = 0.8  # largest share of another one's parameters
VARIES = 0.6  # probability that a parameter does
CONCENTRATION = 0.7  # of the weights of the parameter vectors: few are common, some rare
STRAYS = 0.1  # largest share of observations that have nothing to do with the rest
THRESHOLD = 0.7  # of Pareto k, below which weights are trusted
NUM_ADAPTED = 3  # proposals after the network's own
FREEDOM = 7.0  # degrees of freedom of these proposals: their tails are heavier than a posterior's
DRAWS_AT_ONCE = 20_000  # parameter draws at a time: their flow activations stay in cache


@dataclass(frozen=True)
class HeterogeneousData:
    """What simulates half of its data sets from the model and takes half from a store.

    Goes to `MixtureWorkflow.fit_online` as its ``simulator``.

    Attributes
    ----------
    model : MixtureModel
    blocks : list of dict
        Heterogeneous data sets that share N and R: ``"y"``, (B, N, ...), and masks; ``"z"``,
        (B, L, N), and parameters {name: (B, L, ...)}, L draws of each one's posterior;
        ``"log_density"``, (B, L), the logarithm of that posterior's density at the draws, on the
        unconstrained scale.
    num_rejected : int
        Data sets that were left out because of their importance weights.
    """

    model: object
    blocks: list[dict]
    num_rejected: int = 0

    def __repr__(self) -> str:
        return (
            f"HeterogeneousData({self.model.name}, num_datasets={self.num_datasets}, "
            f"num_rejected={self.num_rejected})"
        )

    @property
    def num_datasets(self) -> int:
        """Number of heterogeneous data sets."""
        return sum(len(block["y"]) for block in self.blocks)

    @property
    def num_obs(self) -> tuple[int, int]:
        """Range of N, that of the model."""
        return self.model.num_obs

    @property
    def num_reps(self) -> tuple[int, int] | None:
        """Range of R, that of the model."""
        return self.model.num_reps

    def simulate(self, batch_size: int, *, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Data sets of one size, as `MixtureModel.simulate`, each kind half of them, shuffled."""
        block = self.blocks[rng.integers(len(self.blocks))]
        num_stored = batch_size // 2
        rows = rng.integers(len(block["y"]), size=num_stored)
        draws = rng.integers(block["z"].shape[1], size=num_stored)
        sizes = {"num_obs": block["y"].shape[1]}
        if self.num_reps is not None and "replicate_mask" not in block:
            sizes["num_reps"] = block["y"].shape[2]
        fresh = self.model.simulate(batch_size - num_stored, rng=rng, **sizes)
        order = rng.permutation(batch_size)
        return {
            name: np.concatenate(
                [block[name][rows] if name in KEYS else block[name][rows, draws], values]
            )[order]
            for name, values in fresh.items()
        }

    def gap(self, workflow) -> np.ndarray:
        r"""How far a network is from exact on each of the heterogeneous data sets, in nats, (B,).

        :math:`\log p(u \mid y) - \log q(u \mid y)`, averaged over the draws of the posterior. What
        a network was trained on is no fair judge of it: take data with another seed.

        Parameters
        ----------
        workflow : MixtureWorkflow
            Of the same model.
        """
        gaps = []
        for block in self.blocks:
            data = {name: block[name] for name in KEYS if name in block}
            draws = {name: block[name] for name in self.model.parameter_names}
            u = self.model.unconstrain(draws, data)
            ratio = block["log_density"] - workflow.log_prob_unconstrained(data, u)
            gaps.append(ratio.mean(axis=1))
        return np.concatenate(gaps)


def heterogeneous_data(
    workflow,
    num_datasets: int,
    *,
    seed: int,
    block_size: int = 512,
    num_samples: int = 500,
    num_draws: int = 8,
    strays: Callable | None = None,
    executor=None,
    retries: int = 2,
    progress: bool = False,
) -> HeterogeneousData:
    """Simulate heterogeneous data sets, and draw from the posterior of each.

    Parameters
    ----------
    workflow : MixtureWorkflow
        Trained, of a model with a likelihood.
    num_datasets : int
        Some of them will be left out. Training comes back to each of them again and again, with
        other draws; tens of thousands are enough for a long training.
    seed : int
    block_size : int
        Data sets that share N and R.
    num_samples : int
        The network's draws for each data set.
    num_draws : int
        Draws of the posterior to keep of them.
    strays : callable, optional
        As of `simulate_heterogeneous`; with an executor of processes a function that they can find.
    executor : concurrent.futures.Executor or distributed.Client, optional
        What treats the blocks; see `abmtools.jobs`.
    retries : int
        How many times a block that fails is tried again.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    HeterogeneousData

    Raises
    ------
    ValueError
        If the model has no likelihood, a number is no positive integer or too small, strays have
        another shape than the observations, or no data set is left.
    JobsError
        If some blocks failed for good.

    Examples
    --------
    >>> import abmtools as abm
    >>> workflow = abm.load_pretrained("gaussian_hmm")
    >>> data = abm.heterogeneous_data(workflow, 64, seed=1)
    >>> data.num_datasets + data.num_rejected
    64
    >>> history = workflow.fit_online(
    ...     1, num_batches_per_epoch=2, batch_size=4, simulator=data, verbose=0
    ... )
    """
    blocks = make_blocks(num_datasets, block_size)
    for name, value, least in [
        ("num_samples", num_samples, MIN_SAMPLES),
        ("num_draws", num_draws, 1),
    ]:
        if not (isinstance(value, int | np.integer) and value >= least):
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}.")
    make = functools.partial(_make_block, workflow, seed, num_samples, num_draws, strays)
    jobs = {"executor": executor, "retries": retries, "progress": progress}
    blocks = run_jobs(make, blocks, **jobs, what="heterogeneous data")
    blocks = [block for block in blocks if block is not None]
    kept = sum(len(block["y"]) for block in blocks)
    if not kept:
        raise ValueError(
            f"workflow: importance weights of all {num_datasets} data sets have Pareto k above "
            f"{THRESHOLD}; train it first."
        )
    return HeterogeneousData(workflow.model, blocks, num_rejected=num_datasets - kept)


def simulate_heterogeneous(
    model,
    batch_size: int,
    *,
    rng: np.random.Generator,
    spread: float = SPREAD,
    strays: Callable | None = None,
) -> dict[str, np.ndarray]:
    """Data sets whose observations come from several parameter vectors.

    Parameters
    ----------
    model : MixtureModel
    batch_size : int
    rng : numpy.random.Generator
    spread : float
        Largest spread s, between 0 and 1. With a spread of zero there are no strays, either.
    strays : callable, optional
        ``strays(data, rng=rng)`` makes what each observation of simulated data could have been
        instead, had it strayed, (B, N, ...). The strays of half the data sets that have some are
        then of this kind. `EvidenceAccumulationHMM.lapses` is such a function.

    Returns
    -------
    dict
        ``"y"``, (B, N, ...), and masks. There are no parameters: none has made them.

    Raises
    ------
    ValueError
        If the spread is not between 0 and 1, or strays have another shape than the observations.
    """
    if not 0 <= spread <= 1:
        raise ValueError(f"spread: expected a share in [0, 1], got {spread}.")
    theta = model.prior(rng, batch_size)
    base = model.simulate_data(theta, rng=rng)
    replicates = () if model.num_reps is None else (base["y"].shape[2],)
    size = rng.uniform(0, spread, batch_size)
    varies = {name: rng.random(batch_size) < VARIES for name in theta}
    share = rng.uniform(-STRAYS, STRAYS, batch_size) if spread else np.zeros(batch_size)
    near, far = [], []
    for _ in range(rng.integers(2, MOST_SOURCES + 1)):
        other = model.prior(rng, batch_size)
        mean = {
            name: _mean(values, other[name], size * varies[name]) for name, values in theta.items()
        }
        near.append(model.emission(rng, mean, base["z"], *replicates)["y"])
        far.append(model.emission(rng, other, base["z"], *replicates)["y"])
    chosen = _choose_sources(rng, len(near), base["z"].shape)
    stray = rng.random(base["z"].shape) < share[:, None]
    chosen, stray = (x.reshape(*x.shape, *[1] * (base["y"].ndim - 2)) for x in (chosen, stray))
    near, far = (np.take_along_axis(np.stack(y), chosen[None], axis=0)[0] for y in (near, far))
    if strays is not None:
        others = _make_strays(strays, base | {"y": near}, rng)
        far = np.where(rng.random((batch_size, *[1] * (far.ndim - 1))) < 0.5, far, others)
    y = np.where(stray, far, near)
    if "replicate_mask" in base:
        observed = base["replicate_mask"]
        y = y * observed.reshape(*observed.shape, *[1] * (y.ndim - observed.ndim))
    return {name: values for name, values in base.items() if name in KEYS} | {"y": y}


def _mean(values: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between two parameter vectors, (B, ...), by a share of the other one, (B,)."""
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (1 - share) * values + share * others


def _make_strays(strays: Callable, data: dict, rng: np.random.Generator) -> np.ndarray:
    """What the user's function makes of the data, if it has their shape."""
    made = np.asarray(strays(data, rng=rng))
    if made.shape != data["y"].shape:
        raise ValueError(f"strays: expected shape {data['y'].shape}, got {made.shape}.")
    return made


def _choose_sources(rng: np.random.Generator, num_sources: int, shape: tuple) -> np.ndarray:
    """Which source each observation comes from, (B, N): in turns, or one source after the other."""
    batch_size, num_obs = shape
    weights = rng.dirichlet(np.full(num_sources, CONCENTRATION), batch_size)
    in_turns = draw_categorical(rng, weights[:, None], shape)
    one_by_one = draw_systematic(rng, weights, num_obs)  # in increasing order
    return np.where(rng.random((batch_size, 1)) < 0.5, in_turns, one_by_one)


def _make_block(
    workflow, seed: int, num_samples: int, num_draws: int, strays, block: tuple[int, int]
) -> dict | None:
    """Heterogeneous data sets with draws of their posteriors, as many of a block as are trusted."""
    number, size = block
    model, rng = workflow.model, np.random.default_rng((seed, number))
    data = simulate_heterogeneous(model, size, rng=rng, strays=strays)
    compiles = keras.backend.backend() == "jax"  # anew for each size
    padded = pad_to_few_sizes(data, model) if compiles else data
    rows = max(1, DRAWS_AT_ONCE // num_samples)
    parts = []
    for start in range(0, size, rows):
        part = {name: x[start : start + rows] for name, x in padded.items()}
        trusted, drawn = _draw(workflow, part, num_samples, num_draws, rng)
        own = {name: x[start : start + rows] for name, x in data.items()}
        parts.append({name: x[trusted] for name, x in (own | drawn).items()})
    block = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    u = block.pop("u")
    if not len(u):
        return None
    parameters = model.constrain(u, block)
    data = {name: block[name] for name in data}
    scores = model.emission_scores(data, parameters)
    return block | parameters | {"z": model.structure.draw(scores, parameters, rng=rng)}


def _draw(workflow, data: dict, num_samples: int, num_draws: int, rng) -> tuple[np.ndarray, dict]:
    """Whether to trust the weights of each data set, (B,); draws u, (B, L, D), and log p(u | y)."""
    model, data = workflow.model, workflow.model.check_data(data)
    state = keras.random.SeedGenerator(int(rng.integers(2**31)))
    u = workflow.estimator.sample_unconstrained(data, num_samples, seed=state, strict=False)
    known = ~np.isnan(u).any(axis=(1, 2))  # else the network knows nothing of such data
    u = np.where(known[:, None, None], u, 0.0).astype("float64")
    log_q = workflow.log_prob_unconstrained(data, u)
    ratio = log_ratio(model, data, u, log_q)
    possible = known & np.isfinite(ratio).any(axis=1)
    ratio[~possible] = 0.0
    trusted = possible & (weigh(ratio).pareto_k < THRESHOLD)
    for _ in range(NUM_ADAPTED):
        rows = np.flatnonzero(possible & ~trusted)
        if not rows.size:
            break
        u[rows], log_q[rows] = _propose(rng, u[rows], ratio[rows])
        own = {name: values[rows] for name, values in data.items()}
        ratio[rows] = log_ratio(model, own, u[rows], log_q[rows])
        trusted[rows] = weigh(ratio[rows]).pareto_k < THRESHOLD
    weights = weigh(ratio)
    chosen = draw_systematic(rng, np.exp(weights.log_weights), num_draws)
    log_density = ratio + log_q - weights.log_evidence[:, None]
    return trusted, {
        "u": np.take_along_axis(u, chosen[..., None], axis=1),
        "log_density": np.take_along_axis(log_density, chosen, axis=1),
    }


def _propose(rng, u: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws, (B, S, D), and log density, (B, S), of the t with the moments of weighted draws."""
    num_samples, dim = u.shape[1:]
    log_weights = _temper(ratio, num_samples / 5)
    weights = np.exp(log_weights - logsumexp(log_weights, axis=1, keepdims=True))
    mean = np.einsum("bs,bsd->bd", weights, u)[:, None]
    covariance = np.einsum("bs,bsd,bse->bde", weights, u - mean, u - mean)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(dim))
    normal = rng.standard_normal(u.shape)
    scale = rng.chisquare(FREEDOM, u.shape[:2]) / FREEDOM
    draws = mean + np.einsum("bde,bse->bsd", factor, normal / np.sqrt(scale)[..., None])
    distance = np.square(normal).sum(axis=-1) / scale
    volume = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    constant = gammaln((FREEDOM + dim) / 2) - gammaln(FREEDOM / 2)
    constant -= dim / 2 * np.log(FREEDOM * np.pi)
    tails = (FREEDOM + dim) / 2 * np.log1p(distance / FREEDOM)
    return draws, constant - volume[:, None] - tails


def _temper(ratio: np.ndarray, least: float) -> np.ndarray:
    """Log weights beta * ratio, (B, S), with the largest beta <= 1 that leaves so many draws."""
    low, high = np.zeros((len(ratio), 1)), np.full((len(ratio), 1), 2.0)
    for _ in range(20):  # the first step tries beta = 1
        beta = (low + high) / 2
        log_weights = beta * ratio
        ess = 2 * logsumexp(log_weights, axis=1) - logsumexp(2 * log_weights, axis=1)
        enough = (np.exp(ess) >= least)[:, None]
        low, high = np.where(enough, beta, low), np.where(enough, high, beta)
    return np.minimum(low, 1.0) * ratio
