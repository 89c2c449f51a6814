"""Train a shipped network from scratch: ``make train MODEL=gaussian_mixture``.

Writes ``weights.npz`` and ``card.json`` to abmtools/inference/weights/MODEL. The state of training
is kept in a checkpoint (CHECKPOINTS, or a temporary folder), from which an interrupted run goes on;
a finished run deletes it.
The optimizer is `abmtools.inference.make_muon`. Steps are small, so a backend that compiles them is
several times faster: KERAS_BACKEND=jax, which is what make train sets. The weights serve either
backend.
"""

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import keras
import numpy as np

from abmtools.diagnostics import gap_to_exact
from abmtools.inference import make_muon
from abmtools.inference.checkpoint import save_weights
from abmtools.inference.pretrained import ARCHITECTURES, weights_folder

BUDGETS = {
    "evidence_hmm": {
        "seed": 2025,
        "learning_rate": 2.5e-3,
        "epochs": 45,
        "num_batches_per_epoch": 2000,
        "batch_size": 64,
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
        "epochs": 50,
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


def train(name: str, folder: Path, budget: dict):
    """Train, or go on with training; return the workflow and the seconds it took in all."""
    label = f"{name}_{budget['epochs']}"  # a shortened run has another schedule
    checkpoint, timing = folder / f"{label}.npz", folder / f"{label}.seconds"
    if not checkpoint.exists():
        timing.unlink(missing_ok=True)
    workflow = ARCHITECTURES[name](
        seed=budget["seed"],
        optimizer=make_muon(
            budget["learning_rate"], budget["epochs"] * budget["num_batches_per_epoch"]
        ),
        checkpoint=checkpoint,
    )
    sizes = {key: budget[key] for key in ("epochs", "num_batches_per_epoch", "batch_size")}
    folder.mkdir(parents=True, exist_ok=True)
    workflow.fit_online(**sizes, resume=True, verbose=0, callbacks=[Log(timing)])
    seconds = sum(float(line) for line in timing.read_text().split())
    for path in (checkpoint, timing):
        path.unlink()
    return workflow, seconds


def make_card(name: str, workflow, budget: dict, seconds: float) -> dict:
    """What a user of the network should know, measured on fresh simulations."""
    rng = np.random.default_rng(budget["seed"] + 1)
    simulated = [workflow.model.simulate(10, rng=rng) for _ in range(30)]
    gap = gap_to_exact(workflow, simulated, num_samples=2000, seed=1)
    estimator = workflow.estimator
    packages = ("abmtools", "bayesflow", "keras", keras.backend.backend(), "numpy")
    return {
        "name": name,
        "model": workflow.model.name,
        "num_obs": workflow.model.num_obs,
        "num_reps": workflow.model.num_reps,
        "architecture": {
            "summary_network": _config(estimator.summary_network),
            "encoder": _config(estimator.encoder),
            "inference_network": _config(estimator.inference_network),
            "emission_scorer": _config(estimator.emission_scorer),
            "num_weights": int(estimator.count_params()),
        },
        "budget": budget | {"optimizer": "Muon", "num_datasets": _num_datasets(budget)},
        "hardware": f"{platform.machine()}, {', '.join(keras.distribution.list_devices())}",
        "seconds": round(seconds),
        "versions": {package: version(package) for package in packages},
        "python": platform.python_version(),
        "final_losses": {key: round(values[-1], 5) for key, values in workflow.losses.items()},
        "curve": {key: [round(x, 4) for x in values] for key, values in workflow.losses.items()},
        "gap_to_exact": {
            "posterior": round(float(gap.posterior), 4),
            "posterior_standard_error": round(float(gap.posterior_se), 4),
            "membership": round(float(gap.membership), 6),
            "membership_standard_error": round(float(gap.membership_se), 6),
            "num_datasets": len(gap.pareto_k),
        },
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


def _num_datasets(budget: dict) -> int:
    return budget["epochs"] * budget["num_batches_per_epoch"] * budget["batch_size"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, choices=sorted(BUDGETS))
    parser.add_argument("--shorten", type=float, default=1, help="train so many times shorter")
    parser.add_argument("--output", type=Path, help="instead of the package's own folder")
    arguments = parser.parse_args()
    budget = dict(BUDGETS[arguments.model])
    budget["epochs"] = max(1, round(budget["epochs"] / arguments.shorten))
    checkpoints = Path(os.environ.get("CHECKPOINTS", tempfile.gettempdir()))
    workflow, seconds = train(arguments.model, checkpoints, budget)
    folder = arguments.output or Path(str(weights_folder(arguments.model)))
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(workflow.estimator, folder / "weights.npz")
    card = make_card(arguments.model, workflow, budget, seconds)
    card["sha256"] = hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
