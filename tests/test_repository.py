"""The repository agrees with itself: versions, environments, pages, and what make relies on."""

import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import package_cache
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import abmtools

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LARGEST_FILE = 3_000_000  # bytes
# What runs the networks in a reader's browser, compressed.
LARGER_FILES = {"book/assets/live/onnxruntime/ort-wasm-simd-threaded.wasm.gz": 4_000_000}
PACKAGES = (
    "structures", "models", "networks", "inference", "diagnostics", "plots", "stan", "datasets",
    "jobs", "heterogeneity", "refinement",
)  # fmt: skip


def committed_files():
    """Files of the repository; where git cannot tell, all but environments and builds."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        generated = {".venv", "_build", "dist"}
        paths = [p for p in ROOT.rglob("*") if p.relative_to(ROOT).parts[0] not in generated]
    return [path for path in paths if path.is_file()]


def public_names():
    """What the package and its parts declare public, with its name; two may share a name."""
    packages = [abmtools, *(importlib.import_module(f"abmtools.{name}") for name in PACKAGES)]
    return [(name, getattr(package, name)) for package in packages for name in package.__all__]


def conda_requirements():
    """Conda's requirements by name, under the names that PyPI has for them."""
    lines = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    parts = [re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines]
    names = {"pytorch-cpu": "torch"}
    return {names.get(name, name): specifier for name, specifier in parts}


def test_versions_agree():
    version = PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == version
    assert re.search(r"^## (\S+)", changelog, flags=re.MULTILINE).group(1) == version
    assert importlib.metadata.version("abmtools") == version


def test_conda_environment_agrees_with_pyproject():
    conda = conda_requirements()
    required = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    shared = conda.keys() & required.keys()
    assert shared == {"cmdstanpy", "torch"}
    assert {name: SpecifierSet(conda[name]) for name in shared} == {
        name: required[name] for name in shared
    }
    assert conda["python"].lstrip("=") in SpecifierSet(PROJECT["requires-python"])
    assert "cmdstan" in conda


def test_conda_environment_installs_the_package_with_its_extras():
    (by_pip,) = (e["pip"] for e in ENVIRONMENT["dependencies"] if isinstance(e, dict))
    assert by_pip == ["--editable .[book,test]"]
    assert {"book", "test"} <= PROJECT["optional-dependencies"].keys()


def test_files_are_small():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in committed_files()}
    assert "pyproject.toml" in sizes
    limits = {name: LARGER_FILES.get(name, LARGEST_FILE) for name in sizes}
    assert {name: size for name, size in sizes.items() if size > limits[name]} == {}


def test_table_of_contents_lists_every_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    listed = {f"{page}.md" for page in [toc["root"], *pages]}
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "book").rglob("*.md")}
    assert listed == found


def test_reference_documents_every_public_name():
    """The module that defines it is on a page of the reference."""
    pages = "".join(page.read_text() for page in (ROOT / "book" / "reference").glob("*.md"))
    documented = set(re.findall(r"automodule:: (\S+)$", pages, flags=re.MULTILINE))
    modules = {getattr(x, "__module__", None) or type(x).__module__ for _, x in public_names()}
    assert {module for module in modules if module.startswith("abmtools")} <= documented


def test_public_objects_have_the_comment_that_the_reference_shows():
    """Without it, Sphinx leaves out what is neither class, function nor module."""
    kinds = (inspect.isclass, inspect.isroutine, inspect.ismodule)
    objects = {name for name, x in public_names() if not any(is_kind(x) for is_kind in kinds)}
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("abmtools/**/*.py"))
    commented = set(re.findall(r"^#: .+\n(\w+)(?:: .+)? = ", sources, flags=re.MULTILINE))
    assert {"ordered", "simplex"} <= objects <= commented


def test_readme_opens_with_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\bmake \w+", readme)[:2] == ["make book", "make test"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_commands_that_exist(name):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^    |`)make ([\w-]+)", text, flags=re.MULTILINE))
    assert {"book", "test"} <= named <= targets


@pytest.fixture
def package(tmp_path):
    """A small package with a file of each kind."""
    files = ["pyproject.toml", "abmtools/a.py", "abmtools/stan/programs/a.stan"]
    for name in [*files, "abmtools/inference/weights/a/weights.h5"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    [
        "pyproject.toml",
        "abmtools/a.py",
        "abmtools/b.py",
        "abmtools/stan/programs/a.stan",
        "abmtools/inference/weights/a/weights.h5",
    ],
)
def test_pages_run_again_after_a_change_in(package, changed):
    before = package_cache.package_hash(package)
    (package / changed).write_text("two")
    assert package_cache.package_hash(package) != before


@pytest.mark.parametrize(
    "made", ["abmtools/__pycache__/a.pyc", "abmtools/stan/programs/a", "book/page.md", "README.md"]
)
def test_pages_do_not_run_again_for(package, made):
    before = package_cache.package_hash(package)
    path = package / made
    path.parent.mkdir(exist_ok=True)
    path.write_text("two")
    assert package_cache.package_hash(package) == before


def find_python(tmp_path, **environment):
    """Run tools/find_python.sh with no uv, no pyenv and nothing but the given environment."""
    environment = {"PATH": "/nowhere", "HOME": str(tmp_path)} | environment
    command = ["/bin/sh", str(ROOT / "tools" / "find_python.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def interpreter(tmp_path):
    """Make an executable that stands for Python: this one, or one that is too old."""

    def make(path, *, suits):
        path = tmp_path / path
        path.parent.mkdir(parents=True)
        path.write_text(
            f'#!/bin/sh\nexec {sys.executable} "$@"\n' if suits else "#!/bin/sh\nexit 1\n"
        )
        path.chmod(0o755)
        return path

    return make


def test_python_on_path(tmp_path, interpreter):
    python = interpreter("bin/python3.13", suits=True)
    assert find_python(tmp_path, PATH=str(python.parent)).stdout.strip() == str(python)


def test_python_through_uv(tmp_path, interpreter):
    python = interpreter("managed/python", suits=True)
    uv = interpreter("bin/uv", suits=False)
    uv.write_text(f'#!/bin/sh\n[ "$1 $2" = "python find" ] && echo {python}\n')
    assert find_python(tmp_path, PATH=str(uv.parent)).stdout.strip() == str(python)


def test_python_in_pyenv_behind_an_old_one_on_path(tmp_path, interpreter):
    old = interpreter("bin/python3", suits=False)
    python = interpreter(".pyenv/versions/3.13.0/bin/python", suits=True)
    assert find_python(tmp_path, PATH=f"{old.parent}").stdout.strip() == str(python)


@pytest.mark.parametrize("name", ["", "bin/python3"])
def test_no_python_says_how_to_get_one(tmp_path, interpreter, name):
    given = {"PYTHON": str(interpreter(name, suits=False))} if name else {}
    result = find_python(tmp_path, **given)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "needs Python 3.12 or 3.13" in result.stderr
    assert "uv python install" in result.stderr


def test_ci_runs_lint_tests_and_book():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = re.findall(r"^make (\w+)", script.read_text(), flags=re.MULTILINE)
    assert commands == ["lint", "test", "book"]
