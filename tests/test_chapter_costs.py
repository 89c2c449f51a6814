"""Memory of the kernels that run the chapters, and the table of what they cost."""

import subprocess
import sys
import time
import types

import chapter_costs
import nbformat
import psutil
import pytest

ALLOCATE = """
import sys, time
block = bytearray({size})
for i in range(0, len(block), 4096):
    block[i] = 1
{then}
print("ready", flush=True)
time.sleep(60)
"""
MB = 1_000_000


@pytest.fixture
def start():
    """Start a process that holds so many bytes, and has started the same in another."""
    started = []

    def run(size, then=""):
        code = ALLOCATE.format(size=size, then=then)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return psutil.Process(process.pid)

    yield run
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.communicate()


def test_memory_of_a_process(start):
    small, large = (chapter_costs.measure(start(size)) for size in (MB, 101 * MB))
    assert large - small == pytest.approx(100 * MB, rel=0.1)


def test_the_peak_stays_when_memory_is_given_back(start):
    held = start(101 * MB)
    freed = start(101 * MB, then="del block")
    assert chapter_costs.measure(freed) == pytest.approx(chapter_costs.measure(held), rel=0.05)


def test_processes_that_a_process_starts_count(start):
    """But not the libraries that both map."""
    code = "import subprocess; subprocess.Popen([sys.executable, '-c', {!r}]); time.sleep({})"
    child = (
        "import time; block = bytearray(50_000_000); block[::4096] = b'1' * len(block[::4096]); "
    )
    alone = chapter_costs.measure(start(MB))
    family = start(MB, then=code.format(child + "time.sleep(60)", 2))
    assert chapter_costs.measure(family) - alone == pytest.approx(55 * MB, abs=15 * MB)


def test_a_process_that_has_ended_has_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert chapter_costs.peak_and_files(process.pid) == (0, 0)


def test_a_kernel_that_was_there_before_does_not_count(start, monkeypatch):
    monkeypatch.setattr(chapter_costs, "is_kernel", lambda process: True)
    start(201 * MB)
    with chapter_costs.Watch() as watch:
        own = chapter_costs.measure(start(51 * MB))
        time.sleep(3 * chapter_costs.INTERVAL)
    assert watch.peak == pytest.approx(own, rel=0.05)


@pytest.fixture
def app(tmp_path):
    environment = types.SimpleNamespace(
        docname="book/page",
        found_docs={"book/page", "book/second", "book/text"},
        nb_metadata={
            "book/second": {"exec_data": {"runtime": 61.4, "mtime": time.time()}},
            "book/page": {"exec_data": {"runtime": 2.2, "mtime": time.time()}},
        },
        config=types.SimpleNamespace(root_doc="book/text"),
        toctree_includes={"book/text": ["book/page", "book/second"]},
    )
    config = types.SimpleNamespace(nb_execution_cache_path=str(tmp_path))
    return types.SimpleNamespace(env=environment, config=config)


def test_a_page_that_runs_is_measured(app):
    """By a kernel, whose memory is that of its largest cell."""
    cells = [
        "import time; x = bytearray(200_000_000); x[::4096] = b'1' * len(x[::4096])",
        "del x; time.sleep(1)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(x) for x in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    before = notebook.metadata.copy()
    result = chapter_costs.execute(app, notebook, cwd=None, timeout=60, allow_errors=False)
    assert result.err is None
    assert notebook.metadata["kernelspec"] == before["kernelspec"]
    assert [cell.metadata for cell in notebook.cells] == [{}, {}]
    peak = int(chapter_costs.record_path(app, "book/page").read_text())
    assert 230 * MB < peak < 500 * MB


def test_costs_of_the_pages_that_ran(app):
    """In the order of the contents; a page without a measurement says so."""
    path = chapter_costs.record_path(app, "book/page")
    path.parent.mkdir(parents=True)
    path.write_text("1234567890")
    costs = chapter_costs.costs(app)
    assert [(name, row[:2]) for name, row in costs.items()] == [
        ("book/page", ("2", "1.23 GB")),
        ("book/second", ("61", "not measured")),
    ]
    table = chapter_costs.make_table("book/execution", costs)
    assert table.astext().split() == [
        *("Chapter", "Seconds", "Peak", "memory", "Computed"),
        *("book/page", *" ".join(costs["book/page"]).split()),
        *("book/second", *" ".join(costs["book/second"]).split()),
    ]


def test_tables_are_written_again_when_a_page_ran():
    environment = types.SimpleNamespace(
        nb_new_exec_data=True, nb_metadata={"a": {chapter_costs.MARK: ""}, "b": {}}
    )
    assert chapter_costs.update_tables(None, environment) == ["a"]
    environment.nb_new_exec_data = False
    assert chapter_costs.update_tables(None, environment) == []
