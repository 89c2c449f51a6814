"""The examples in docstrings run, with the names of their own module and what they import."""

import doctest
import importlib
import pkgutil

import pytest

import abmtools

MODULES = ["abmtools"] + [
    module.name for module in pkgutil.walk_packages(abmtools.__path__, prefix="abmtools.")
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
