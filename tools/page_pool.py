"""Sphinx extension: pages run beside each other, one per core, before they are read.

MyST-NB runs a page when Sphinx reads it, one after the other, on one of the machine's cores. Here
the pages that are about to be read run first, each in a process of its own, with MyST-NB's own
client and Sphinx's own pool (`ParallelTasks`). Their outputs lie in the cache when Sphinx comes to
read them. Pages that share work among processes themselves, and time it, are left to run alone.
"""

import functools
import traceback
from pathlib import Path
from types import SimpleNamespace

from jupyter_cache import get_cache
from myst_nb.core.execute import create_client
from myst_nb.core.loggers import SphinxDocLogger
from myst_nb.core.read import create_nb_reader
from sphinx.errors import ExtensionError
from sphinx.util.parallel import ParallelTasks, parallel_available

from abmtools.jobs import num_cores

MOST = 4  # each takes up to 1.5 GB


def run_page(app, docname: str) -> str:
    """Run a page as MyST-NB does, unless it is in the cache. Return the error's text, if any."""
    env = app.env
    env.prepare_settings(docname)
    path = env.doc2path(docname)
    content = Path(path).read_text(encoding="utf-8")
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config, content)
    if reader is None:  # a page without code
        return ""
    log = SphinxDocLogger(SimpleNamespace(settings=SimpleNamespace(env=env)))
    notebook = reader.read(content)
    try:
        with create_client(notebook, path, env.mystnb_config, log, reader.read_fmt):
            return ""
    except Exception:
        return traceback.format_exc()


def run_pages(app, env, docnames: list[str]) -> None:
    """Run all pages that are about to be read; an error in one does not stop the others."""
    jobs = min(num_cores(), MOST)
    if env.mystnb_config.execution_mode != "cache" or jobs < 2 or not parallel_available:
        return
    get_cache(env.mystnb_config.execution_cache_path).list_cache_records()  # makes its files
    tasks, errors = ParallelTasks(jobs), {}
    for docname in docnames:
        if docname not in app.config.pages_alone:
            tasks.add_task(functools.partial(run_page, app), docname, errors.__setitem__)
    tasks.join()
    failed = [f"{docname}:\n{error}" for docname, error in errors.items() if error]
    if failed:
        raise ExtensionError("\n\n".join(["Pages that did not run:", *failed]))


def setup(app) -> dict[str, bool]:
    app.add_config_value("pages_alone", [], "")
    app.connect("env-before-read-docs", run_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
