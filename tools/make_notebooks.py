"""Write ``book/NAME.ipynb`` beside every chapter with code, for Jupyter, Binder and Colab.

The chapters are MyST Markdown, which Colab cannot open and plain Jupyter shows as it is written.
Here directives and roles become plain Markdown: boxes become quotations, cross-references become
"Figure 2" or a link into the published book, citations become names with a link, and equations
keep their numbers. The notebooks have no outputs. Their first cell prepares Colab and does nothing
elsewhere. A directive or role without a plain form is an error.

``make notebooks`` runs this; a test compares. As a Sphinx extension (`setup`) it makes them the
notebooks that the book's download buttons give.
"""

import hashlib
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import nbformat
import yaml
from pybtex.database import BibliographyData, Person, parse_file
from pybtex.richtext import Text

ROOT = Path(__file__).parents[1]

COLAB = """\
# Google Colab only: this cell installs abmtools. Anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    import importlib.metadata
    import importlib.util
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    if importlib.util.find_spec("abmtools") is None:
        %pip install --quiet "abmtools[cognitive,distributed] @ git+{repository}@{branch}"
    loaded = sys.modules.get("numpy")
    if loaded is not None and loaded.__version__ != importlib.metadata.version("numpy"):
        raise SystemExit(
            "Colab had loaded an older NumPy. Restart once (Runtime > Restart session), then run "
            "the notebook from the top."
        )
"""

DIRECTIVE = re.compile(r"(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:.+-]+)\}\s*(?P<argument>.*)")
FENCE = re.compile(r"(?P<fence>`{3,}|~{3,})")
ROLE = re.compile(r"\{(?P<name>[a-zA-Z][\w:.+-]*)\}`(?P<content>[^`]+)`")
TARGET = re.compile(r"\((?P<label>[^()\s]+)\)=")

BOXES = (
    "admonition",
    "note",
    "tip",
    "hint",
    "important",
    "warning",
    "caution",
    "seealso",
    "margin",
)
SILENT = ("index", "solution-end", "tableofcontents", "chapter-costs")


# --- what the pages hold --------------------------------------------------------------------------


@dataclass
class Page:
    """A chapter: its notebook, its title and address, and what its labels are called."""

    name: str
    notebook: nbformat.NotebookNode
    title: str
    url: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Book:
    """All pages, works cited, and where the book is published and its sources are."""

    pages: dict[str, Page]
    bibliography: BibliographyData
    title: str
    repository: str
    branch: str

    def find(self, label: str) -> tuple[Page, str]:
        """The page that a label is on, and what it is called there."""
        for page in self.pages.values():
            if label in page.labels:
                return page, page.labels[label]
        raise ValueError(f"expected a label of the book, got {label!r}")


def read_book(root: Path = ROOT) -> Book:
    """Read the chapters, the bibliography and the settings."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    site = config["sphinx"]["config"]["ogp_site_url"].rstrip("/")
    book = Book(
        pages={},
        bibliography=parse_file(root / "book" / "references.bib"),
        title=config["title"],
        repository=config["repository"]["url"],
        branch=config["repository"]["branch"],
    )
    for path in sorted((root / "book").rglob("*.md")):
        name = path.relative_to(root / "book").with_suffix("").as_posix()
        notebook = jupytext.read(path)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        title = re.search(r"^# (.*)$", text, flags=re.MULTILINE).group(1)
        page = Page(name, notebook, title, f"{site}/book/{name}.html")
        page.labels = find_labels(notebook)
        book.pages[name] = page
    return book


def find_labels(notebook) -> dict[str, str]:
    """What a reader calls the figures, equations, exercises and sections that have a label."""
    labels, counts = {}, {}

    def count(kind: str, form: str, label: str | None) -> None:
        counts[kind] = counts.get(kind, 0) + 1
        if label:
            labels[label] = form.format(counts[kind])

    for cell in notebook.cells:
        if cell.cell_type == "code":
            figure = cell.metadata.get("mystnb", {}).get("figure")
            if figure:
                count("figure", "Figure {}", figure.get("name"))
            continue
        target = None
        for block in parse(cell.source):
            if isinstance(block, str):
                for line in block.splitlines():
                    if heading := re.match(r"#+ (.*)", line):
                        labels |= {target: heading.group(1)} if target else {}
                    match = TARGET.fullmatch(line.strip())
                    target = match.group("label") if match else target if not line.strip() else None
            elif block.name == "figure":
                count("figure", "Figure {}", block.options.get("name"))
            elif block.name == "exercise":
                count("exercise", "Exercise {}", block.options.get("label"))
            elif block.name == "math" and "label" in block.options:
                count("equation", "({})", block.options["label"])
    return labels


# --- directives -----------------------------------------------------------------------------------


@dataclass
class Directive:
    """A block between fences: its name, the rest of its first line, options and body."""

    name: str
    argument: str
    options: dict[str, str]
    body: str


def parse(source: str) -> Iterator[str | Directive]:
    """Split Markdown into text and directives; fenced code that is no directive stays text."""
    lines, text = source.split("\n"), []
    while lines:
        line = lines.pop(0)
        match = DIRECTIVE.fullmatch(line) or FENCE.match(line)
        if match is None:
            text.append(line)
            continue
        body = take_body(lines, match.group("fence"))
        if match.re is FENCE:
            text += [line, *body, match.group("fence")]
            continue
        if text:
            yield "\n".join(text)
            text = []
        yield make_directive(match, body)
    if text:
        yield "\n".join(text)


def take_body(lines: list[str], fence: str) -> list[str]:
    """Take lines up to the closing fence, and that, from the front."""
    closing = re.compile(rf"{fence[0]}{{{len(fence)},}}\s*")
    end = next((i for i, line in enumerate(lines) if closing.fullmatch(line)), None)
    if end is None:
        raise ValueError(f"expected a closing {fence}, got none")
    body = lines[:end]
    del lines[: end + 1]
    return body


def make_directive(match: re.Match, body: list[str]) -> Directive:
    """Tell the options, written as YAML or as ``:key: value``, from the body."""
    options = {}
    if body and body[0].strip() == "---":
        end = body.index("---", 1)
        options = yaml.safe_load("\n".join(body[1:end])) or {}
        body = body[end + 1 :]
    while body and (option := re.fullmatch(r":([\w-]+):\s*(.*)", body[0])):
        options[option.group(1)] = option.group(2)
        body = body[1:]
    return Directive(
        match.group("name"), match.group("argument").strip(), options, "\n".join(body).strip("\n")
    )


def quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


class Converter:
    """Turns the MyST of one page into plain Markdown."""

    def __init__(self, book: Book, page: Page):
        self.book, self.page = book, page
        self.exercises = 0
        self.in_page = f"[{page.title}]({page.url})"

    def convert(self, source: str) -> str:
        """Plain Markdown for MyST Markdown."""
        parts = [
            self.text(block) if isinstance(block, str) else self.directive(block)
            for block in parse(source)
        ]
        return "\n\n".join(part.strip("\n") for part in parts if part.strip())

    def text(self, text: str) -> str:
        """Text with its roles replaced, without targets and comments, outside of fenced code."""
        pieces = re.split(r"(^(?:`{3,}|~{3,}).*?^(?:`{3,}|~{3,})$)", text, flags=re.M | re.S)
        for i in range(0, len(pieces), 2):
            lines = pieces[i].split("\n")
            kept = (x for x in lines if not x.startswith("% ") and not TARGET.fullmatch(x.strip()))
            pieces[i] = ROLE.sub(self.role, "\n".join(kept))
        return "".join(pieces)

    def directive(self, block: Directive) -> str:
        """Plain Markdown for a directive."""
        name, argument = block.name, self.text(block.argument)
        if name in SILENT:
            return ""
        if name in BOXES:
            title = argument or name.capitalize()
            return quote(f"**{title}**\n\n{self.convert(block.body)}")
        method: Callable | None = getattr(self, f"_{name.replace('-', '_')}", None)
        if method is None:
            raise ValueError(
                f"book/{self.page.name}.md: directive {name!r} has no plain form yet; give it one "
                "in tools/make_notebooks.py."
            )
        return method(block, argument)

    def _exercise(self, block: Directive, argument: str) -> str:
        self.exercises += 1
        title = f"Exercise {self.exercises}" + (f" ({argument})" if argument else "")
        return f"**{title}.** {self.convert(block.body)}"

    def _solution_start(self, block: Directive, argument: str) -> str:
        return f"**Solution of {self.reference(block.argument).lower()}.**"

    def _math(self, block: Directive, argument: str) -> str:
        body = f"{block.argument}\n{block.body}".strip()
        if label := block.options.get("label"):
            body += f" \\tag{{{self.page.labels[label].strip('()')}}}"
        return f"$$\n{body}\n$$"

    def _figure(self, block: Directive, argument: str) -> str:
        label = block.options.get("name")
        title = f"**{self.page.labels[label]}.** " if label else ""
        return f"{self._image(block, argument)}\n\n{title}{self.convert(block.body)}"

    def _image(self, block: Directive, argument: str) -> str:
        address = f"{self.book.repository}/raw/{self.book.branch}/book/{block.argument}"
        return f"![{block.options.get('alt', '')}]({address})"

    def _raw(self, block: Directive, argument: str) -> str:
        return f"*What is here runs in the web page:* {self.in_page}."

    def _bibliography(self, block: Directive, argument: str) -> str:
        return f"The works cited are listed [in the book]({self.page.url})."

    def _code_block(self, block: Directive, argument: str) -> str:
        return f"```{argument}\n{block.body}\n```"

    def _dropdown(self, block: Directive, argument: str) -> str:
        body = self.convert(block.body)
        return f"<details>\n<summary>{argument}</summary>\n\n{body}\n\n</details>"

    # --- roles ------------------------------------------------------------------------------------

    def role(self, match: re.Match) -> str:
        """Plain Markdown for a role."""
        name, content = match.group("name"), " ".join(match.group("content").split())
        explicit = re.fullmatch(r"(?P<text>.*?)\s*<(?P<target>[^<>]+)>", content)
        text, target = explicit.group("text", "target") if explicit else (None, content)
        if name.startswith("cite:"):
            return self.cite(name, target)
        if name == "doc":
            folder = posixpath.join("/book", posixpath.dirname(self.page.name))
            name = posixpath.normpath(posixpath.join(folder, target)).removeprefix("/book/")
            page = self.book.pages[name]
            return f"[{text or page.title}]({page.url})"
        if name in ("ref", "numref", "eq"):
            return self.reference(target, text if name == "ref" else None)
        if name == "term":
            return text or target
        if name == "abbr":
            return content
        if name in ("sub", "sup"):
            return f"<{name}>{content}</{name}>"
        if name.startswith("py:") or name in ("func", "class", "meth", "mod", "attr"):
            return f"`{text or (target[1:].split('.')[-1] if target[0] == '~' else target)}`"
        raise ValueError(
            f"book/{self.page.name}.md: role {name!r} has no plain form yet; give it one in "
            "tools/make_notebooks.py."
        )

    def reference(self, label: str, text: str | None = None) -> str:
        """What a labelled thing is called, with a link if it is on another page."""
        page, called = self.book.find(label)
        if page is self.page:
            return text or called
        if text:
            return f"[{text}]({page.url})"
        return f"{called} of [{page.title}]({page.url})"

    def cite(self, name: str, keys: str) -> str:
        """Names and years, with links."""
        textual = name == "cite:t"
        works = [self.work(key.strip(), textual=textual) for key in keys.split(",")]
        return " and ".join(works) if textual else f"({'; '.join(works)})"

    def work(self, key: str, *, textual: bool) -> str:
        entry = self.book.bibliography.entries[key]
        names = [last_name(person) for person in entry.persons.get("author", [])]
        first = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        label = (
            f"{first} ({entry.fields['year']})" if textual else f"{first}, {entry.fields['year']}"
        )
        forms = {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}
        known = [x.format(entry.fields[key]) for key, x in forms.items() if key in entry.fields]
        return f"[{label}]({known[0]})" if known else label


def last_name(person: Person) -> str:
    return str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))


# --- notebooks ------------------------------------------------------------------------------------


def make_notebook(book: Book, page: Page) -> nbformat.NotebookNode:
    """The plain notebook of a page."""
    converter = Converter(book, page)
    cells = [
        nbformat.v4.new_code_cell(
            COLAB.format(repository=book.repository, branch=book.branch).strip()
        )
    ]
    for cell in page.notebook.cells:
        if cell.cell_type == "code":
            cells.append(nbformat.v4.new_code_cell(cell.source))
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if "caption" in figure:
                title = page.labels.get(figure.get("name"), "Figure")
                caption = converter.convert(figure["caption"].strip())
                cells.append(nbformat.v4.new_markdown_cell(f"**{title}.** {caption}"))
        elif source := converter.convert(cell.source):
            cells.append(nbformat.v4.new_markdown_cell(source))
    introduce(cells, book, page)
    name_cells(cells)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return notebook


def introduce(cells: list, book: Book, page: Page) -> None:
    """Say below the title what this is a notebook of."""
    said = f"*The notebook of a page of [{book.title}]({page.url}), which shows it as it ran.*"
    for cell in cells:
        heading = re.match(r"# .*", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            cell.source = f"{heading.group()}\n\n{said}{cell.source[heading.end() :]}"
            return


def name_cells(cells: list) -> None:
    """Identifiers from the contents, so that a change of one cell changes one cell."""
    seen = {}
    for cell in cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def has_code(page: Page) -> bool:
    return any(cell.cell_type == "code" for cell in page.notebook.cells)


def make_notebooks(root: Path = ROOT) -> dict[str, str]:
    """Contents of the notebooks by file name."""
    book = read_book(root)
    return {
        f"{page.name}.ipynb": nbformat.writes(make_notebook(book, page)) + "\n"
        for page in book.pages.values()
        if has_code(page)
    }


def main() -> None:
    notebooks = make_notebooks()
    for old in (ROOT / "book").rglob("*.ipynb"):
        if old.relative_to(ROOT / "book").as_posix() not in notebooks:
            old.unlink()
    for name, content in notebooks.items():
        (ROOT / "book" / name).write_text(content, encoding="utf-8")
    print(f"Wrote {len(notebooks)} notebooks to book/.")


# --- Sphinx ---------------------------------------------------------------------------------------


def offer_downloads(app, exception) -> None:
    """Put the plain notebooks where the theme's download buttons look for notebooks."""
    if exception is None:
        for path in (Path(app.srcdir) / "book").rglob("*.ipynb"):
            target = Path(app.outdir) / "_sources" / path.relative_to(app.srcdir)
            if target.parent.is_dir():
                shutil.copyfile(path, target)


def setup(app) -> dict[str, bool]:
    app.connect("build-finished", offer_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    main()
