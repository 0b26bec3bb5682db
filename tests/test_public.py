"""What each sub-package exports, that it has examples, and that importing stays light."""

import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = ["data", "dynamics", "feedback", "measures", "networks", "plot", "report", "scan"]
PACKAGES += ["tensors", "theory", "training"]


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_what_is_exported(name):
    package = importlib.import_module(f"neurofb.{name}")
    assert len(set(package.__all__)) == len(package.__all__)  # the linter keeps them in order
    for public in package.__all__:
        assert getattr(package, public) is not None
    others = {
        public
        for public, value in vars(package).items()
        if not public.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "").startswith("neurofb.")
    }
    assert others <= set(package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_public_functions_have_an_example(name):
    package = importlib.import_module(f"neurofb.{name}")
    without = [
        public
        for public in package.__all__
        if inspect.isfunction(inspect.unwrap(getattr(package, public)))
        and "Examples\n" not in (inspect.getdoc(getattr(package, public)) or "")
    ]
    assert not without


MODULES = ["config", "run", "study", "recipes", "listing", "dry_run", "cli", "simulation"]


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_of_modules_have_an_example(name):
    module = importlib.import_module(f"neurofb.{name}")
    without = [
        public
        for public, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not public.startswith("_")
        and "Examples\n" not in (inspect.getdoc(value) or "")
    ]
    assert not without


def test_importing_is_light():
    code = (
        "import sys, neurofb, neurofb.feedback, neurofb.plot, neurofb.cli; "
        "print([m for m in ('matplotlib', 'zarr', 'dask', 'sklearn') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_worker_of_a_scan_starts_without_what_only_some_measures_need():
    code = "import sys, neurofb.scan; print('scipy.stats' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
