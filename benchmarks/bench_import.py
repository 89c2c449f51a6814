"""What `import abmtools` adds to importing BayesFlow: seconds in fresh processes, a median."""

import subprocess
import sys

import numpy as np
from record import Report

CODE = """
import time
start = time.perf_counter()
import bayesflow
between = time.perf_counter()
import abmtools
print(between - start, time.perf_counter() - between)
"""
REPETITIONS = 7


def main() -> None:
    times = []
    for _ in range(REPETITIONS):
        command = [sys.executable, "-c", CODE]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append([float(word) for word in done.stdout.split()])
    bayesflow, ours = np.median(times, axis=0)
    with Report(__file__, "package") as report:
        report.add("import bayesflow", bayesflow, unit="s")
        report.add("import abmtools after it", ours, unit="s", at_most=0.3)


if __name__ == "__main__":
    main()
