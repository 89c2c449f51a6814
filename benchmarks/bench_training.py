"""How long the shipped networks were trained, as their cards say; `make train` does it again.

And a step of such a training on JAX, where glibc keeps the memory of the step before, as in
`make train`, and where it gives that back to the system.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from record import Report

from abmtools.inference.pretrained import ARCHITECTURES, weights_folder

TARGETS = {"gaussian_mixture": 90, "gaussian_hmm": 90}  # minutes on a CPU, at most

KEPT = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1"}
STEP = """
import time
import keras
import train

workflow = train.ARCHITECTURES["evidence_hmm"](seed=1)
workflow.optimizer = train.make_muon(1e-3, 300)
model = train.abmtools.EvidenceAccumulationHMM(num_obs=400)
starts = []
clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: starts.append(time.perf_counter()))
workflow.fit_online(
    3, num_batches_per_epoch=100, batch_size=64, verbose=0, simulator=model, callbacks=[clock]
)
print((time.perf_counter() - starts[1]) / 200)  # the first epoch compiles
"""


def step(memory: dict) -> float:
    """Seconds of a step that trains evidence_hmm, on one thread, with settings of glibc."""
    environment = {name: value for name, value in os.environ.items() if name not in KEPT}
    environment |= memory | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    command = [sys.executable, "-c", STEP]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    for name in ARCHITECTURES:
        card = json.loads((weights_folder(name) / "card.json").read_text(encoding="utf-8"))
        num_datasets = card["budget"]["num_datasets"] / 1e6
        with Report(__file__, name) as report:
            report.add(
                f"training from scratch, {num_datasets:.1f} million data sets ({card['hardware']})",
                card["seconds"] / 60,
                unit="minutes",
                at_most=TARGETS.get(name),
            )
            if name == "evidence_hmm":
                for what, memory in {"kept": KEPT, "given back": {}}.items():
                    report.add(f"a step of training, memory {what}", 1e3 * step(memory), unit="ms")


if __name__ == "__main__":
    main()
