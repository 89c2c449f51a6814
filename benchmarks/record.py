"""What the benchmarks measured: one file for each script, and one table of all.

A script opens a `Report` for each thing that it measures. `Report.add` prints a number beside its
target; when the block ends, the numbers are in ``results/SCRIPT.json`` with the date, the machine,
the versions and the commit. ``python benchmarks/record.py``, which ``make bench`` runs last, writes
``results/table.json`` and ``results/table.md`` from all these files. Runs of one part of a script
replace that part only.
"""

import json
import math
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

__all__ = ["Report", "Target", "make_table", "markdown", "not_run"]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("abmtools", "bayesflow", "keras", "torch", "numpy", "arviz", "stanli")
TOPICS = {  # the order of the table
    "gaussian_mixture": "Gaussian mixture",
    "gaussian_hmm": "Gaussian HMM",
    "evidence_hmm": "Guessing or thinking",
    "lca_hmm": "Leaky accumulators",
    "speeded_comparison": "Wald or leaky",
    "component_count": "How many components",
    "package": "The package",
}


# --- a number and its target ----------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A measured number, and what it should be at most or at least; without either it just is.

    `error` is its standard error over data sets.
    """

    what: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    error: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.measured >= self.at_least
        below = self.at_most is None or self.measured <= self.at_most
        return bool(above and below)

    @property
    def value(self) -> str:
        """The number as it is printed, with the digits that its error allows."""
        unit = self.unit and f" {self.unit}"
        if not self.error:
            return f"{number(self.measured)}{unit}"
        digits = max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.measured:z.{digits}f}{unit} (s.e. {self.error:.{digits}f})"

    @property
    def target(self) -> str:
        """The target as it is printed."""
        if self.at_most is not None:
            return f"≤ {exact(self.at_most)}"
        return "" if self.at_least is None else f"≥ {exact(self.at_least)}"

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.met]


def number(x: float) -> str:
    """Three digits, and all those before the point."""
    return exact(float(f"{x:.3g}") if abs(x) < 1000 else round(x))


def exact(x: float) -> str:
    """All digits, and no exponent."""
    return np.format_float_positional(x, trim="-")


# --- one run --------------------------------------------------------------------------------------


class Report:
    """The numbers of one run of (a part of) a script.

    Parameters
    ----------
    script : str
        Its ``__file__``.
    topic : str
        A key of `TOPICS`.
    flags : str
        What the script was told, if that part of it runs by itself.
    """

    def __init__(self, script: str, topic: str, flags: str = ""):
        if topic not in TOPICS:
            raise ValueError(f"topic: expected one of {list(TOPICS)}, got {topic!r}.")
        self.script, self.topic, self.flags = Path(script).stem, topic, flags
        self.targets: list[Target] = []

    def __enter__(self):
        self.start = time.perf_counter()
        print(f"== {TOPICS[self.topic]}", flush=True)
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.save()

    def add(self, what: str, measured, *, error=None, **options) -> None:
        """Print a number beside its target, and keep both; `options` are those of `Target`."""
        error = None if error is None else float(error)
        target = Target(what, float(measured), error=error, **options)
        self.targets.append(target)
        aim = f", target {target.target}: {target.verdict}" if target.target else ""
        print(f"{what:<62} {target.value}{aim}", flush=True)

    @property
    def command(self) -> str:
        return f"make bench BENCH={self.script}" + (self.flags and f" BENCH_FLAGS={self.flags}")

    def save(self) -> None:
        """Write the numbers to the script's file, in place of those of an earlier run."""
        path = RESULTS / f"{self.script}.json"
        runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        runs[self.topic] = {
            "command": self.command,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(time.perf_counter() - self.start),
            "machine": machine(),
            "versions": {"python": platform.python_version()} | {x: version(x) for x in PACKAGES},
            "commit": commit(),
            "rows": [asdict(target) | {"met": target.met} for target in self.targets],
        }
        RESULTS.mkdir(exist_ok=True)
        ordered = {topic: runs[topic] for topic in TOPICS if topic in runs}
        path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict:
    """Processor, the cores that this process may use, and GPU."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(usable),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """The commit of the tree, and whether the code has changed since; None without git."""

    def git(*arguments):
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "abmtools", "benchmarks/*.py")
        return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


# --- the table ------------------------------------------------------------------------------------


def make_table(results: Path = RESULTS) -> list[dict]:
    """The rows of all files, in the order of `TOPICS`."""
    paths = sorted(results.glob("bench_*.json"))
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    rows = []
    for topic in TOPICS:
        for run in (run[topic] for run in runs if topic in run):
            about = {key: value for key, value in run.items() if key not in ("rows", "seconds")}
            rows += [{"topic": TOPICS[topic]} | row | about for row in run["rows"]]
    return rows


def not_run(results: Path = RESULTS) -> list[str]:
    """Scripts that have no numbers there."""
    scripts = {path.stem for path in Path(__file__).parent.glob("bench_*.py")}
    return sorted(scripts - {path.stem for path in results.glob("bench_*.json")})


def markdown(rows: list[dict], missing: list[str]) -> str:
    """The table as Markdown, under a line that counts, above a list of the runs.

    `missing` are scripts whose numbers the rows lack.
    """
    judged = [row["met"] for row in rows if row["met"] is not None]
    absent = ", ".join(f"`{name}`" for name in missing)
    lines = [
        f"{sum(judged)} of {len(judged)} targets are met."
        + (f" Numbers of these scripts are missing: {absent}." if missing else ""),
        "",
        "| about | what | target | measured | | `make bench BENCH=` |",
        "|---|---|---|---|---|---|",
    ]
    previous = None
    for row in rows:
        target = Target(**{key: row[key] for key in Target.__dataclass_fields__})
        topic = "" if row["topic"] == previous else row["topic"]
        verdict = f"**{target.verdict.lower()}**" if target.met is False else target.verdict
        script = row["command"].split("BENCH=")[1].split()[0]
        what = target.what.replace("|", "\\|")
        aim = target.target.replace(" ", "&nbsp;")
        cells = (topic, what, aim, target.value, verdict, f"`{script}`")
        lines.append(f"| {' | '.join(cells)} |")
        previous = row["topic"]
    return "\n".join([*lines, "", *_runs(rows)]) + "\n"


def _runs(rows: list[dict]) -> list[str]:
    """Where and when each command was run."""
    runs = {}
    for row in rows:
        cores = f"{row['machine']['cores']} core{'s' if row['machine']['cores'] > 1 else ''}"
        gpu = row["machine"]["gpu"]
        versions = ", ".join(f"{name} {x}" for name, x in row["versions"].items())
        place = f"{row['machine']['processor']}, {cores}, {gpu or 'no GPU'}; {versions}"
        script = row["command"].split("BENCH=")[1]
        entry = f"`{script}`, {row['topic']}: {row['date']}, commit {row['commit']}"
        runs.setdefault(place, {})[entry] = None
    return [
        line
        for place, entries in runs.items()
        for line in (f"{place}:", "", *(f"- {entry}" for entry in entries), "")
    ]


def main() -> None:
    rows = make_table()
    (RESULTS / "table.json").write_text(
        json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (RESULTS / "table.md").write_text(markdown(rows, not_run()), encoding="utf-8")
    judged = [row["met"] for row in rows if row["met"] is not None]
    print(f"{sum(judged)} of {len(judged)} targets met; benchmarks/results/table.md lists them.")


if __name__ == "__main__":
    main()
