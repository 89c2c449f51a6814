"""Check the built pages: links, alternative texts, nothing from elsewhere; and in a browser.

``python tools/check_pages.py _build/html`` prints what is wrong and exits with 1 if anything is. In
each page,

* links to other pages and their anchors lead somewhere, and files that it loads are there;
* no script, style sheet or picture comes from another host;
* every picture has an alternative text, and not its file name;

and, where Chromium is installed (``--browser required``: else that is an error), at the width of a
phone,

* it says nothing on the console, and mathematics is typeset;
* it is not wider than the screen;
* live explorers are as `check_explorers` wants them.

The browser has no network and is driven through its debugging pipe (Chrome DevTools Protocol).
"""

import argparse
import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from check_explorers import check_explorers

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
SECONDS = 60  # for a page to load
LOADED = {"script": "src", "img": "src", "link": "href"}
FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif)$|[0-9a-f]{32,}")
# Jupyter Book's own pages say this, with and without anything of ours.
HARMLESS = (
    "Identifier 'THEBE_JS_URL' has already been declared",
    "Got invalid theme mode: . Resetting to auto.",
)
# Runs in the page. Of mathematics, what is left to typeset once MathJax says that it is done.
PROBE = """
(async () => {
  if (window.MathJax?.startup) await window.MathJax.startup.promise;
  const formulas = [...document.querySelectorAll(".math")];
  const raw = formulas.filter(x => !x.querySelector("mjx-container")).length;
  const failed = document.querySelectorAll("mjx-merror").length;
  const root = document.scrollingElement;
  return {raw: raw + failed, wide: root.scrollWidth - root.clientWidth};
})()
"""


class Page(HTMLParser):
    """Anchors, links, loaded files and pictures of one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.pictures = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(values[key] for key in ("id", "name") if values.get(key))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "link" and "stylesheet" not in (values.get("rel") or ""):
            return
        if values.get(LOADED.get(tag, "")):
            self.loaded.append(values[LOADED[tag]])
        if tag == "img":
            self.pictures.append((values.get("src"), values.get("alt")))


def page_files(root: Path) -> list[Path]:
    """The pages; what lies in _static are templates."""
    return sorted(path for path in root.rglob("*.html") if "_static" not in path.parts)


def check_files(root: Path) -> list[str]:
    """What is wrong with the pages as files, one line each."""
    root = root.resolve()
    pages = {path: Page(path) for path in page_files(root)}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(root)
        for source, alt in page.pictures:
            if not (alt or "").strip() or FILE_NAME.fullmatch(alt.strip()):
                wrong.append(f"{name}: picture {source} has no alternative text, but {alt!r}")
        for target in page.loaded:
            if urlsplit(target).netloc:
                wrong.append(f"{name}: {target} comes from another host")
        for target in {*page.links, *page.loaded}:
            problem = _follow(path, target, pages)
            if problem:
                wrong.append(f"{name}: {target}: {problem}")
    return wrong


def _follow(path: Path, target: str, pages: dict) -> str | None:
    """Why a link leads nowhere, or None."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    found = found / "index.html" if found.is_dir() else found
    if not found.exists():
        return "no such file"
    fragment = unquote(parts.fragment)
    if fragment and found in pages and fragment not in pages[found].anchors:
        return "no such anchor"
    return None


class BrowserError(RuntimeError):
    """The browser does not start."""


class Browser:
    """Chromium, driven through a pair of pipes: JSON messages that end with a zero byte."""

    def __init__(self, command: str, profile: str):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def connect():  # Chromium reads from descriptor 3 and writes to 4
            read, write = os.dup(to_browser), os.dup(from_browser)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(
            [
                command, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                f"--user-data-dir={profile}", "--no-first-run",
                "--disable-dev-shm-usage", "about:blank",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            ],
            preexec_fn=connect, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self.events = 0, b"", []
        watchdog = threading.Timer(SECONDS, self.process.kill)
        watchdog.start()
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        except (OSError, RuntimeError) as error:
            self.close()
            raise BrowserError(f"{command} does not start: {error}") from error
        finally:
            watchdog.cancel()
        self._session = attached["sessionId"]

    _session = None

    def call(self, method: str, **parameters) -> dict:
        """Send a command and wait for its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            received = self.receive()
            if received.get("id") == self._number:
                if "error" in received:
                    raise RuntimeError(f"{method}: {received['error']['message']}")
                return received["result"]
            self.events.append(received)

    def receive(self) -> dict:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has gone.")
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)


@contextlib.contextmanager
def _served(root: Path):
    """The address of a server of the pages, on a free port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def check_in_browser(root: Path, command: str) -> list[str]:
    """What is wrong with the pages in a browser, one line each."""
    wrong = []
    with (
        _served(root) as address,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        browser = Browser(command, profile)
        watchdog = None
        try:
            for domain in ("Page", "Runtime", "Log"):
                browser.call(f"{domain}.enable")
            browser.call("Emulation.setDeviceMetricsOverride", **PHONE)
            for path in page_files(root):
                if 'http-equiv="refresh"' in path.read_text(encoding="utf-8").lower():
                    continue  # it only leads to another page
                watchdog = threading.Timer(SECONDS, browser.process.kill)
                watchdog.start()
                name = path.relative_to(root).as_posix()
                lines = _look_at(browser, f"{address}/{name}", name)
                wrong += [f"{name}: {line}" for line in lines]
                watchdog.cancel()
        finally:
            if watchdog is not None:
                watchdog.cancel()
            browser.close()
    return wrong


def _look_at(browser: Browser, url: str, name: str) -> list[str]:
    browser.events.clear()
    browser.call("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired")
    probe = {"expression": PROBE, "awaitPromise": True, "returnByValue": True}
    found = browser.call("Runtime.evaluate", **probe)["result"].get("value")
    explorers = check_explorers(browser, name)
    said = [_console(event) for event in browser.events]
    lines = [f"console: {text}" for text in said if text and not text.endswith(HARMLESS)]
    lines += explorers
    if found is None:
        return [*lines, "the page could not be examined"]
    if found["raw"]:
        lines.append(f"{found['raw']} formulas are not typeset")
    if found["wide"] > 1:
        lines.append(f"{found['wide']} pixels wider than a phone's screen")
    return lines


def _console(event: dict) -> str | None:
    """An error that an event reports."""
    parameters = event.get("params", {})
    match event.get("method"):
        case "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            return details.get("exception", {}).get("description", details["text"])
        case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "assert"):
            return " ".join(str(x.get("value", x.get("description"))) for x in parameters["args"])
        case "Log.entryAdded" if parameters["entry"]["level"] == "error":
            return f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--browser", choices=("if-there", "required"), default="if-there",
        help="whether to fail without one",
    )  # fmt: skip
    arguments = parser.parse_args()
    root = arguments.folder.resolve()
    if not (root / "index.html").exists():
        sys.exit(f"folder: expected a built book, found no index.html in {root}.")
    wrong = check_files(root)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        if not browser:
            raise BrowserError("no Chromium here")
        wrong += check_in_browser(root, browser)
    except BrowserError as error:
        print(f"The pages were checked as files only: {error}.")
        if arguments.browser == "required":
            wrong.append("They were to be checked in a browser.")
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(f"{len(wrong)} things are wrong with the pages.")


if __name__ == "__main__":
    main()
