"""The shipped weights and the code run on JAX as they do on torch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from conftest import to_numpy

from abmtools import load_pretrained

# Most of the time is the compiler's, and what it gains is for longer runs.
JAX = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

SCRIPT = """
import sys
from unittest.mock import patch
import bayesflow as bf
import jax
import keras
import numpy as np
from abmtools import GaussianHMM, GaussianMixture, MixtureWorkflow, load_pretrained
from abmtools.heterogeneity import fit_correction, heterogeneous_data
from abmtools.networks import ChainAssignment, EmissionScorer, LikelihoodCorrection
from abmtools.networks import SequenceClassifier
from abmtools.structures import chain as chain_questions, recursions
from abmtools.structures.arithmetic import LOGARITHMS

assert keras.backend.backend() == "jax"
given = np.load(sys.argv[1])
workflow = load_pretrained("gaussian_mixture")
data = {"y": given["y"]}
parameters = workflow.model.constrain(given["u"])
np.savez(
    sys.argv[2],
    log_prob=workflow.log_prob_unconstrained(data, given["u"]),
    membership=workflow.membership(data, parameters),
    draws=workflow.sample(conditions=data, num_samples=5, seed=1).unconstrained,
)
def small_flow():  # compiles sooner
    return bf.networks.CouplingFlow(depth=2, subnet_kwargs={"widths": (16,)})

model = GaussianMixture(num_obs=(10, 20), num_reps=(1, 2))
fresh = MixtureWorkflow(model, inference_network=small_flow(), seed=1)
history = fresh.fit_online(epochs=2, num_batches_per_epoch=9, batch_size=8, verbose=0).history
assert history["membership_loss"][1] < history["membership_loss"][0]

chain = MixtureWorkflow(
    GaussianHMM(num_obs=(8, 12)), inference_network=small_flow(), seed=1
)
simulated = chain.model.check_data(chain.simulate(2))
u = np.random.default_rng(1).normal(size=(2, 5, 4))
untrained = chain.log_prob_unconstrained(simulated, u)
history = chain.fit_online(epochs=2, num_batches_per_epoch=9, batch_size=8, verbose=0).history
assert history["membership_loss"][1] < history["membership_loss"][0]
posterior = chain.sample(conditions=simulated, num_samples=5, seed=1)
same, other = (chain.sample(conditions=simulated, num_samples=5, seed=s) for s in (1, 2))
assert np.array_equal(same.unconstrained, posterior.unconstrained)
assert not np.isclose(other.unconstrained, posterior.unconstrained).any()
unseeded = [chain.sample(conditions=simulated, num_samples=5).unconstrained for _ in range(2)]
assert not np.isclose(*unseeded).any()

# Compiled or not, and before and after training, the networks say the same.
estimator = chain.estimator
adapted, u = chain.adapter(simulated, strict=False), u.astype("float32")
summary = estimator._summarize.__wrapped__(estimator, adapted)
log_prob = estimator._log_prob.__wrapped__(estimator, summary, u)
assert np.allclose(log_prob, chain.log_prob_unconstrained(simulated, u), rtol=1e-4, atol=1e-4)
assert not np.isclose(log_prob, untrained).any()
indicators = estimator._structured.__wrapped__(estimator, adapted, u)
for name, values in estimator.indicators(simulated, u).items():
    assert np.allclose(values, indicators[name], atol=1e-5)
seed = keras.random.SeedGenerator(1)
draws = estimator._draw.__wrapped__(estimator, summary, num_samples=5, seed=seed)
again = estimator._draw(summary, num_samples=5, seed=keras.random.SeedGenerator(1))
assert np.allclose(draws, again, atol=1e-4)
assert np.allclose(posterior.filtering[:, :, -1], posterior.smoothing[:, :, -1], atol=1e-5)
try:
    chain.model.structure.smoothing(np.full((3, 2), -np.inf), {"stay": np.full(2, 0.5)})
except ValueError as error:
    assert "no path" in str(error)
else:
    raise AssertionError("an impossible sequence went through")

# A correction by the likelihood.
corrected = MixtureWorkflow(
    GaussianHMM(num_obs=(8, 12)),
    inference_network=small_flow(),
    correction=LikelihoodCorrection((8,)),
    seed=1,
)
others = heterogeneous_data(corrected, 16, seed=1, block_size=8)
before = others.inconsistency(corrected)
losses = fit_correction(corrected, others, epochs=20, batch_size=8)["loss"]
assert losses[-1] < losses[0]
assert others.inconsistency(corrected).mean() < before.mean()

free = MixtureWorkflow(
    GaussianHMM(num_obs=(8, 12)),
    inference_network=small_flow(),
    sequence_classifier=SequenceClassifier(2, width=8),
    seed=1,
)
found = free.estimator.indicators(simulated, u)
one = free.estimator.indicators({k: x[:1] for k, x in simulated.items()}, u[:1, :2])
assert np.allclose(found["membership"][:1, :2], one["membership"], atol=1e-5)
assert np.allclose(found["filtering"].sum(axis=-1), 1, atol=1e-5)

# Answers for blocks of data sets, of which the last is not full, are those for all at once.
rng = np.random.default_rng(1)
transition = rng.dirichlet(np.ones(3), size=(1, 7, 3)).astype("float32")
given = rng.normal(size=(2, 1, 5, 3)).astype("float32"), transition, np.full(3, 1 / 3, "float32")
paths = rng.integers(3, size=(2, 7, 5))
for mask in (None, rng.random(size=(2, 1, 5)) < 0.7):
    for question, others in {
        "log_likelihood": [],
        "filtering_and_smoothing": [],
        "log_pairwise_smoothing": [],
        "log_prob": [paths],
        "most_probable_path": [],
    }.items():
        rest = (LOGARITHMS, *given, mask, *others)
        whole = chain_questions._answer(question, *rest)
        with patch.object(chain_questions, "AT_ONCE", 5 * 15):
            found = chain_questions._answer_in_blocks(question, *rest)
        assert all(np.allclose(*x, atol=1e-5) for x in zip(found, whole, strict=True))

# Joint features by one loop, where there are many, and at once.
scorer = EmissionScorer(2, num_joint=16)
codes, parameters = rng.normal(size=(1, 400, 3)), rng.normal(size=(1, 50, 4))
few = [scorer(codes, parameters[:, start : start + 10]) for start in range(0, 50, 10)]
assert np.allclose(scorer(codes, parameters), np.concatenate(few, axis=1), atol=1e-5)

layer = ChainAssignment(num_heads=1, num_slots=2)
codes, summary = rng.normal(size=(8, 30, 3)), rng.normal(size=(8, 5))
layer.build(codes.shape, summary.shape)

def loss(weights):
    return (layer.stateless_call(weights, [], codes, summary)[0] ** 2).sum()

# Where a chain is multiplied out in rounds, as on a GPU, gradients are what they are in steps.
weights = {size: [size * x.value for x in layer.trainable_variables] for size in (3.0, 1000.0)}
found = []
for in_rounds in (False, True):
    with patch.object(recursions, "on_gpu", lambda: in_rounds):
        gradient = jax.jit(jax.grad(loss))
        assert all(np.isfinite(x).all() for x in gradient(weights[1000.0]))
        found.append(gradient(weights[3.0]))
assert all(np.allclose(*x, rtol=1e-3, atol=1e-5) for x in zip(*found, strict=True))
"""


def test_jax_gives_the_same_answers_and_trains(tmp_path):
    assert keras.backend.backend() == "torch"
    workflow = load_pretrained("gaussian_mixture")
    simulated = workflow.model.simulate(3, rng=np.random.default_rng(1), num_obs=160, num_reps=3)
    data = {"y": simulated["y"]}
    u = workflow.sample(conditions=data, num_samples=4, seed=1).unconstrained
    np.savez(tmp_path / "given.npz", y=simulated["y"], u=u)
    subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "given.npz", tmp_path / "result.npz"],
        env=os.environ | JAX,
        check=True,
    )
    result = np.load(tmp_path / "result.npz")
    expected = workflow.membership(data, workflow.model.constrain(u))
    np.testing.assert_allclose(result["membership"], expected, atol=1e-4)
    np.testing.assert_allclose(
        result["log_prob"], workflow.log_prob_unconstrained(data, u), atol=5e-3
    )
    assert result["draws"].shape == (3, 5, 5)


def test_two_devices_train_as_one_does():
    """The code that the book shows for several GPUs, on devices that are parts of the CPU."""
    chapter = Path(__file__).parents[1] / "book" / "scaling_up.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", chapter.read_text(encoding="utf-8"), re.M | re.S)
    found = {}
    for count in (1, 2):
        flags = {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
        }
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | JAX | flags,
            check=True,
            capture_output=True,
            text=True,
        )
        devices, *losses = map(float, run.stdout.split())
        assert devices == count
        found[count] = losses
    np.testing.assert_allclose(found[2], found[1], rtol=1e-4)


def test_a_tensor_is_no_array_here_either():
    """Wherever it is asked for, be it under a decorator of PyTorch; fetching and printing go on."""
    tensor = torch.arange(3)
    for read in (np.asarray, torch.Tensor.numpy, torch.no_grad()(lambda x: np.array(x))):
        with pytest.raises(TypeError, match=r"use keras\.ops\.convert_to_numpy"):
            read(tensor)
    assert to_numpy(tensor).tolist() == [0, 1, 2]
    assert repr(tensor) == "tensor([0, 1, 2])"
