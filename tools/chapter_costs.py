"""Sphinx extension: what each chapter cost to run, in seconds and in memory.

The directive ``chapter-costs`` is a table of all pages that ran. MyST-NB knows how long; memory is
measured here, where Linux tells it: the peak of the kernel, plus that of the processes that it
started, without the files (libraries) that they all map. While a page runs, a thread looks five
times a second; each process keeps its own peak, so nothing that happens in between is missed.
Numbers lie in the folder of cached pages, so a page that does not run again keeps its own.
"""

import functools
import re
import threading
from datetime import datetime
from pathlib import Path

import psutil
from docutils import nodes
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.execute import cache as execution
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

INTERVAL = 0.2  # seconds
MARK = "costs"  # of pages with a table, in what MyST-NB keeps of them
HEADER = ("Chapter", "Seconds", "Peak memory", "Computed")


# --- memory ---------------------------------------------------------------------------------------


def peak_and_files(pid: int) -> tuple[int, int]:
    """Bytes at the peak of a process, and bytes of files in its memory; zeros if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = dict(re.findall(r"^(VmHWM|RssFile):\s+(\d+) kB$", status, flags=re.MULTILINE))
    return 1024 * int(found.get("VmHWM", 0)), 1024 * int(found.get("RssFile", 0))


def measure(kernel: psutil.Process) -> int:
    """Bytes at the peak of a process and of those that it has started."""
    total, _ = peak_and_files(kernel.pid)
    for process in kernel.children(recursive=True):
        peak, files = peak_and_files(process.pid)
        total += max(0, peak - files)
    return total


def is_kernel(process: psutil.Process) -> bool:
    try:
        return any("ipykernel" in word for word in process.cmdline())
    except psutil.Error:
        return False


class Watch:
    """The largest memory of the kernels that this process starts while a block of code runs."""

    def __enter__(self):
        self.peak, self.stop = 0, threading.Event()
        self.before = set(psutil.Process().children())  # the last page's may be about to end
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.stop.wait(INTERVAL):
            started = set(psutil.Process().children()) - self.before
            for process in filter(is_kernel, started):
                try:
                    self.peak = max(self.peak, measure(process))
                except psutil.NoSuchProcess:
                    continue


def record_path(app, docname: str) -> Path:
    return Path(app.config.nb_execution_cache_path) / "peak_memory" / docname


def execute(app, notebook, **options):
    """Run a page as MyST-NB does, and write down the memory that it took."""
    with Watch() as watch:
        result = single_nb_execution(notebook, **options)
    path = record_path(app, app.env.docname)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(watch.peak))
    return result


def watch_pages(app) -> None:
    """MyST-NB has no setting for what runs a page, so the function that it calls is replaced."""
    execution.single_nb_execution = functools.partial(execute, app)


# --- the table ------------------------------------------------------------------------------------


class CostsNode(nodes.General, nodes.Element):
    """Where the table will be once all pages have run."""


class CostsDirective(SphinxDirective):
    """A table of the seconds and the memory of all pages that ran."""

    def run(self):
        NbMetadataCollector.set_doc_data(self.env, self.env.docname, MARK, "chapter-costs")
        return [CostsNode()]


class CostsTransform(SphinxPostTransform):
    """Put the table in its place."""

    default_priority = 8  # before links are resolved

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(CostsNode)):
            node.replace_self(make_table(self.env.docname, costs(self.app)))


def costs(app) -> dict[str, tuple[str, str, str]]:
    """Seconds, memory and date of each page that ran, in the order of the contents."""
    data = NbMetadataCollector.get_doc_data(app.env)
    found = {}
    for docname in [x for x in app.env.found_docs if data.get(x, {}).get("exec_data")]:
        ran, path = data[docname]["exec_data"], record_path(app, docname)
        peak = int(path.read_text()) if path.exists() else 0
        found[docname] = (
            f"{ran['runtime']:.0f}",
            f"{peak / 1e9:.2f} GB" if peak else "not measured",
            datetime.fromtimestamp(ran["mtime"]).strftime("%Y-%m-%d %H:%M"),
        )
    order = {docname: i for i, docname in enumerate(reading_order(app.env))}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def reading_order(env) -> list[str]:
    """All pages as the contents list them."""
    order = [env.config.root_doc]
    for docname in order:
        order += [x for x in env.toctree_includes.get(docname, []) if x not in order]
    return order


def make_table(docname: str, rows: dict[str, tuple[str, ...]]) -> nodes.table:
    group = nodes.tgroup(cols=len(HEADER))
    group += [nodes.colspec(colwidth=100 / len(HEADER)) for _ in HEADER]
    head, body = nodes.thead(), nodes.tbody()
    head += make_row([nodes.Text(label) for label in HEADER])
    for page, values in rows.items():
        link = pending_xref(
            refdoc=docname, reftarget=f"/{page}", reftype="doc", refdomain="std", refexplicit=False
        )
        link += nodes.inline(text=page)
        body += make_row([link, *(nodes.Text(value) for value in values)])
    group += [head, body]
    table = nodes.table(classes=["colwidths-auto"])
    table += group
    return table


def make_row(contents: list) -> nodes.row:
    row = nodes.row()
    row += [nodes.entry("", nodes.paragraph("", "", content)) for content in contents]
    return row


def update_tables(app, env) -> list[str]:
    """Pages with a table change when any page has run."""
    if not NbMetadataCollector.new_exec_data(env):
        return []
    data = NbMetadataCollector.get_doc_data(env)
    return [docname for docname, entries in data.items() if MARK in entries]


def setup(app) -> dict[str, bool]:
    app.add_node(CostsNode)
    app.add_directive("chapter-costs", CostsDirective)
    app.add_post_transform(CostsTransform)
    app.connect("builder-inited", watch_pages)
    app.connect("env-updated", update_tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
