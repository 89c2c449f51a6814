"""Check the live explorers of a page in a browser, as a reader uses them.

* Nothing of theirs is loaded before the reader comes to them;
* then they come alive and answer to a slider within 100 ms: of many moves at least the fastest,
  which says as much on a machine that does other things besides; the median is printed;
* their numbers are those of the Python package, written by ``make export``.
"""

from pathlib import Path

__all__ = ["TOLERANCE", "check_explorers"]

PROBE = Path(__file__).with_name("probe_explorers.js")
TOLERANCE = 1e-4
MILLISECONDS = 100  # for an answer


def check_explorers(browser, page: str) -> list[str]:
    """What is wrong with the explorers of the page that a browser shows, one line each.

    Parameters
    ----------
    browser : check_pages.Browser
    page : str
        Its name, for what is printed.
    """
    probe = {
        "expression": PROBE.read_text(encoding="utf-8"), "awaitPromise": True,
        "returnByValue": True,
    }  # fmt: skip
    found = browser.call("Runtime.evaluate", **probe)["result"].get("value")
    if found is None:
        return ["the explorers could not be examined"]
    wrong = []
    for explorer in found:
        wrong += [f"explorer {explorer['name']}: {line}" for line in _judge(explorer)]
        if explorer["state"] == "live":
            print(
                f"{page}: explorer {explorer['name']} answers a slider in "
                f"{explorer['milliseconds']:.0f} ms (median); it differs from the package by "
                f"{explorer['difference']:.1e} at most."
            )
    return wrong


def _judge(explorer: dict) -> list[str]:
    lines = [f"{name} was loaded before it was reached" for name in explorer["early"]]
    if explorer["state"] != "live":
        return [*lines, f"does not come alive, but is {explorer['state']}: {explorer['note']}"]
    if explorer["difference"] > TOLERANCE:
        lines.append(f"differs from the package by {explorer['difference']:.1e}")
    if explorer["fastest"] > MILLISECONDS:
        lines.append(f"takes {explorer['fastest']:.0f} ms for an answer, at best")
    if explorer["wide"] > 1:
        lines.append(f"makes the page {explorer['wide']} pixels wider than the screen")
    return lines
