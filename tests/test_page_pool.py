"""Pages of the book run beside each other, and what goes wrong in one is told."""

import page_pool
import pytest
from conftest import FRONT
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

PAGE = f"{FRONT}# A page\n\n```{{code-cell}} ipython3\n"

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
def build(tmp_path, monkeypatch):
    """Build a book of pages with these texts of code; "plain" is a page without code."""

    monkeypatch.setattr(page_pool, "num_cores", lambda: 2)

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
            "pages_alone": list(alone),
        }
        output = tmp_path / "output"
        app = Sphinx(tmp_path, None, output, output / "trees", "html", config, status=None)
        app.build()
        return {name: (output / f"{name}.html").read_text() for name in pages}

    return run


def test_pages_run_beside_each_other_and_an_error_in_one_stops_the_build(build, tmp_path):
    pages = {own: MEET.format(own=own, other=other) for own, other in ["ab", "ba"]}
    with pytest.raises(ExtensionError, match=r"that did not run:\n\nc:\n(?s:.*)1 / 0") as e:
        build(**pages, c="1 / 0")
    assert "ZeroDivisionError" in str(e.value)
    html = build(**pages, c="print('mended')", alone=["c"])
    assert "here is a" in html["a"]
    assert "here is b" in html["b"]
    assert "mended" in html["c"]
    assert [(tmp_path / f"ran_{name}").read_text() for name in "ab"] == [".", "."]  # once each
