"""Speed, side by side in one run: amortized inference against NUTS, simulator against a loop.

NUTS is 4 chains x (1,000 + 1,000) with membership, for chains filtering and smoothing, on all cores
of the machine; the network draws 2,000 with the same, on the same cores, on torch and, in a process
of its own that waits meanwhile, on JAX. Times are medians of repetitions, taken alternately.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())  # before torch: both sides may use all cores

import time
from functools import cache

import numpy as np
from jax_process import start_jax_process
from record import Report

import abmtools as abm


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


load = cache(abm.load_pretrained)


def draw(topic: str, data: dict) -> float:
    """Seconds for 2,000 draws of each data set."""
    workflow = load(topic)
    return seconds(lambda: workflow.sample(conditions=data, num_samples=2000, seed=1))


def inference(report: Report, alone: float, many: float | None, repetitions: int = 7, **sizes):
    """2,000 draws against NUTS; targets are how many times faster for one and in a batch."""
    model = load(report.topic).model
    batch = model.check_data(model.simulate(100, rng=np.random.default_rng(1), **sizes))
    one = {key: value[:1] for key, value in batch.items()}
    jax = start_jax_process()
    contenders = {"NUTS": lambda: seconds(lambda: abm.stan.sample(model, one, engine="stanli"))}
    for data, what in (one, "one data set"), (batch, "each in a batch of 100"):
        contenders["torch", what] = lambda data=data: draw(report.topic, data)
        contenders["JAX", what] = lambda data=data: jax.submit(draw, report.topic, data).result()
    first = {key: function() for key, function in contenders.items()}
    times = {key: [] for key in contenders}
    for _ in range(repetitions):
        for key, function in contenders.items():
            times[key].append(function())
    jax.shutdown()
    times = {key: 1e3 * float(np.median(found)) for key, found in times.items()}
    nuts = times.pop("NUTS")
    print(
        f"{os.cpu_count()} cores, {repetitions} repetitions, data of shape {batch['y'].shape[1:]}"
    )
    report.add("NUTS, 4 x 1,000 draws of one data set", nuts, unit="ms")
    targets = {"one data set": (1, alone), "each in a batch of 100": (100, many)}
    for (backend, what), found in times.items():
        size, aim = targets[what]
        each = found / size
        report.add(f"{backend}, 2,000 draws of {what}", each, unit="ms")
        report.add(f"{backend}, faster than NUTS, {what}", nuts / each, unit="times", at_least=aim)
    report.add("JAX, the first of these, which compiles", first["JAX", "one data set"], unit="s")


def loop_mixture(model, rng: np.random.Generator) -> dict:
    """A Gaussian mixture's simulator, one observation at a time."""
    weights = rng.dirichlet(np.full(3, model.concentration))
    means = np.array([np.inf, 0.0, 0.0])
    while np.any(np.diff(means) <= 0):
        means = rng.normal(model.means_location, model.means_scale)
    z = np.empty(200, dtype=int)
    y = np.empty((200, 3))
    for i in range(200):
        z[i] = rng.choice(3, p=weights)
        y[i] = rng.normal(means[z[i]], model.scale, size=3)
    return {"weights": weights, "means": means, "z": z, "y": y}


def loop_evidence(model, rng: np.random.Generator) -> dict:
    """The evidence accumulation model's simulator, one trial at a time."""
    theta = {name: value[0] for name, value in model.prior(rng, 1).items()}
    stay, threshold = theta["stay"], theta["threshold"]
    z = np.empty(400, dtype=int)
    y = np.empty((400, 2))
    for t in range(400):
        if t == 0:
            z[t] = rng.integers(2)
        else:
            z[t] = z[t - 1] if rng.random() < stay[z[t - 1]] else 1 - z[t - 1]
        drifts = theta["controlled_drift"] if z[t] else [theta["guessing_drift"]]
        times = [rng.wald(threshold[z[t]] / drift, threshold[z[t]] ** 2) for drift in drifts]
        response = int(np.argmin(times)) if z[t] else rng.integers(2)
        y[t] = min(times) + theta["non_decision_time"], response
    return theta | {"z": z, "y": y}


def simulation(report: Report, model, loop, batch_size: int = 1000, **sizes) -> None:
    rng = np.random.default_rng(1)
    vectorized = min(
        seconds(lambda: model.simulate(batch_size, rng=rng, **sizes)) for _ in range(5)
    )
    looped = min(seconds(lambda: [loop(model, rng) for _ in range(50)]) for _ in range(3)) / 50
    each = vectorized / batch_size
    report.add("simulator, a data set", 1e3 * each, unit="ms")
    report.add("simulator, faster than a Python loop", looped / each, unit="times", at_least=50)


if __name__ == "__main__":
    with Report(__file__, "gaussian_mixture") as report:
        inference(report, 30, 60, num_obs=200, num_reps=3)
        simulation(report, abm.GaussianMixture(), loop_mixture, num_obs=200, num_reps=3)
    with Report(__file__, "gaussian_hmm") as report:
        inference(report, 60, None)
    with Report(__file__, "evidence_hmm") as report:
        simulation(report, abm.EvidenceAccumulationHMM(), loop_evidence, num_obs=400)
