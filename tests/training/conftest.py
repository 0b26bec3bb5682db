"""The small run of `killed_run.py`, as a fixture."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    path = Path(__file__).with_name("killed_run.py")
    spec = importlib.util.spec_from_file_location("killed_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
