"""What the benchmarks write down, and the table that the book shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import record
from record import Report, Target, make_table, markdown, not_run, number

ROOT = Path(__file__).parents[1]
SCRIPTS = {path.stem for path in (ROOT / "benchmarks").glob("bench_*.py")}
RUN = {"machine", "versions", "commit", "date", "command"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "met", "target"),
    [
        ({"at_most": 0.5}, True, "≤ 0.5"),
        ({"at_most": 0.49}, False, "≤ 0.49"),
        ({"at_least": 0.5}, True, "≥ 0.5"),
        ({"at_least": 30}, False, "≥ 30"),
        ({}, None, ""),
        ({"at_most": None}, None, ""),
    ],
)
def test_target_is_met(options, met, target):
    made = Target("x", 0.5, **options)
    assert made.met is met
    assert made.target == target


@pytest.mark.parametrize("bound", ["at_most", "at_least"])
def test_a_number_that_is_none_meets_no_target(bound):
    assert Target("x", float("nan"), **{bound: 1.0}).met is False


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.00001234, "0.0000123"), (1731.4, "1731"), (-1.2334, "-1.23"), (30, "30"), (0.0, "0")],
)
def test_numbers_are_written_without_exponents(x, text):
    assert number(x) == text


@pytest.mark.parametrize(
    ("measured", "error", "text"),
    [
        (0.0123456, 0.0213, "0.012 (s.e. 0.021)"),
        (-0.0000002, 0.000015, "0.000000 (s.e. 0.000015)"),
        (123.4, 25.0, "123 (s.e. 25)"),
        (0.5, 0.0, "0.5"),
    ],
)
def test_numbers_have_the_digits_that_their_error_allows(measured, error, text):
    assert Target("x", measured, error=error).value == text


def test_targets_keep_all_their_digits():
    assert Target("x", 0.0, at_most=-1.233).target == "≤ -1.233"


def test_a_report_prints_and_keeps(results, capsys):
    with Report("bench_speed.py", "gaussian_mixture") as report:
        report.add("faster", 24.04, unit="times", at_least=30)
        report.add("gap", 0.0123, unit="nats", error=0.002, at_most=0.05)
    printed = capsys.readouterr().out
    assert "24 times, target ≥ 30: MISSED" in printed
    assert "0.0123 nats (s.e. 0.0020), target ≤ 0.05: met" in printed
    run = json.loads((results / "bench_speed.json").read_text())["gaussian_mixture"]
    assert run.keys() == RUN | {"rows", "seconds"}
    assert [row["met"] for row in run["rows"]] == [False, True]
    assert run["command"] == "make bench BENCH=bench_speed"
    assert run["machine"]["cores"] >= 1


def test_a_run_replaces_its_own_part_only(results):
    for topic, measured in [("gaussian_hmm", 1), ("gaussian_mixture", 2), ("gaussian_hmm", 3)]:
        with Report("bench_accuracy.py", topic, flags=topic) as report:
            report.add("gap", measured)
    rows = make_table(results)
    assert [(row["topic"], row["measured"]) for row in rows] == [
        ("Gaussian mixture", 2),
        ("Gaussian HMM", 3),
    ]
    assert rows[1]["command"].endswith("BENCH=bench_accuracy BENCH_FLAGS=gaussian_hmm")


def test_a_run_that_fails_writes_nothing(results):
    def run():
        with Report("bench_speed.py", "package") as report:
            report.add("gap", 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert list(results.iterdir()) == []


def test_unknown_topic():
    with pytest.raises(ValueError, match=r"topic: expected one of .*, got 'poisson'"):
        Report("bench_speed.py", "poisson")


def test_the_table_says_what_is_missed(results):
    with Report("bench_speed.py", "package") as report:
        report.add("good", 1, at_most=2)
        report.add("bad", 3, at_most=2)
        report.add("p(K | y) known", 4)
    table = markdown(make_table(results), [])
    assert table.startswith("1 of 2 targets are met.\n")
    assert "| The package | good | ≤&nbsp;2 | 1 | met | `bench_speed` |" in table
    assert "|  | bad | ≤&nbsp;2 | 3 | **missed** | `bench_speed` |" in table
    assert "|  | p(K \\| y) known |  | 4 |  | `bench_speed` |" in table


def test_the_table_in_the_repository_is_that_of_its_files():
    rows = make_table(ROOT / "benchmarks" / "results")
    folder = ROOT / "benchmarks" / "results"
    assert json.loads((folder / "table.json").read_text(encoding="utf-8")) == rows
    assert (folder / "table.md").read_text(encoding="utf-8") == markdown(rows, not_run(folder))
    for row in rows:
        target = Target(**{key: row[key] for key in Target.__dataclass_fields__})
        assert row["met"] == target.met
        assert row.keys() >= RUN


def test_scripts_without_numbers_are_named(results):
    with Report("bench_speed.py", "package") as report:
        report.add("known", 4)
    missing = not_run(results)
    assert set(missing) == SCRIPTS - {"bench_speed"}
    first = markdown(make_table(results), missing).splitlines()[0]
    assert all(f"`{name}`" in first for name in missing)
    assert "`bench_speed`" not in first


def test_numbers_are_of_scripts_that_are_there():
    written = {path.stem for path in (ROOT / "benchmarks" / "results").glob("bench_*.json")}
    assert written
    assert written <= SCRIPTS


def test_make_bench_runs_what_it_is_told():
    command = ["make", "--dry-run", "--no-print-directory", "bench", "BENCH=bench_a bench_b"]
    done = subprocess.run(
        [*command, "BENCH_FLAGS=gaussian_hmm"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "for name in bench_a bench_b; do" in done.stdout
    assert re.search(r'"benchmarks/\$name\.py" gaussian_hmm', done.stdout)
    assert "benchmarks/record.py" in done.stdout


def test_import_of_the_recorder_is_cheap():
    """Scripts set the environment of Keras and torch after it may have been imported."""
    code = "import sys, record; assert not {'torch', 'keras', 'abmtools'} & set(sys.modules)"
    folder = ROOT / "benchmarks"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
