"""Pages of the book run beside each other, and what goes wrong in one is told."""

import os

import page_pool
import pytest
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

PAGE = """---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

```{code-cell} ipython3
"""

# Each waits for the other, so they end only if they run at the same time.
MEET = """
from pathlib import Path
from time import sleep, monotonic
with open("ran_{own}", "a") as file:
    file.write(".")
start = monotonic()
while not Path("ran_{other}").exists():
    assert monotonic() - start < 60, "nobody came"
    sleep(0.05)
print("here is {own}")
"""


@pytest.fixture
def build(tmp_path):
    """Build a book of pages with these texts of code; "plain" is a page without code."""

    def run(alone=(), **pages):
        for name, code in pages.items():
            (tmp_path / f"{name}.md").write_text(f"{PAGE}{code}\n```\n")
        contents = "\n".join(["plain", *pages])
        (tmp_path / "index.md").write_text(f"# Index\n\n```{{toctree}}\n{contents}\n```\n")
        (tmp_path / "plain.md").write_text("# Plain\n")
        config = {
            "extensions": ["myst_nb", "page_pool"],
            "nb_execution_mode": "cache",
            "nb_execution_cache_path": str(tmp_path / "cache"),
            "nb_execution_raise_on_error": True,
            "pages_at_once": 2,
            "pages_alone": list(alone),
        }
        output = tmp_path / "output"
        app = Sphinx(tmp_path, None, output, output / "trees", "html", config, status=None)
        app.build()
        return {name: (output / f"{name}.html").read_text() for name in pages}

    return run


def test_pages_run_beside_each_other_and_an_error_in_one_stops_the_build(build, tmp_path):
    pages = {own: MEET.format(own=own, other=other) for own, other in ["ab", "ba"]}
    with pytest.raises(ExtensionError, match=r"1 of 5 pages did not run(?s:.*)c:(?s:.*)1 / 0") as e:
        build(**pages, c="1 / 0")
    assert "ZeroDivisionError" in str(e.value)
    html = build(**pages, c="print('mended')", alone=["c"])
    assert "here is a" in html["a"]
    assert "here is b" in html["b"]
    assert "mended" in html["c"]
    assert [(tmp_path / f"ran_{name}").read_text() for name in "ab"] == [".", "."]  # once each


def test_cores_are_those_that_this_process_may_use():
    if hasattr(os, "sched_getaffinity"):
        assert page_pool.cores() == len(os.sched_getaffinity(0))
    assert page_pool.cores() >= 1
