"""The check of built pages finds what is wrong with them, and nothing else."""

import shutil

import check_pages
import pytest

PAGE = """<!doctype html><html lang="en"><head><title>t</title>{head}</head>
<body><h1 id="top">A page</h1>{body}</body></html>"""
BROWSER = next(filter(None, map(shutil.which, check_pages.BROWSERS)), None)


@pytest.fixture
def write(tmp_path):
    """Write a page of a small book; "other.html" with an anchor is always there."""
    (tmp_path / "other.html").write_text(PAGE.format(head="", body='<p id="there">x</p>'))
    (tmp_path / "a.png").write_bytes(b"")

    def write(*, body="", head=""):
        (tmp_path / "index.html").write_text(PAGE.format(head=head, body=body))
        return tmp_path

    return write


def test_nothing_is_wrong(write):
    body = """<a href="other.html#there">a</a> <a href="#top">b</a> <a href="https://x.org">c</a>
    <img src="a.png" alt="Two curves that cross."> <a href="mailto:a@b.c">d</a>"""
    assert check_pages.check_files(write(body=body)) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<a href="nowhere.html">a</a>', "nowhere.html: no such file"),
        ('<a href="other.html#here">a</a>', "other.html#here: no such anchor"),
        ('<a href="#here">a</a>', "#here: no such anchor"),
        ('<img src="b.png" alt="A curve.">', "b.png: no such file"),
        ('<img src="a.png">', "picture a.png has no alternative text, but None"),
        ('<img src="a.png" alt="a.png">', "has no alternative text, but 'a.png'"),
        ('<img src="a.png" alt=" ">', "has no alternative text"),
        ('<script src="https://x.org/a.js"></script>', "comes from another host"),
        ('<link rel="stylesheet" href="//x.org/a.css">', "comes from another host"),
    ],
)
def test_what_is_wrong(write, body, expected):
    (line,) = check_pages.check_files(write(body=body))
    assert line.startswith("index.html: ")
    assert expected in line


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>Short.</p>", None),
        ('<script>console.error("oh no")</script>', "console: oh no"),
        ("<script>undefined.x</script>", "console: TypeError"),
        ('<span class="math">\\(x\\)</span>', "1 formulas are not typeset"),
        ('<div style="width: 900px">wide</div>', "wider than a phone's screen"),
    ],
)
def test_in_a_browser(write, monkeypatch, capsys, body, expected):
    """Without a browser, the program says that it looked at files only."""
    root = write(
        body=body, head='<meta name="viewport" content="width=device-width, initial-scale=1">'
    )
    (root / "favicon.ico").write_bytes(b"")
    if BROWSER is None:
        monkeypatch.setattr("sys.argv", ["check_pages", str(root)])
        check_pages.main()
        assert "checked as files only: no Chromium here" in capsys.readouterr().out
        return
    wrong = check_pages.check_in_browser(root, BROWSER)
    assert [line.split(": ", 1)[0] for line in wrong] == ["index.html"] * (expected is not None)
    assert all(expected in line for line in wrong)


def test_a_browser_can_be_required(write, monkeypatch, capsys):
    monkeypatch.setattr(check_pages.shutil, "which", lambda name: None)
    monkeypatch.setattr("sys.argv", ["check_pages", str(write()), "--browser", "required"])
    with pytest.raises(SystemExit, match="1 things are wrong"):
        check_pages.main()
    assert "They were to be checked in a browser." in capsys.readouterr().out


def test_a_browser_that_does_not_start(write, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(check_pages.shutil, "which", lambda name: str(broken))
    monkeypatch.setattr("sys.argv", ["check_pages", str(write())])
    check_pages.main()
    assert "checked as files only: " in capsys.readouterr().out
