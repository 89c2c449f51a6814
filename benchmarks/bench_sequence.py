"""Filtering and smoothing: how far from exact, and how fast.

Three parts, each a function of its own:

* `unstructured`: a `SequenceClassifier`, which knows nothing of the chain, trained here on the
  Gaussian hidden Markov model of the second case study;
* `structured`: the shipped network of that model, whose scores go through the chain's recursions,
  also at lengths that it was not trained on;
* `speed`: those recursions against hmmlearn's compiled ones, on torch and, in a process of its own
  that waits meanwhile, on JAX.

A gap is the cross-entropy of the true state, averaged over time points and fresh data sets, minus
that of the exact probabilities, both at the true parameters. About four minutes on one core.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ["OMP_NUM_THREADS"] = "1"  # before torch: hmmlearn's recursions have one thread too

import time
from functools import cache

import keras
import numpy as np
from hmmlearn import _hmmc
from jax_process import start_jax_process
from record import Report

import abmtools as abm
from abmtools.networks import ObservationEncoder, SequenceClassifier, SequenceSummary

BATCH = 250  # data sets at a time
NATS = "nats per time point"


# --- gaps ---------------------------------------------------------------------------------------


def cross_entropy(probabilities: np.ndarray, z: np.ndarray) -> float:
    """Of the true states z, (B, T), under probabilities (B, 1, T, K)."""
    chosen = np.take_along_axis(probabilities[:, 0], z[..., None], axis=-1)
    return float(-np.log(chosen).mean())


def gaps(workflow, num_datasets: int, *, num_obs: int, seed: int) -> np.ndarray:
    """Gaps of filtering and of smoothing in nats per time point."""
    model, rng = workflow.model, np.random.default_rng(seed)
    total = np.zeros(2)
    for _ in range(num_datasets // BATCH):
        data = model.simulate(BATCH, rng=rng, num_obs=num_obs)
        parameters = {name: data[name][:, None] for name in model.parameter_names}
        observed = {name: data[name] for name in ("y", "replicate_mask")}
        ours = workflow.filtering(observed, parameters), workflow.membership(observed, parameters)
        exact = (
            model.exact_filtering(observed, parameters),
            model.exact_membership(observed, parameters),
        )
        total += [cross_entropy(x, data["z"]) for x in ours]
        total -= [cross_entropy(x, data["z"]) for x in exact]
    return total / (num_datasets // BATCH)


def unstructured(report: Report, num_datasets: int = 2000) -> None:
    """A sequence classifier, trained for a few minutes."""
    encoder = ObservationEncoder(replicates=True, width=0)
    workflow = abm.MixtureWorkflow(
        abm.GaussianHMM(),
        summary_network=SequenceSummary(encoder, num_passes=0),  # only the classifier matters here
        sequence_classifier=SequenceClassifier(2, width=32, dilations=(1, 2, 4, 8)),
        initial_learning_rate=8e-3,
        seed=1,
    )
    start = time.perf_counter()
    workflow.fit_online(epochs=6, num_batches_per_epoch=250, batch_size=64, verbose=0)
    print(f"SequenceClassifier: trained on 96,000 data sets, {time.perf_counter() - start:.0f} s")
    filtering, smoothing = gaps(workflow, num_datasets, num_obs=100, seed=1)
    for kind, gap in {"filtering": filtering, "smoothing": smoothing}.items():
        report.add(f"SequenceClassifier, gap of {kind}", gap, unit=NATS, at_most=0.01)


def structured(report: Report, num_datasets: int = 2000) -> None:
    """The shipped scores and the recursions; training had T = 100 only."""
    workflow = abm.load_pretrained("gaussian_hmm")
    filtering, smoothing = gaps(workflow, num_datasets, num_obs=100, seed=2)
    for kind, gap in {"filtering": filtering, "smoothing": smoothing}.items():
        report.add(f"shipped network, T = 100, gap of {kind}", gap, unit=NATS, at_most=0.0005)
    for num_obs in (20, 50, 300, 1000):
        _, smoothing = gaps(workflow, num_datasets, num_obs=num_obs, seed=num_obs)
        report.add(
            f"shipped network, T = {num_obs}, gap of smoothing",
            smoothing,
            unit=NATS,
            at_most=0.002,
        )


# --- speed --------------------------------------------------------------------------------------


@cache
def problem(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 4,000 draws, (S, T, K), and the parameters of their transition matrices, (S, K)."""
    rng = np.random.default_rng(3)
    stay = rng.beta(2, 2, (4000, 2))
    return rng.normal(0, 2, (4000, 400, 2)).astype(dtype), stay.astype(dtype)


def ours(scores: np.ndarray, stay: np.ndarray) -> list[np.ndarray]:
    """Filtering and smoothing, (S, T, K) each, of all draws at once."""
    chain = abm.Markov(lambda parameters: abm.persistent(parameters["stay"]))
    both = chain.filtering_and_smoothing(scores, {"stay": stay})
    return [keras.ops.convert_to_numpy(x) for x in both]


def hmmlearn_log(scores: np.ndarray, transition: np.ndarray) -> list[np.ndarray]:
    """The same by hmmlearn's recursions in the log domain, one draw after the other."""
    initial = np.full(transition.shape[-1], 1 / transition.shape[-1])
    alpha, beta = np.empty_like(scores), np.empty_like(scores)
    for s in range(len(scores)):
        alpha[s] = _hmmc.forward_log(initial, transition[s], scores[s])[1]
        beta[s] = _hmmc.backward_log(initial, transition[s], scores[s])
    return [softmax(alpha), softmax(alpha + beta)]


def hmmlearn_scaling(scores: np.ndarray, transition: np.ndarray) -> list[np.ndarray]:
    """The same by hmmlearn's recursions of scaled probabilities."""
    initial = np.full(transition.shape[-1], 1 / transition.shape[-1])
    densities = np.exp(scores)
    alpha, beta = np.empty_like(scores), np.empty_like(scores)
    for s in range(len(scores)):
        _, alpha[s], scaling = _hmmc.forward_scaling(initial, transition[s], densities[s])
        beta[s] = _hmmc.backward_scaling(initial, transition[s], densities[s], scaling)
    return [alpha, normalize(alpha * beta)]  # its alpha sums to one


def normalize(x: np.ndarray) -> np.ndarray:
    return x / x.sum(axis=-1, keepdims=True)


def softmax(x: np.ndarray) -> np.ndarray:
    return normalize(np.exp(x - x.max(axis=-1, keepdims=True)))


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def seconds_of_ours(dtype: str) -> float:
    return seconds(ours, *problem(dtype))


def speed(report: Report, repetitions: int = 9) -> None:
    """Exact filtering and smoothing of many draws, each with its own transition matrix."""
    scores, stay = problem("float64")
    transition = keras.ops.convert_to_numpy(abm.persistent(stay))
    jax = start_jax_process(JAX_ENABLE_X64="1")
    theirs = {
        "hmmlearn, log": lambda: hmmlearn_log(scores, transition),
        "hmmlearn, scaling": lambda: hmmlearn_scaling(scores, transition),
    }
    labels = {"abmtools": "float64", "abmtools, float32": "float32"}  # the networks' precision
    on_jax = {f"{label}, JAX": dtype for label, dtype in labels.items()}
    results = {label: function() for label, function in theirs.items()}
    results |= {label: ours(*problem(dtype)) for label, dtype in labels.items()}
    results |= {
        label: jax.submit(ours, *problem(dtype)).result() for label, dtype in on_jax.items()
    }
    for label, both in results.items():
        difference = max(
            float(np.abs(x - y).max()) for x, y in zip(both, results["hmmlearn, log"], strict=True)
        )
        print(f"{label:<22} differs from hmmlearn, log, by at most {difference:.1e}")
    times = {label: [] for label in results}
    for _ in range(repetitions):
        for label, function in theirs.items():
            times[label].append(seconds(function))
        for label, dtype in labels.items():
            times[label].append(seconds_of_ours(dtype))
        for label, dtype in on_jax.items():
            times[label].append(jax.submit(seconds_of_ours, dtype).result())
    jax.shutdown()
    medians = {label: float(np.median(x)) for label, x in times.items()}
    fastest = {label: min(x) for label, x in times.items()}
    print(f"one thread, draws, times and states {scores.shape}, {repetitions} repetitions")
    for label, median in medians.items():
        print(f"{label:<22} {1e3 * median:8.1f} ms, fastest {1e3 * fastest[label]:.1f} ms")
    for label in (*labels, *on_jax):
        for other in theirs:
            ratio = medians[label] / medians[other]
            report.add(f"seconds: {label} / {other}", ratio, at_most=1)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):  # XLA has no variable for its threads
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with Report(__file__, "gaussian_hmm") as report:
        speed(report)
        structured(report)
        unstructured(report)


if __name__ == "__main__":
    main()
