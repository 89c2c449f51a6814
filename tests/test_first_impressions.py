"""What somebody meets first: README's examples, and the package built and installed elsewhere."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import abmtools as abm
from abmtools.inference.pretrained import ARCHITECTURES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Runs where the wheel is installed, in a process that may not reach any other.
TRIAL = """
import sys
from pathlib import Path

def refuse(event, arguments):
    assert event != "socket.connect", arguments

sys.addaudithook(refuse)

import numpy as np
import abmtools as abm
from abmtools.inference.pretrained import ARCHITECTURES

assert Path(abm.__file__).is_relative_to(sys.prefix), abm.__file__
for name in ARCHITECTURES:
    workflow = abm.load_pretrained(name)
    y = workflow.model.simulate(1, rng=np.random.default_rng(1))["y"]
    posterior = workflow.sample(conditions={"y": y}, num_samples=10)
    print(name, type(posterior).__name__)
for model in (abm.GaussianMixture(), abm.GaussianHMM(), abm.EvidenceAccumulationHMM()):
    assert "generated quantities" in model.stan_program.read_text()
tree = abm.stan.sample(abm.GaussianMixture(), {"y": np.linspace(-3, 3, 30)[:, None]}, seed=1)
assert tree.posterior.sizes["component"] == 3
"""


# --- README ---------------------------------------------------------------------------------------


def examples():
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def thirty_seconds():
    """The names that README's first example leaves behind."""
    names = {}
    exec(examples()[0], names)
    return names


def test_example_of_thirty_seconds(thirty_seconds):
    """It runs, and network and Stan agree as far as two samples of this size can."""
    posterior, reference = thirty_seconds["posterior"], thirty_seconds["reference"]
    comparison = abm.diagnostics.compare(posterior, reference, c2st=False)
    assert comparison.differences["mean"].abs().max() < 0.3
    assert comparison.membership < 0.05
    assert posterior.parameters["means"].shape == (1, 2000, 3)
    np.testing.assert_allclose(posterior.membership.sum(axis=-1), 1, atol=1e-5)


def test_example_of_a_chain(thirty_seconds):
    names = {name: thirty_seconds[name] for name in ("np", "abm")}
    exec(examples()[1], names)
    posterior = names["posterior"]
    num_obs = names["y"].shape[1]
    assert posterior.filtering.shape == posterior.smoothing.shape == (1, 2000, num_obs, 2)


def test_example_of_response_times(monkeypatch, rng):
    """With simulated trials: the real ones have to be downloaded."""
    y = abm.EvidenceAccumulationHMM().simulate(1, rng=rng, num_obs=500)["y"][0]
    trials = pd.DataFrame({"rt": y[:, 0], "correct": y[:, 1].astype(int)})
    monkeypatch.setattr(abm.datasets, "load_dutilh2011", lambda participant: trials)
    names = {"abm": abm}
    exec(examples()[2], names)
    assert names["refined"].posterior.smoothing.shape == (1, 2000, 400, 2)
    exec(examples()[3], names)
    assert names["leaky"].model.name == "LeakyAccumulatorHMM"
    assert names["posterior"].parameters["leak"].shape == (1, 2000)


def test_example_of_how_many(rng):
    sample = np.concatenate([rng.normal(-2, 0.5, 60), rng.normal(2, 0.5, 60)])
    names = {"abm": abm, "sample": sample, "quantity": lambda given: given.log_prob.mean(1)}
    exec(examples()[4], names)
    assert names["posterior"].probabilities.shape == (1, 4)
    assert names["posterior"].probabilities[0].argmax() == 1


def test_picture_has_a_text_and_is_there():
    """By its address, because PyPI shows README, too, and knows no files beside it."""
    ((text, address),) = re.findall(r"^!\[([^\]]+)\]\(([^)]+)\)", README, flags=re.MULTILINE)
    files, path = address.split("/main/")
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com")
    assert files == f"https://raw.githubusercontent.com{repository}"
    assert len(text) > 40
    assert (ROOT / path).stat().st_size < 300_000


def test_badges_lead_to_workflows_and_state_what_the_project_states():
    workflows = re.findall(r"/actions/workflows/([\w.]+)/badge\.svg", README)
    assert workflows == ["tests.yml", "book.yml"]
    assert all((ROOT / ".github" / "workflows" / name).is_file() for name in workflows)
    (versions,) = re.findall(r"^\[!\[Python ([\d. |]+)\]", README, flags=re.MULTILINE)
    stated = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"3\.\d+$", c)]
    assert versions.split(" | ") == stated
    assert f"[![{PROJECT['license']} licence]" in README


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    options = ["--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "build", *options], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {x for x in archive.namelist() if ".dist-info/" not in x}
    suffixes = {".py", ".stan", ".npz", ".json"}
    package = (ROOT / "abmtools").rglob("*")
    expected = {p.relative_to(ROOT).as_posix() for p in package if p.suffix in suffixes}
    assert expected <= inside
    assert {name.split("/")[0] for name in inside} == {"abmtools"}
    for name in ARCHITECTURES:
        folder = f"abmtools/inference/weights/{name}"
        assert {f"{folder}/weights.npz", f"{folder}/card.json"} <= inside
    assert sum(name.endswith(".stan") for name in inside) >= 5


def test_metadata_of_the_wheel_is_complete(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (x for x in archive.namelist() if x.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    for key in ("Name", "Version", "Summary", "Requires-Python", "Author", "Keywords"):
        assert metadata[key], key
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    labels = {entry.split(",")[0] for entry in metadata.get_all("Project-URL")}
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} <= labels
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# abmtools")


def test_wheel_works_in_an_environment_of_its_own(wheel, tmp_path):
    """All shipped networks, the Stan programs and Stan, away from this tree and from the network.

    The dependencies are those of this environment, on the path of the new one. Of abmtools it has
    what the wheel brought: a path file inside a path file's folder is not read.
    """
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    variables = {"base": str(environment), "platbase": str(environment)}
    paths = sysconfig.get_paths(scheme="venv", vars=variables)
    python = Path(paths["scripts"]) / Path(sys.executable).name
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    install = ["-m", "pip", "--python", str(python), "install", *options, str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    (Path(paths["purelib"]) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ABMTOOLS_WEIGHTS")}
    done = subprocess.run(
        [python, "-c", TRIAL], cwd=tmp_path, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ARCHITECTURES)
