"""Recipes: functions in plain Python files, addressed by path.

They return a run, a study, or a Dataset that they compute themselves.
"""

import ast
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import xarray as xr


def load_recipe(address: str) -> Callable[..., Any]:
    """Return the function at ``path/to/file.py::function``.

    The file is executed, so it must be one that you trust. It is not imported by name: recipes are
    data for the library, and nothing in them is needed by another process.

    Parameters
    ----------
    address
        Path of a Python file, two colons, name of a public function in it.

    Raises
    ------
    ValueError
        If the address has another form, the file is missing or fails, or the function is not there.

    Examples
    --------
    >>> load_recipe("nowhere.py::ldfa")
    Traceback (most recent call last):
    ValueError: recipe 'nowhere.py::ldfa': there is no file 'nowhere.py'
    """
    path, separator, name = address.partition("::")
    if not separator or not name:
        raise ValueError(f"recipe {address!r} must be 'path/to/file.py::function'")
    module = _load(Path(path), address)
    function = getattr(module, name, None)
    if name.startswith("_") or not inspect.isfunction(function):
        known = ", ".join(recipe_names(Path(path)))
        raise ValueError(f"recipe {address!r}: no function {name!r}; the file has: {known}")
    return function


def call_recipe(address: str, *arguments: Any) -> Any:
    """Return what the recipe at an address returns.

    Raises
    ------
    ValueError
        As `load_recipe`, or if the recipe takes other arguments.

    Examples
    --------
    >>> call_recipe(f"{__file__}::recipe_names", Path(__file__))[0]
    'load_recipe'
    """
    recipe = load_recipe(address)
    try:
        inspect.signature(recipe).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"recipe {address!r} cannot be called so: {error}") from None
    return recipe(*arguments)


def returns_dataset(recipe: Callable[..., Any]) -> bool:
    """Tell whether a recipe says that it returns a Dataset: then it is itself what computes.

    Examples
    --------
    >>> returns_dataset(returns_dataset)
    False
    """
    answer = inspect.signature(recipe).return_annotation
    return answer is xr.Dataset or str(answer).rpartition(".")[2].strip("'\">") == "Dataset"


def recipe_names(path: Path) -> list[str]:
    """Return the public functions of a recipe file, without executing it.

    Examples
    --------
    >>> recipe_names(Path(__file__))
    ['load_recipe', 'call_recipe', 'returns_dataset', 'recipe_names', 'summary']
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if not node.name.startswith("_")]


def summary(path: Path, name: str) -> str:
    """Return the first line of a recipe's docstring, without executing the file.

    Examples
    --------
    >>> summary(Path(__file__), "summary")
    "Return the first line of a recipe's docstring, without executing the file."
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _load(path: Path, address: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"recipe {address!r}: there is no file {str(path)!r}")
    specification = importlib.util.spec_from_file_location(f"_recipe_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ValueError(f"recipe {address!r}: {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # a recipe may fail in any way; say which one and how
        raise ValueError(f"recipe {address!r} fails: {type(error).__name__}: {error}") from error
    return module
