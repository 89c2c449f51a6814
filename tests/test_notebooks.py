"""Notebooks beside the chapters, Binder's environment, and the buttons that lead to them."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import jupytext
import make_binder
import make_notebooks
import nbformat
import pytest
import yaml
from conftest import FRONT
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "book").rglob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made():
    return make_notebooks.make_notebooks()


# --- the notebooks of the book --------------------------------------------------------------------


def test_every_chapter_with_code_has_a_notebook(made):
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "book").rglob("*.md")}
    with_code = {
        path.with_suffix(".ipynb") for path, text in sources.items() if "{code-cell}" in text
    }
    assert with_code == set(NOTEBOOKS) == {ROOT / "book" / name for name in made}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_in_sync(made, path):
    name = path.relative_to(ROOT / "book").as_posix()
    assert path.read_text(encoding="utf-8") == made[name], "run `make notebooks`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_keras_comes_after_what_chooses_its_backend(path):
    """Else it is TensorFlow, which nobody here has, where no KERAS_BACKEND is set."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    packages = re.findall(r"^(?:from|import) (keras|abmtools|bayesflow)\b", code, re.MULTILINE)
    assert not packages or packages[0] != "keras"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_plain(path):
    """Nothing that only MyST reads, and no outputs."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert cell.metadata == {}
        else:
            pattern = r"(`{3,}|:{3,})\{|\{[a-z:]+\}`|^\([\w-]+\)=$|^:{3,}|^:\w+:"
            assert re.findall(pattern, cell.source, flags=re.MULTILINE) == []
            for expression in re.findall(r"\$\$.*?\$\$", cell.source, flags=re.DOTALL):
                assert expression.count("\\tag") <= 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_the_code_of_its_chapter(path):
    notebook = nbformat.read(path, as_version=4)
    chapter = jupytext.read(path.with_suffix(".md"))
    code = [[c.source for c in x.cells if c.cell_type == "code"] for x in (notebook, chapter)]
    assert code[0][1:] == code[1]
    assert "google.colab" in code[0][0]


# --- conversion -----------------------------------------------------------------------------------

FIRST = (
    FRONT
    + r"""(top)=
# The first page

{cite:t}`one` and {cite:t}`two` began {cite:p}`three,two`. See {doc}`second`, {ref}`top`,
{eq}`first-equation`, {numref}`fig-first` and {term}`words <word>`.

```{admonition} What you will learn
:class: tip

- A role: {py:func}`~abmtools.refine`.

$$x$$
```

```{math}
:label: first-equation

a = b
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: A line.
  figure:
    caption: |
      A line, by {cite:t}`one`.
    name: fig-first
tags: [hide-input]
---
1 + 1
```

```python
x = "{doc}`kept`"  # (kept)=
```

```{exercise} Harder
:label: ex-first

Is {eq}`first-equation` true?
```

````{solution-start} ex-first
:class: dropdown
````

```{code-cell} ipython3
2 + 2
```

````{solution-end}
````
"""
)
SECOND = (
    FRONT
    + """# The second page

Equation {eq}`first-equation`, {numref}`fig-first`, {doc}`the one before <first>`, {ref}`top`.

```{figure} picture.png
:name: fig-second
:alt: A picture.

What it shows.
```

:::{note}
Not code, and {numref}`fig-second`.
:::

```{raw} html
<script></script>
```

```{code-cell} ipython3
3 + 3
```
"""
)
REFERENCES = r"""
@misc{one, author = {Kucharsk{\'y}, {\v{S}}imon}, title = {One}, year = {2001}, doi = {10.1/a}}
@misc{two, author = {A, B and {van der} C, D}, title = {Two}, year = {2002}, eprint = {2002.1}}
@misc{three, author = {E, F and G, H and I, J}, title = {Three}, year = {2003}}
"""


def write_book(root: Path, **pages: str) -> Path:
    (root / "book").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    (root / "book" / "references.bib").write_text(REFERENCES, encoding="utf-8")
    for name, text in pages.items():
        (root / "book" / f"{name}.md").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def sources(tmp_path):
    """The cells of two small pages."""
    root = write_book(tmp_path, first=FIRST, second=SECOND)
    notebooks = make_notebooks.make_notebooks(root)
    return {
        name: [cell["source"] for cell in nbformat.reads(text, as_version=4).cells]
        for name, text in notebooks.items()
    }


def test_conversion_of_references_on_the_page(sources):
    introduction = sources["first.ipynb"][1]
    assert introduction.startswith("# The first page\n\n*The notebook of a page of [")
    site = CONFIG["sphinx"]["config"]["ogp_site_url"]
    assert (
        "[Kucharský (2001)](https://doi.org/10.1/a) and "
        "[A and van der C (2002)](https://arxiv.org/abs/2002.1) began (E et al., 2003; "
        "[A and van der C, 2002](https://arxiv.org/abs/2002.1)). "
        f"See [The second page]({site}book/second.html), The first page,\n"
        "(1), Figure 1 and words."
    ) in introduction


def test_conversion_of_boxes_and_equations(sources):
    introduction = sources["first.ipynb"][1]
    assert (
        "> **What you will learn**\n>\n> - A role: `refine`.\n>\n> $$x$$\n\n$$\na = b \\tag{1}\n$$"
    ) in introduction
    assert "(top)=" not in introduction


def test_conversion_of_figures_exercises_and_code(sources):
    cells = sources["first.ipynb"]
    assert cells[2] == "1 + 1"
    assert cells[3] == "**Figure 1.** A line, by [Kucharský (2001)](https://doi.org/10.1/a)."
    assert cells[4] == (
        '```python\nx = "{doc}`kept`"  # (kept)=\n```\n\n'
        "**Exercise 1 (Harder).** Is (1) true?\n\n**Solution of exercise 1.**"
    )
    assert cells[5:] == ["2 + 2"]


def test_conversion_of_references_to_another_page(sources):
    text = sources["second.ipynb"][1]
    url = f"{CONFIG['sphinx']['config']['ogp_site_url']}book/first.html"
    assert f"Equation (1) of [The first page]({url})" in text
    assert f"Figure 1 of [The first page]({url})" in text
    assert f"[the one before]({url})" in text
    repository = CONFIG["repository"]["url"]
    assert f"![A picture.]({repository}/raw/main/book/picture.png)\n\n**Figure 1.** What" in text
    assert "> **Note**\n>\n> Not code, and Figure 1." in text
    assert "script" not in text
    assert "*What is here runs in the web page:* [The second page]" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```{unheard-of}\n```", r"book/page\.md: directive 'unheard-of' has no plain form yet"),
        ("{unheard}`of`", r"book/page\.md: role 'unheard' has no plain form yet"),
        ("{eq}`nowhere`", "expected a label of the book, got 'nowhere'"),
        ("````{note}\n```", "expected a closing ````, got none"),
    ],
)
def test_what_has_no_plain_form_is_an_error(tmp_path, text, message):
    page = f"{FRONT}# Page\n\n{text}\n\n```{{code-cell}} ipython3\n1\n```\n"
    with pytest.raises(ValueError, match=message):
        make_notebooks.make_notebooks(write_book(tmp_path, page=page))


def test_a_page_without_code_has_no_notebook(tmp_path):
    root = write_book(tmp_path, first=FIRST, second="# Page\n\n```{unheard-of}\n```\n")
    assert set(make_notebooks.make_notebooks(root)) == {"first.ipynb"}


def test_a_change_of_one_cell_changes_one_cell(tmp_path):
    books = {"old": FIRST, "new": FIRST.replace("1 + 1", "1 + 2")}
    ids = [
        [cell["id"] for cell in json.loads(text)["cells"]]
        for name, page in books.items()
        for text in make_notebooks.make_notebooks(
            write_book(tmp_path / name, first=page, second=SECOND)
        ).values()
    ]
    assert ids[1] == ids[3]
    assert sum(a != b for a, b in zip(ids[0], ids[2], strict=True)) == 1
    assert len(set(ids[0])) == len(ids[0])


# --- Colab ----------------------------------------------------------------------------------------


def run_colab_cell(monkeypatch, *, colab=True, installed=False, numpy="2.5.1"):
    """Run the first cell, in a Colab with the given NumPy; return what %pip was asked for."""
    asked = []
    shell = types.SimpleNamespace(run_line_magic=lambda name, line: asked.append(f"{name} {line}"))
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    else:
        monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(__version__=numpy))
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    cell = nbformat.read(ROOT / "book" / "index.ipynb", as_version=4).cells[0]
    code = TransformerManager().transform_cell(cell.source)
    exec(compile(code, "cell", "exec"), {"get_ipython": lambda: shell})
    return asked


def test_colab_installs_the_package_with_its_extra(monkeypatch):
    (asked,) = run_colab_cell(monkeypatch)
    repository, branch = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]
    assert (
        asked
        == f'pip install --quiet "abmtools[cognitive,distributed] @ git+{repository}@{branch}"'
    )
    assert "cognitive" in PROJECT["optional-dependencies"]


def test_colab_asks_for_one_restart_where_numpy_was_older(monkeypatch):
    with pytest.raises(SystemExit, match="older NumPy"):
        run_colab_cell(monkeypatch, numpy="2.1.3")
    assert run_colab_cell(monkeypatch, installed=True) == []


def test_elsewhere_the_first_cell_does_nothing(monkeypatch):
    assert run_colab_cell(monkeypatch, colab=False, numpy="1.0") == []


# --- Binder ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text(encoding="utf-8"))


def test_binder_is_in_sync():
    text = (ROOT / ".binder" / "environment.yml").read_text(encoding="utf-8")
    assert text == make_binder.make_environment(), "run `make notebooks`"


def test_binder_has_all_that_the_package_needs_and_no_cuda(environment):
    *conda, by_pip = environment["dependencies"]
    assert {"python=3.12", "pip"} < set(conda)
    assert any(entry.startswith("pytorch-cpu") for entry in conda)
    needed = {Requirement(x).name for x in PROJECT["dependencies"]} - {"torch"}
    assert {Requirement(x).name for x in by_pip["pip"]} == needed | {"numba", "dask", "ipywidgets"}
    assert not re.search(r"cuda|nvidia|pytorch-gpu", json.dumps(environment))


def test_binder_has_all_that_notebooks_import(environment):
    """And Colab, which installs the same extras; what Jupyter itself brings aside."""
    allowed = {Requirement(x).name for x in environment["dependencies"][-1]["pip"]}
    # conda brings torch, dask[distributed] the second, Jupyter the third.
    allowed |= {"abmtools", "torch", "distributed", "IPython"}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        modules = set(re.findall(r"^ *(?:from|import) ([a-zA-Z]\w*)", code, re.MULTILINE))
        assert modules - sys.stdlib_module_names - {"google"} <= allowed, path.name


def test_binder_builds_its_environment_before_the_package(environment):
    """A local path in environment.yml would make Binder solve it again for every commit."""
    *_, by_pip = environment["dependencies"]
    assert not any(x.startswith(("-", ".", "/")) for x in by_pip["pip"])
    script = (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8")
    assert "pip install --no-deps" in script


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binder_scripts_are_executable_bash(name):
    path = ROOT / ".binder" / name
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_binder_starts_with_the_variables_that_make_sets():
    names = ["KERAS_BACKEND", "OMP_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"]
    command = [sys.executable, "-c", f"import os; print([os.environ[n] for n in {names}])"]
    result = subprocess.run(
        [ROOT / ".binder" / "start", *command],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    set_by_make = dict(
        re.findall(r"^(?:book: export )?(\w+) \?= (\w+)$", makefile, flags=re.MULTILINE)
    )
    assert result.stdout.strip() == str([set_by_make[name] for name in names])


# --- buttons --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book of one page with the settings of this one, built and not executed."""
    root = write_book(tmp_path_factory.mktemp("built"), page=f"{FRONT}# Page\n\nText.\n")
    config = CONFIG | {"execute": {"execute_notebooks": "off"}}
    (root / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/page\n", encoding="utf-8")
    page = root / "book" / "page.md"
    page.write_text(page.read_text() + "\n```{code-cell} ipython3\n1\n```\n", encoding="utf-8")
    for name in ("abmtools", "tools", "book/assets"):
        (root / name).symlink_to(ROOT / name, target_is_directory=True)
    (root / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (notebook,) = make_notebooks.make_notebooks(root).values()
    (root / "book" / "page.ipynb").write_text(notebook, encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", root, "--warningiserror"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return root


def test_launch_buttons_lead_to_notebooks(built):
    html = (built / "_build" / "html" / "book" / "page.html").read_text(encoding="utf-8")
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    assert f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/book/page.ipynb" in html
    assert (
        f"https://colab.research.google.com/github/{repository}/blob/main/book/page.ipynb" in html
    )


def test_download_button_gives_the_plain_notebook(built):
    page = built / "_build" / "html" / "book" / "page.html"
    found = set(re.findall(r'href="([^"]*page\.ipynb)"', page.read_text(encoding="utf-8")))
    (address,) = (link for link in found if not link.startswith("http"))
    downloaded = (page.parent / address).read_text(encoding="utf-8")
    assert downloaded == (built / "book" / "page.ipynb").read_text(encoding="utf-8")
