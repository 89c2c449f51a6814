"""Sphinx extension: executed notebooks are cached per version of the package.

jupyter-cache recognises a notebook by its code cells alone, so it would go on showing outputs that
an older abmtools computed. Here the cache folder is named after a hash of the package, and of the
trained networks and the data in the folders ABMTOOLS_WEIGHTS and ABMTOOLS_DATA where these are set.
When one of them changes, the name changes; Sphinx sees a changed setting and reads every page
again, and every page runs again because its new cache is empty. Folders of older versions are
deleted.
"""

import hashlib
import os
import shutil
from pathlib import Path

FOLDERS = ("ABMTOOLS_WEIGHTS", "ABMTOOLS_DATA")  # variables that name one


def package_files(root: Path) -> list[Path]:
    """Files that can change what a page computes (not byte code or compiled Stan programs)."""
    package = root / "abmtools"
    found = {root / "pyproject.toml", *package.rglob("*.py"), *package.rglob("*.stan")}
    found.update(path for path in package.rglob("weights/**/*") if path.is_file())
    return sorted(found)


def package_hash(root: Path) -> str:
    """Hash of the names and contents of the package's files, and of weights and data elsewhere."""
    named = {path.relative_to(root).as_posix(): path for path in package_files(root)}
    for variable in FOLDERS:
        if os.environ.get(variable):
            folder = Path(os.environ[variable])
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            named |= {f"{variable}/{path.relative_to(folder).as_posix()}": path for path in found}
    digest = hashlib.sha256()
    for name, path in named.items():
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def choose_cache(app, config) -> None:
    """Point MyST-NB at the cache of this version of the package and delete the others."""
    caches = Path(app.outdir).parent / ".jupyter_cache"
    cache = caches / package_hash(Path(app.srcdir))
    config.nb_execution_cache_path = str(cache)
    for old in caches.glob("*"):
        if old.name != cache.name:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def setup(app) -> dict[str, bool]:
    app.connect("config-inited", choose_cache)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
