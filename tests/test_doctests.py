"""The examples in docstrings run, with the names of their own module and what they import."""

import doctest
import importlib
import inspect
import pkgutil

import matplotlib.pyplot as plt
import pytest

import abmtools
from abmtools.datasets import DataUnavailableError, load_dutilh2011

MODULES = ["abmtools"] + [
    module.name for module in pkgutil.walk_packages(abmtools.__path__, prefix="abmtools.")
]
# Each lists its public names; seeds are for use inside the package.
PACKAGES = [name for name in MODULES if name.count(".") < 2 and name != "abmtools.seeds"]
# What a function returns, and the function has the example; of the last one, a method has it.
RESULTS = {
    "Comparison",
    "Gap",
    "HeterogeneousData",
    "ImportanceResult",
    "MarginalLikelihood",
    "MembershipCalibration",
    "Misspecification",
    "ModelProbabilities",
    "PredictiveCheck",
    "Refinement",
    "SimulationBasedCalibration",
    "MixturePosterior",
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if name == "abmtools.datasets" and (reason := reason_without_data()):
        assert "let ABMTOOLS_DATA name the folder" in reason
        return
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=report.append)
        plt.close("all")
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def reason_without_data():
    """Why the data are not to be had (offline, without a local copy), or None."""
    try:
        load_dutilh2011("B")
    except DataUnavailableError as error:
        return str(error)
    return None


def public_functions_and_classes():
    """All that is public, without exceptions and warnings; two packages may share a name."""
    packages = map(importlib.import_module, PACKAGES)
    public = [getattr(package, name) for package in packages for name in package.__all__]
    functions = [x for x in public if inspect.isroutine(x)]
    classes = [x for x in public if inspect.isclass(x) and not issubclass(x, BaseException)]
    return functions + classes


def has_example(x):
    """Whether the docstring, not counting those of methods, has an example that runs."""
    _, _, examples = inspect.cleandoc(x.__doc__ or "").partition("\nExamples\n--------\n")
    return bool(doctest.DocTestParser().get_examples(examples))


def test_every_public_function_and_class_has_an_example():
    public = public_functions_and_classes()
    assert {x.__name__ for x in public if not has_example(x)} == RESULTS
    assert has_example(abmtools.MixturePosterior.to_pandas)
