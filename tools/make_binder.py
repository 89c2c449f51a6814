"""Write ``.binder/environment.yml`` from ``environment.yml`` and ``pyproject.toml``.

Binder gives 2 GB of memory, no GPU, and a reader who waits while the image is built. So: conda's
torch without CUDA, the requirements of the package and what its notebooks use beside them, and
neither the book's builder nor tests nor CmdStan with its compilers (the Stan engine in the
requirements needs none). The package itself is installed by ``.binder/postBuild``: the environment
then stays the same, and so in Binder's cache, while only the package changes.

``make notebooks`` runs this; a test compares.
"""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FROM_CONDA = {"torch": "pytorch-cpu"}  # by its name in pyproject.toml
KEPT = ("python", "pip", *FROM_CONDA.values())
EXTRAS = ("cognitive", "distributed")
WIDGETS = "ipywidgets"  # of the extra `book`: explorers move only where there is a kernel

HEADER = """\
# Made from environment.yml and pyproject.toml by tools/make_binder.py; change those, and run
# make notebooks.
"""


def name_of(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement).group()


def make_environment(root: Path = ROOT) -> str:
    """Contents of Binder's environment.yml."""
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    by_conda = [
        entry
        for entry in environment["dependencies"]
        if isinstance(entry, str) and name_of(entry) in KEPT
    ]
    optional = project["optional-dependencies"]
    by_pip = [x for x in project["dependencies"] if name_of(x) not in FROM_CONDA]
    by_pip += [requirement for extra in EXTRAS for requirement in optional[extra]]
    by_pip += [requirement for requirement in optional["book"] if name_of(requirement) == WIDGETS]
    contents = {
        "name": environment["name"],
        "channels": environment["channels"],
        "dependencies": [*by_conda, {"pip": by_pip}],
    }
    return HEADER + yaml.safe_dump(contents, sort_keys=False)


def main() -> None:
    path = ROOT / ".binder" / "environment.yml"
    path.write_text(make_environment(), encoding="utf-8")
    print(f"Wrote {path.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
