"""Continuous integration, and PROFILE=gpu: what runs where, and on a GPU that is really used."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import numpy as np
import package_cache
import pytest
import require_gpu
import torch
import yaml

from abmtools import load_pretrained
from abmtools.inference import load_weights
from abmtools.inference.pretrained import ARCHITECTURES, weights_folder
from abmtools.networks import LikelihoodCorrection

ROOT = Path(__file__).parents[1]
NAME = "gaussian_mixture"
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# YAML 1.1 reads the key `on` as true, so every scalar is left a string.
WORKFLOWS = {p.stem: yaml.load(p.read_text(encoding="utf-8"), yaml.BaseLoader) for p in FILES}
JOBS = [(name, key) for name, workflow in WORKFLOWS.items() for key in workflow["jobs"]]


def commands(job: dict) -> list[str]:
    return [step["run"].strip() for step in job["steps"] if "run" in step]


# --- workflows ------------------------------------------------------------------------------------


def test_there_is_a_workflow_for_each_duty():
    assert set(WORKFLOWS) == {"tests", "book", "links", "release"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path):
    uses = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert uses
    assert [x for x in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", x)] == []


def test_an_action_has_one_version():
    pins = {}
    for path in FILES:
        for name, pin in re.findall(r"uses: ([\w./-]+)@(.*)", path.read_text(encoding="utf-8")):
            pins.setdefault(name, set()).add(pin)
    assert {name: pin for name, pin in pins.items() if len(pin) > 1} == {}


@pytest.mark.parametrize(("name", "key"), JOBS)
def test_jobs_have_no_rights_that_they_do_not_name(name, key):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow["on"]
    job = workflow["jobs"][key]
    assert "timeout-minutes" in job
    writes = {right for right, level in job["permissions"].items() if level == "write"}
    assert writes <= {"report": {"issues"}, "links": {"issues"}}.get(key, {"pages", "id-token"})
    if writes & {"pages", "id-token"}:
        assert key == "publish"
        assert commands(job) == []


def test_pull_requests_run_tests_and_book_on_every_python_with_oldest_and_newest_dependencies():
    workflow = WORKFLOWS["tests"]
    assert {"pull_request", "push", "schedule"} <= workflow["on"].keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.compile(r"Programming Language :: Python :: (\d\.\d+)")
    supported = [found[1] for found in map(version.fullmatch, project["classifiers"]) if found]
    matrix = workflow["jobs"]["book"]["strategy"]["matrix"]
    assert matrix == {"python": supported, "dependencies": ["oldest", "newest"]}
    run = commands(workflow["jobs"]["book"]) + commands(workflow["jobs"]["lint"])
    assert {"make lint", "make test", "make book"} <= set(run)


def test_pages_are_cached_by_what_their_cache_depends_on():
    (step,) = [s for s in WORKFLOWS["tests"]["jobs"]["book"]["steps"] if "key" in s.get("with", {})]
    assert step["if"] == "github.event_name != 'schedule'"
    assert "restore-keys" not in step["with"]
    for path in ("pyproject.toml", "abmtools/**", "book/*.md"):
        assert f"'{path}'" in step["with"]["key"]
    package_files = package_cache.package_files(ROOT)
    assert {p.relative_to(ROOT).parts[0] for p in package_files} == {"abmtools", "pyproject.toml"}


def test_book_runs_on_a_gpu_for_main_tags_and_a_label_and_weekly():
    on = WORKFLOWS["book"]["on"]
    assert on["push"] == {"branches": ["main"], "tags": ["v*"]}
    assert on["pull_request"] == {"types": ["labeled"]}
    assert on["schedule"]
    job = WORKFLOWS["book"]["jobs"]["gpu"]
    assert "vars.GPU_RUNNER" in job["runs-on"]
    assert "github.event.label.name == 'gpu'" in job["if"]


def test_gpu_is_asked_for_before_anything_is_computed():
    run = commands(WORKFLOWS["book"]["jobs"]["gpu"])
    assert run[0] == "nvidia-smi"
    assert WORKFLOWS["book"]["jobs"]["gpu"]["steps"][0]["run"] == "nvidia-smi"
    assert run[-2:] == ["make gpu PROFILE=gpu", "make book PROFILE=gpu"]


def test_nothing_of_an_earlier_run_reaches_the_book_on_a_gpu():
    steps = WORKFLOWS["book"]["jobs"]["gpu"]["steps"]
    assert not any("actions/cache" in step.get("uses", "") for step in steps)
    (setup,) = [step for step in steps if "setup-uv" in step.get("uses", "")]
    assert setup["with"]["enable-cache"] == "false"


def test_weekly_runs_start_without_any_cache():
    for job in WORKFLOWS["tests"]["jobs"].values():
        for step in job["steps"]:
            if "setup-uv" in step.get("uses", ""):
                expected = "${{ github.event_name != 'schedule' }}"
                assert step["with"]["enable-cache"] == expected


def test_every_built_book_is_looked_at_in_a_browser():
    (step,) = [
        x for x in WORKFLOWS["tests"]["jobs"]["book"]["steps"] if x.get("run") == "make book"
    ]
    assert step["env"]["CHECK_FLAGS"] == "--browser required"
    assert (
        "check_pages.py _build/html --browser required"
        in dry_run("book", "CHECK_FLAGS=--browser required").stdout
    )
    checked = commands(WORKFLOWS["book"]["jobs"]["pages"])
    assert checked == ["python3 tools/check_pages.py _build/html --browser required"]


def test_weekly_failures_are_reported_also_where_something_ran_out_of_time():
    for name in ("tests", "book"):
        report = WORKFLOWS[name]["jobs"]["report"]
        others = {key for key in WORKFLOWS[name]["jobs"] if key not in ("report", "publish")}
        assert set(report["needs"]) == others
        assert "always()" in report["if"]
        assert "'cancelled'" in report["if"]


def test_only_main_is_published():
    publish = WORKFLOWS["book"]["jobs"]["publish"]
    assert publish["needs"] == ["gpu", "pages"]
    assert publish["if"] == "github.event_name == 'push' && github.ref == 'refs/heads/main'"


def test_a_release_is_built_from_a_tag_and_published_without_a_password():
    workflow = WORKFLOWS["release"]
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    publish = workflow["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "with" not in publish["steps"][-1]


# --- make -----------------------------------------------------------------------------------------


def dry_run(*arguments):
    """What make would run."""
    names = ("MAKEFLAGS", "MAKELEVEL", "ABMTOOLS_WEIGHTS", "PROFILE", "TRAIN_BACKEND")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    command = ["make", "--dry-run", "--assume-old=.venv/.abmtools-installed", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def trained(output: str) -> list[str]:
    return re.findall(r'benchmarks/train.py --model "(\w+)"', output)


def budgets() -> list[str]:
    """Names of the networks that benchmarks/train.py can train."""
    return list(load_train().BUDGETS)


def load_train():
    spec = importlib.util.spec_from_file_location("train", ROOT / "benchmarks" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_train_all_trains_every_network_and_the_comparison_after_what_it_compares():
    names = trained(dry_run("train-all").stdout)
    assert len(names) == len(set(names))
    assert set(names) == set(ARCHITECTURES) == set(budgets())
    assert names.index("speeded_comparison") > names.index("evidence_hmm")
    assert names.index("speeded_comparison") > names.index("lca_hmm")


def test_shortened_training_has_so_many_times_fewer_steps():
    """Epochs first; where one is still too long, a share of it."""
    train = load_train()
    for budget in train.BUDGETS.values():
        assert train.shorten(budget, 1) == budget
        for factor in (2, 1000):
            short = train.shorten(budget, factor)
            parts = (
                budget["epochs"] if isinstance(budget["epochs"], dict) else {"": budget["epochs"]}
            )
            fewer = short["epochs"] if isinstance(short["epochs"], dict) else {"": short["epochs"]}
            largest = max(parts, key=parts.get)
            steps = fewer[largest] * short["num_batches_per_epoch"]
            expected = parts[largest] * budget["num_batches_per_epoch"] / factor
            assert abs(steps - expected) <= max(1, 0.25 * expected)
            assert min(fewer.values()) >= 1
    second = train.shorten(train.BUDGETS["evidence_hmm"], 12)["heterogeneous"][0]
    assert (second["epochs"], second["num_datasets"]) == (3, 6016)
    last = train.shorten(train.BUDGETS["evidence_hmm"], 450)["heterogeneous"][-1]
    assert (last["epochs"], last["num_batches_per_epoch"]) == (1, 175)
    correction = train.shorten(train.BUDGETS["evidence_hmm"], 10)["correction"]
    assert (correction["epochs"], correction["num_datasets"]) == (2, 4096)


def test_profile_gpu_checks_the_gpu_trains_everything_then_builds_the_book():
    output = dry_run("book", "PROFILE=gpu").stdout
    steps = ["nvidia-smi", "tools/require_gpu.py >", "train.py", "--trained", "jupyter-book build"]
    positions = [output.index(step) for step in steps]
    assert positions == sorted(positions)
    assert set(trained(output)) == set(ARCHITECTURES)
    assert f'mkdir -p "{ROOT}/_build/weights"' in output


def test_profile_cpu_trains_nothing():
    for arguments in (["book"], ["book", "PROFILE=cpu"]):
        output = dry_run(*arguments).stdout
        assert "jupyter-book build" in output
        assert "train" not in output
        assert "require_gpu" not in output


def test_unknown_profile():
    result = dry_run("book", "PROFILE=tpu")
    assert result.returncode != 0
    assert "PROFILE: expected cpu or gpu, got tpu" in result.stderr


# --- the GPU --------------------------------------------------------------------------------------


def test_no_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["require_gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="expected a GPU that PyTorch can use, got none"):
        require_gpu.main()


def test_keras_on_a_cpu_is_an_error(monkeypatch):
    """A GPU is there and Keras computes elsewhere."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(keras.ops, "matmul", lambda a, b: torch.ones(2, 2, device="cpu"))
    with pytest.raises(SystemExit, match="expected Keras to compute on cuda, got cpu"):
        require_gpu.check_torch()


@pytest.mark.parametrize(("found", "backend"), [("gpu", "jax"), ("cpu", "torch")])
def test_jax_trains_where_it_finds_the_gpu(monkeypatch, found, backend):
    class Jax:
        default_backend = staticmethod(lambda: found)

    monkeypatch.setitem(sys.modules, "jax", Jax)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert require_gpu.training_backend() == backend


def test_torch_trains_where_there_is_no_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert require_gpu.training_backend() == "torch"


@pytest.mark.parametrize(
    ("hardware", "fault"),
    [
        ("x86_64, gpu:0", None),
        ("x86_64, cuda:0", None),
        ("x86_64, cpu:0", "expected lca_hmm trained on a GPU, got 'x86_64, cpu:0'"),
        (
            "x86_64, cpu, then x86_64, gpu:0",
            "expected lca_hmm trained on a GPU, got 'x86_64, cpu, ",
        ),
        ("x86_64, gpu:0, then x86_64, gpu:0", None),
        (None, r"expected a trained network with .*card\.json, got none"),
    ],
)
def test_cards_say_where_networks_were_trained(tmp_path, monkeypatch, hardware, fault):
    (tmp_path / "lca_hmm").mkdir()
    if hardware:
        card = json.dumps({"hardware": hardware})
        (tmp_path / "lca_hmm" / "card.json").write_text(card, encoding="utf-8")
    arguments = ["require_gpu.py", "--trained", str(tmp_path), "lca_hmm"]
    monkeypatch.setattr(sys, "argv", arguments)
    if fault is None:
        require_gpu.main()
    else:
        with pytest.raises(SystemExit, match=fault):
            require_gpu.main()


# --- ABMTOOLS_WEIGHTS -----------------------------------------------------------------------------


@pytest.fixture
def retrained(tmp_path, monkeypatch):
    """A folder with one network, trained by benchmarks/train.py for two steps."""
    train = load_train()
    tiny = {"epochs": 1, "num_batches_per_epoch": 2, "batch_size": 4}
    monkeypatch.setitem(train.BUDGETS, NAME, {"seed": 3, "learning_rate": 1e-3} | tiny)
    monkeypatch.setattr(train, "distance_to_exact", lambda workflow, simulated: {})
    monkeypatch.setattr(sys, "argv", ["train.py", "--model", NAME])
    monkeypatch.setenv("CHECKPOINTS", str(tmp_path / "checkpoints"))
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("ABMTOOLS_WEIGHTS", str(folder))
    train.main()
    return folder


def test_trained_networks_are_found_through_the_variable(retrained, monkeypatch):
    assert sorted(p.name for p in (retrained / NAME).iterdir()) == ["card.json", "weights.npz"]
    workflow = load_pretrained(NAME)
    assert workflow.card["budget"]["num_datasets"] == 8
    assert workflow.card["hardware"].endswith(str(keras.ops.zeros(()).device))
    monkeypatch.delenv("ABMTOOLS_WEIGHTS")
    shipped = load_pretrained(NAME)
    assert shipped.card != workflow.card
    pairs = zip(workflow.estimator.get_weights(), shipped.estimator.get_weights(), strict=True)
    assert not all(np.array_equal(a, b) for a, b in pairs)


def test_rounds_on_heterogeneous_data(tmp_path, monkeypatch):
    """They go on from weights with a card, and the new card tells of all training.

    Then the network has a correction, which the weights that it goes on from do not have.
    """
    train, first = load_train(), weights_folder("gaussian_hmm")
    card = json.loads((first / "card.json").read_text(encoding="utf-8"))
    sizes = {"num_batches_per_epoch": 2, "batch_size": 4}
    budget = card["budget"] | sizes | {"epochs": 1}
    own = {"num_datasets": 8, "learning_rate": 1e-4}
    budget["heterogeneous"] = [own | {"epochs": 3}]
    monkeypatch.setitem(train.BUDGETS, "gaussian_hmm", budget)
    monkeypatch.setattr(train, "NUM_FRESH", 6)
    monkeypatch.setattr(train, "num_cores", lambda: 1)  # a process takes seconds to start
    monkeypatch.setattr(train, "distance_to_exact", lambda workflow, simulated: {})

    architecture = train.ARCHITECTURES["gaussian_hmm"]

    def corrected(**options):
        return architecture(**{"correction": LikelihoodCorrection()} | options)

    def run_here(command, **options):  # what a process on torch does otherwise
        monkeypatch.setattr(sys, "argv", command[1:])
        train.main()

    monkeypatch.setattr(train.subprocess, "run", run_here)
    monkeypatch.setenv("CHECKPOINTS", str(tmp_path / "checkpoints"))
    environment, seconds = dict(os.environ), card["seconds"]
    for rounds, epochs in [(1, 3), (2, 5)]:
        budget["heterogeneous"] = [own | {"epochs": n} for n in (3, 2)[:rounds]]
        if rounds == 2:
            monkeypatch.setitem(train.ARCHITECTURES, "gaussian_hmm", corrected)
            budget["correction"] = own | {"epochs": 4, "batch_size": 4}
        output = tmp_path / str(rounds)
        arguments = ["--go-on", str(first / "weights.npz"), "--output", str(output)]
        monkeypatch.setattr(sys, "argv", ["train.py", "--model", "gaussian_hmm", *arguments])
        train.main()
        assert dict(os.environ) == environment
        found = json.loads((output / "card.json").read_text(encoding="utf-8"))
        assert found["curve"]["loss"] == card["curve"]["loss"]
        assert len(found["curve"]["heterogeneous"]["loss"]) == epochs
        assert len(found["rounds"]) == rounds
        assert all(0 < x["num_datasets"] <= 6 for x in found["rounds"])
        assert found["seconds"] >= seconds
        again = 4 * 8 if rounds == 2 else 0
        assert found["budget"]["num_datasets"] == (1 + epochs) * 2 * 4 + again
        assert not list((tmp_path / "checkpoints").iterdir())
        first, seconds = output, found["seconds"]
    assert len(found["curve"]["correction"]["loss"]) == 4
    assert found["correction"]["after"] != found["correction"]["before"] > 0
    load_weights(corrected(), output / "weights.npz")


def test_a_network_that_is_not_in_the_folder_is_an_error(tmp_path, monkeypatch):
    """The package's own would be a quiet answer to another question."""
    monkeypatch.setenv("ABMTOOLS_WEIGHTS", str(tmp_path))
    message = rf"{NAME}/weights\.npz: unset ABMTOOLS_WEIGHTS, or run `make train MODEL={NAME}`"
    with pytest.raises(FileNotFoundError, match=message):
        load_pretrained(NAME)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_wrong_folder(tmp_path, monkeypatch, kind):
    path = tmp_path / "weights"
    if kind == "file":
        path.write_text("")
    monkeypatch.setenv("ABMTOOLS_WEIGHTS", str(path))
    for function in (load_pretrained, weights_folder):
        with pytest.raises(NotADirectoryError, match="ABMTOOLS_WEIGHTS: expected a folder that"):
            function(NAME)


def test_empty_variable_is_no_folder(monkeypatch):
    monkeypatch.setenv("ABMTOOLS_WEIGHTS", "")
    assert (weights_folder(NAME) / "card.json").is_file()


@pytest.mark.parametrize("variable", ["ABMTOOLS_WEIGHTS", "ABMTOOLS_DATA"])
def test_pages_run_again_with_other_weights_or_data(tmp_path, monkeypatch, variable):
    monkeypatch.delenv("ABMTOOLS_DATA", raising=False)
    file = tmp_path / "folder" / "file.npz"
    file.parent.mkdir()
    hashes = [package_cache.package_hash(ROOT)]
    monkeypatch.setenv(variable, str(tmp_path))
    for content in ("one", "two"):
        file.write_text(content)
        hashes.append(package_cache.package_hash(ROOT))
    assert len(set(hashes)) == 3
