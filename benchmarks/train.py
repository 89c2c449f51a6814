"""Train a shipped network from scratch: ``make train MODEL=gaussian_mixture``.

Writes ``weights.npz`` and, measured on torch, ``card.json`` to abmtools/inference/weights/MODEL.
The state of training is kept in a checkpoint (CHECKPOINTS, or a temporary folder), from which an
interrupted run goes on; a finished run deletes it.
The optimizer is `abmtools.inference.make_muon`. Steps are small, so a backend that compiles them is
several times faster: KERAS_BACKEND=jax, which is what make train sets. The weights serve either
backend. On a CPU much of a step's time may go into memory that glibc gives back after each step
and gets anew, page by page (`bench_training`); make train tells it to keep it.

A network that goes to real people is trained again, also on data sets that are not the model's
(`abmtools.heterogeneity`), in rounds: each has new ones, with draws of the network as it is by
then. Where its posterior has a correction by the likelihood, that is trained at the end, on new
ones again.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras
import numpy as np

import abmtools
from abmtools.diagnostics import (
    compare_model_probabilities,
    gap_to_exact,
    membership_calibration,
    predicted_membership,
    simulation_based_calibration,
)
from abmtools.heterogeneity import HeterogeneousData
from abmtools.inference import MixtureComparisonWorkflow, make_muon
from abmtools.inference.checkpoint import load_weights, save_weights
from abmtools.inference.pretrained import ARCHITECTURES, weights_folder
from abmtools.jobs import num_cores
from abmtools.structures.recursions import on_gpu

TRAINING = "training.json"  # beside the weights, until there is a card
NUM_FRESH = 1024  # heterogeneous data sets, 32 of a size, that measure what a round gained

BUDGETS = {
    "component_count": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": {"comparison": 32, "1": 10, "2": 10, "3": 16, "4": 20},
        "num_batches_per_epoch": 2000,
        "batch_size": 64,
    },
    "evidence_hmm": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": 45,
        "num_batches_per_epoch": 2000,
        "batch_size": 64,
        "heterogeneous": [
            {"num_datasets": 72192, "learning_rate": 2e-3, "epochs": 36, "batch_size": 32},
            {"num_datasets": 72192, "learning_rate": 5e-4, "epochs": 13, "batch_size": 32},
            {"num_datasets": 204800, "learning_rate": 7e-4, "epochs": 17, "batch_size": 32},
            {
                "num_datasets": 98304,
                "learning_rate": 5e-4,
                "epochs": 7,
                "num_batches_per_epoch": 1750,
                "batch_size": 32,
            },
        ],
        "correction": {
            "num_datasets": 40960,
            "learning_rate": 2e-3,
            "epochs": 15,
            "batch_size": 256,
        },
    },
    "gaussian_mixture": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": 80,
        "num_batches_per_epoch": 5000,
        "batch_size": 64,
    },
    "gaussian_hmm": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": 60,
        "constant_reps": 0.25,  # of `GaussianHMM`
        "num_batches_per_epoch": 2000,
        "batch_size": 64,
    },
    "lca_hmm": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": 30,
        "num_batches_per_epoch": 1000,
        "batch_size": 128,
    },
    "speeded_comparison": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": {"comparison": 5},
        "num_batches_per_epoch": 2000,
        "batch_size": 64,
    },
}


class Log(keras.callbacks.Callback):
    """One line per epoch, and its seconds in a file, so that interrupted runs add up."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.start
        with self.path.open("a") as file:
            file.write(f"{seconds}\n")
        losses = ", ".join(f"{name} {value:.4f}" for name, value in sorted((logs or {}).items()))
        print(f"epoch {epoch + 1}: {seconds:.0f} s, {losses}", flush=True)


def train(name: str, folder: Path, budget: dict, executor=None, weights: Path | None = None):
    """Train, or go on with training; return the workflow and what to record of its training.

    With the file of weights, beside which their card lies, only the rounds on heterogeneous data
    remain that this card does not have, and the correction.
    """
    workflow = ARCHITECTURES[name](seed=budget["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    seconds, finished, losses, found, record = 0.0, [], {}, [], {}
    if weights is None:
        for part, network in parts(workflow).items():
            epochs = budget["epochs"][part] if part else budget["epochs"]
            own = budget | {"epochs": epochs}
            label = f"{name}{part and '_' + part}"
            options = {"executor": executor, "simulator": make_simulator(budget)}
            seconds += fit(network, folder, label, own, finished, **options)
            losses[part] = network.losses
    else:
        first = json.loads((weights.parent / "card.json").read_text())
        load(workflow, weights, first)
        found, curves = first.get("rounds", []), first["curve"]
        again = {
            part: curves.pop(part) for part in ("heterogeneous", "correction") if part in curves
        }
        workflow.num_fits, seconds = 1 + len(found), first["seconds"]
        losses = {"": curves} | again
        record["hardware"] = f"{first['hardware']}, then {_hardware()}"
    for number, own in enumerate(budget.get("heterogeneous", [])):
        if number < len(found):
            continue
        again, measured = train_again(
            workflow, folder, f"{name}_round_{number + 1}", budget | own, finished, executor
        )
        seconds, found = seconds + again, [*found, measured]
        before = losses.get("heterogeneous", {})
        losses["heterogeneous"] = {
            part: before.get(part, []) + values for part, values in workflow.losses.items()
        }
    if found:
        record["rounds"] = found
    if "correction" in budget:
        again, own, record["correction"] = correct(
            workflow, folder, f"{name}_correction", budget | budget["correction"], finished
        )
        seconds, losses["correction"] = seconds + again, own
    for path in finished:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return workflow, record | {"seconds": round(seconds), "losses": losses}


def load(workflow, weights: Path, card: dict) -> None:
    """Weights from a file; where its network has no correction, all but those of that."""
    if "correction" in card or getattr(workflow.estimator, "correction", None) is None:
        load_weights(workflow, weights)
        return
    plain = ARCHITECTURES[card["name"]](correction=None)
    load_weights(plain, weights)
    for variable, value in zip(workflow.weights, plain.weights, strict=False):  # its come last
        variable.assign(value)


def train_again(
    workflow, folder: Path, label: str, budget: dict, finished: list[Path], executor
) -> tuple[float, dict]:
    """A round on heterogeneous data; its seconds, and the inconsistency on fresh ones."""
    data, fresh, seconds = store(workflow, folder, label, budget, finished)
    values = {"before": fresh.inconsistency(workflow)}
    options = {"executor": executor, "simulator": data}
    seconds += fit(workflow, folder, label, budget, finished, **options)
    values["after"] = fresh.inconsistency(workflow)
    return seconds, {"num_datasets": fresh.num_datasets} | _means(values)


def correct(
    workflow, folder: Path, label: str, budget: dict, finished: list[Path]
) -> tuple[float, dict, dict]:
    """Training of the correction: its seconds, losses, and the inconsistency on fresh data."""
    data, fresh, seconds = store(workflow, folder, label, budget, finished)
    values, start = {"before": fresh.inconsistency(workflow)}, time.perf_counter()
    options = {key: budget[key] for key in ("epochs", "batch_size", "learning_rate", "seed")}
    losses = abmtools.fit_correction(workflow, data, **options)
    seconds += time.perf_counter() - start
    values["after"] = fresh.inconsistency(workflow)
    print(f"correction: {seconds:.0f} s, inconsistency {values['after'].mean():.4f}", flush=True)
    return seconds, losses, {"num_datasets": fresh.num_datasets} | _means(values)


def store(
    workflow, folder: Path, label: str, budget: dict, finished: list[Path]
) -> tuple[HeterogeneousData, HeterogeneousData, float]:
    """Heterogeneous data from a file that is made if it is not there; fresh ones; seconds."""
    start, seed = time.perf_counter(), budget["seed"] + 2 * workflow.num_fits
    stored = folder / f"{label}_{budget['num_datasets']}"
    with torch_processes() as pool:
        if not stored.exists():
            simulate_heterogeneous_data(workflow, budget["num_datasets"], seed, pool).save(stored)
        data = HeterogeneousData.load(stored, workflow.model)
        seconds = time.perf_counter() - start
        fresh = simulate_heterogeneous_data(workflow, NUM_FRESH, seed + 1, pool, block_size=32)
    finished.append(stored)
    return data, fresh, seconds


def fit(network, folder: Path, label: str, budget: dict, finished: list[Path], **options) -> float:
    """One training, or the rest of it; its seconds. Its files are added to those to delete."""
    label = f"{label}_{budget['epochs']}"  # a shortened run has another schedule
    checkpoint, timing = folder / f"{label}.npz", folder / f"{label}.seconds"
    if not checkpoint.exists():
        timing.unlink(missing_ok=True)
    sizes = {key: budget[key] for key in ("num_batches_per_epoch", "batch_size")}
    steps = budget["epochs"] * sizes["num_batches_per_epoch"]
    network.optimizer = make_muon(budget["learning_rate"], steps)
    network.checkpoint = checkpoint
    options |= {"resume": True, "verbose": 0, "callbacks": [Log(timing)]}
    network.fit_online(budget["epochs"], **sizes, **options)
    finished += [checkpoint, timing]
    return sum(float(line) for line in timing.read_text().split())


def make_simulator(budget: dict):
    """What simulates training data; None where that is the workflow's own model."""
    if "constant_reps" not in budget:
        return None
    return abmtools.GaussianHMM(constant_reps=budget["constant_reps"])


@contextmanager
def torch_processes():
    """Processes on torch and CPUs: data sets have many sizes, and JAX compiles for each."""
    pool = ProcessPoolExecutor(num_cores(), mp_context=get_context("spawn"))
    with patch.dict(os.environ, {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}), pool:
        yield pool


def simulate_heterogeneous_data(workflow, num_datasets: int, seed: int, executor, **options):
    """Data that do not follow the workflow's model; for the log, a line that describes them."""
    data = abmtools.heterogeneous_data(
        workflow,
        num_datasets,
        seed=seed,
        strays=getattr(workflow.model, "lapses", None),
        executor=executor,
        progress=True,
        **options,
    )
    print(data, flush=True)
    return data


def make_pool(workers: int | None):
    """Processes that simulate, on CPUs, so that the GPU's memory is all for training; or none."""
    if workers is None:
        workers = os.cpu_count() - 1 if on_gpu() else 0
    if not workers:
        return nullcontext()
    keras.ops.zeros(())  # this process has its devices now, and the variable is for the others
    os.environ["JAX_PLATFORMS"] = "cpu"
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def parts(workflow) -> dict:
    """The workflows that are trained one after the other, by name."""
    if not isinstance(workflow, MixtureComparisonWorkflow):
        return {"": workflow}
    own = {str(name): x for name, x in workflow.workflows.items() if x.card is None}
    return {"comparison": workflow, **own}


def record_training(name: str, workflow, budget: dict, results: dict) -> dict:
    """The part of the card that only the process which trained knows."""
    packages = ("bayesflow", "keras", keras.backend.backend(), "numpy")
    versions = {"abmtools": abmtools.__version__} | {x: version(x) for x in packages}
    networks, losses = parts(workflow), results.pop("losses")
    return {
        "name": name,
        "model": workflow.model.name,
        "num_obs": workflow.model.num_obs,
        "num_reps": workflow.model.num_reps,
        "architecture": _each(networks, _architecture),
        "budget": budget | {"optimizer": "Muon", "num_datasets": _num_datasets(budget)},
        "hardware": _hardware(),
        "versions": versions,
        "python": platform.python_version(),
        "final_losses": _plain(losses, lambda values: round(values[-1], 5)),
        "curve": _plain(losses, lambda values: [round(x, 4) for x in values]),
        **results,
    }


def make_card(name: str, folder: Path) -> dict:
    """What a user of the network should know: its training, and measures on fresh simulations."""
    trained = json.loads((folder / TRAINING).read_text())
    seed = trained["budget"]["seed"]
    workflow = ARCHITECTURES[name](seed=seed)
    load_weights(workflow, folder / "weights.npz")
    rng = np.random.default_rng(seed + 1)
    simulated = [workflow.model.simulate(10, rng=rng) for _ in range(30)]
    if isinstance(workflow, MixtureComparisonWorkflow):
        judge = comparison_to_truth
    else:
        judge = distance_to_exact if workflow.model.has_likelihood else calibration
    digest = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    return trained | judge(workflow, simulated) | {"sha256": digest}


def _each(networks: dict, function):
    """A function of a workflow; of several, by name."""
    if list(networks) == [""]:
        return function(networks[""])
    return {name: function(network) for name, network in networks.items()}


def _means(values: dict) -> dict:
    """Rounded means by name."""
    return {name: round(float(x.mean()), 4) for name, x in values.items()}


def _plain(losses: dict, function) -> dict:
    """A function of the values of each loss, {name: ...}; of several trainings, by their names."""
    found = {
        part: {name: function(values) for name, values in own.items()}
        for part, own in losses.items()
    }
    return found.pop("", {}) | found


def _architecture(workflow) -> dict:
    estimator = workflow.estimator
    names = ("summary_network", "inference_network", "emission_scorer", "correction")
    layers = {name: getattr(estimator, name, None) for name in names}
    layers["encoder"] = estimator.summary_network.encoder
    plain = {name: _config(layer) for name, layer in layers.items() if layer is not None}
    return plain | {"num_weights": int(estimator.count_params())}


def distance_to_exact(workflow, simulated: list[dict]) -> dict:
    """Mean gaps of both factors, in nats."""
    gap = gap_to_exact(workflow, simulated, num_samples=2000, seed=1)
    return {
        "gap_to_exact": {
            "posterior": round(float(gap.posterior), 4),
            "posterior_standard_error": round(float(gap.posterior_se), 4),
            "membership": round(float(gap.membership), 6),
            "membership_standard_error": round(float(gap.membership_se), 6),
            "num_datasets": len(gap.pareto_k),
        },
    }


def comparison_to_truth(workflow, simulated: list[dict]) -> dict:
    """Calibration of the models' probabilities; with likelihoods also distances to exact."""
    rng = np.random.default_rng(1)
    batches = [workflow.model.simulate(20, rng=rng) for _ in range(200)]
    estimates = [workflow.estimate(conditions=batch)["model_probs"] for batch in batches]
    truth = np.concatenate([batch["model_indices"] for batch in batches])
    table = workflow.compute_default_diagnostics(
        {"model_indices": truth}, estimates={"model_probs": np.concatenate(estimates)}
    )
    error = table.loc["Expected Calibration Error"].round(4).to_dict()
    found = {"calibration": {"expected_calibration_error": error, "num_datasets": len(truth)}}
    if not all(model.has_likelihood for model in workflow.models.values()):
        return found
    result = compare_model_probabilities(workflow, simulated, num_samples=2000, seed=1)
    rng = np.random.default_rng(2)
    gaps = {
        str(name): distance_to_exact(x, [x.model.simulate(10, rng=rng) for _ in range(10)])
        for name, x in workflow.workflows.items()
    }
    return found | {
        "probabilities": {
            "mean_difference_to_exact": round(float(result.difference.mean()), 5),
            "divergence_from_exact": round(float(result.divergence.mean()), 5),
            "pareto_k_below_0.7": round(float(np.mean(result.pareto_k < 0.7)), 4),
            "num_datasets": len(result.exact),
        },
        "gap_to_exact": {name: gap["gap_to_exact"] for name, gap in gaps.items()},
    }


def calibration(workflow, simulated: list[dict]) -> dict:
    """What can be said without a likelihood: log gamma of each parameter, error of membership."""
    ranks = simulation_based_calibration(workflow, simulated, num_samples=999, seed=1)
    predicted = predicted_membership(workflow, simulated, at="truth", seed=1)
    error = membership_calibration(*predicted).expected_calibration_error
    return {
        "calibration": {
            "log_gamma": ranks.log_gamma.round(2).to_dict(),
            "membership_expected_calibration_error": round(error, 5),
            "num_datasets": sum(len(batch["y"]) for batch in simulated),
        }
    }


def _config(layer) -> dict:
    """The plain settings in a layer's configuration."""
    config = layer.get_config()
    plain = (int, float, str, list, tuple, dict, bool)
    skipped = ("name", "dtype", "trainable", "seed", "mask_handler", "encoder")
    return {
        key: value
        for key, value in config.items()
        if isinstance(value, plain) and key not in skipped and "module" not in str(value)
    }


def _hardware() -> str:
    """What the backend computes on; of the two, Keras lists devices for JAX only."""
    if keras.backend.backend() == "torch":
        devices = str(keras.ops.zeros(()).device)
    else:
        devices = ", ".join(keras.distribution.list_devices())
    return f"{platform.machine()}, {devices}"


def _num_datasets(budget: dict) -> int:
    """Of all trainings together."""
    epochs = budget["epochs"]
    epochs = sum(epochs.values()) if isinstance(epochs, dict) else epochs
    number = epochs * budget["num_batches_per_epoch"] * budget["batch_size"]
    again = {key: x for key, x in budget.items() if key not in ("heterogeneous", "correction")}
    number += sum(_num_datasets(again | own) for own in budget.get("heterogeneous", []))
    correction = budget.get("correction", {"epochs": 0, "num_datasets": 0})
    return number + correction["epochs"] * correction["num_datasets"]


def shorten(budget: dict, factor: float) -> dict:
    """A budget of so many times fewer steps, and of fewer heterogeneous data sets."""
    epochs = budget["epochs"]
    parts = epochs if isinstance(epochs, dict) else {"": epochs}
    fewer = {part: max(1, round(number / factor)) for part, number in parts.items()}
    # Of one epoch that is still too long, a share.
    share = min(1, max(parts.values()) / factor)
    budget = budget | {
        "epochs": fewer if isinstance(epochs, dict) else fewer[""],
        "num_batches_per_epoch": max(1, round(share * budget["num_batches_per_epoch"])),
    }
    if "heterogeneous" in budget:
        shares = {"epochs": 1 / factor, "num_datasets": 1 / factor, "num_batches_per_epoch": share}
        budget["heterogeneous"] = [
            own | {name: max(1, round(x * own[name])) for name, x in shares.items() if name in own}
            for own in budget["heterogeneous"]
        ]
    if "correction" in budget:
        own = budget["correction"]
        fewer = {name: max(1, round(own[name] / factor)) for name in ("epochs", "num_datasets")}
        budget["correction"] = own | fewer
    return budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, choices=sorted(BUDGETS))
    parser.add_argument("--shorten", type=float, default=1, help="train so many times shorter")
    parser.add_argument("--output", type=Path, help="instead of the package's own folder")
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that simulate; on a GPU by default one for each other core",
    )
    parser.add_argument("--card", action="store_true", help="measure the network that is there")
    parser.add_argument(
        "--go-on",
        type=Path,
        metavar="WEIGHTS",
        help="only the rounds on heterogeneous data that the card of these does not have, and the "
        "correction",
    )
    arguments = parser.parse_args()
    name = arguments.model
    folder = arguments.output or Path(str(weights_folder(name)))
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.card:
        card = make_card(name, folder)
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
        (folder / TRAINING).unlink()
        print(json.dumps(card, indent=2))
        return
    budget = shorten(BUDGETS[name], arguments.shorten)
    checkpoints = Path(os.environ.get("CHECKPOINTS", tempfile.gettempdir()))
    with make_pool(arguments.workers) as executor:
        workflow, results = train(name, checkpoints, budget, executor, arguments.go_on)
    save_weights(workflow, folder / "weights.npz")
    record = record_training(name, workflow, budget, results)
    (folder / TRAINING).write_text(json.dumps(record))
    # Data sets of all sizes: a backend that compiles would compile for each of them.
    again = [sys.executable, __file__, "--model", name, "--output", str(folder), "--card"]
    subprocess.run(again, env=os.environ | {"KERAS_BACKEND": "torch"}, check=True)


if __name__ == "__main__":
    main()
