"""Every example in every docstring of the package, with warnings as errors."""

import doctest
import importlib
import inspect
import pkgutil
import warnings

import pytest

import neurofb

MODULES = sorted(
    ["neurofb", *(m.name for m in pkgutil.walk_packages(neurofb.__path__, "neurofb."))]
)


class Finder(doctest.DocTestFinder):
    """Also finds functions wrapped by a decorator, such as the type checker's in tests."""

    def _from_module(self, module, object):
        if inspect.isfunction(object):
            return object.__module__ == module.__name__
        return super()._from_module(module, object)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner = doctest.DocTestRunner()
        for test in Finder().find(module):
            runner.run(test)
    assert runner.summarize().failed == 0


def test_examples_are_found():
    found = Finder().find(importlib.import_module("neurofb.feedback.attach"))
    assert sum(bool(test.examples) for test in found) >= 5
