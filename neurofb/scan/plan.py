"""What a scan is, and what each of its cells is to compute."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neurofb.config import RunConfig, change, to_json
from neurofb.recipes import load_recipe, returns_dataset
from neurofb.scan.grid import Axes, Axis, Cell, cells_of, make_axes
from neurofb.scan.seeds import independent_seed

#: A configuration as a tree of JSON values.
Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A recipe over a grid of settings.

    Parameters
    ----------
    name
        Title of the scan.
    recipe
        Address ``path/to/file.py::function``. The function returns a `RunConfig`; one that is
        annotated to return an `xr.Dataset` is itself what a cell computes.
    axes
        Setting → values. A setting is an argument of the recipe or a dotted field of the
        configuration; a tuple of settings goes with tuples of values (they change together). The
        last part of the (first) name is the dimension.
    analyse
        Address of the function that turns a run's tree into the cell's Dataset
        (``path/to/file.py`` means its function ``per_run``); "" keeps accuracy, losses and curves
        (`neurofb.scan.summary`).
    where
        Expression of the axes; only cells for which it is true are asked for.
    settings
        Settings that are the same for all cells, as for `neurofb.config.change`.
    independent_seeds
        False: cells of one seed start alike (paired, so differences between conditions are taken
        seed by seed), and a cell is the run that `neurofb run --seed` makes. True: each cell draws
        its own seed from its labels (`neurofb.scan.seeds.independent_seed`).

    Examples
    --------
    >>> scan = Scan(name="ranks", recipe="models/retina_vvs.py::ldfa",
    ...             axes={"feedback.rank": [1, 2, 4], "seed": range(5)})
    >>> [axis.dim for axis in scan.grid]
    ['rank', 'seed']
    """

    name: str
    recipe: str
    axes: Axes
    analyse: str = ""
    where: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    independent_seeds: bool = False

    @property
    def grid(self) -> tuple[Axis, ...]:
        """The axes, checked."""
        return make_axes(self.axes)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A scan with every cell's settings worked out and checked.

    Attributes
    ----------
    axes
        The axes.
    is_run
        Whether cells are runs, or calls of the recipe.
    base
        Configuration of the first cell (or its arguments), to which others are compared.
    cells
        Cell → what differs from `base`, as `subtract` has it.
    """

    axes: tuple[Axis, ...]
    is_run: bool
    base: Tree
    cells: Mapping[str, tuple[Cell, Tree]]


def make_plan(scan: Scan, base: Tree | None = None) -> Plan:
    """Work out every cell's settings, and refuse what could not run.

    Parameters
    ----------
    scan
        The scan.
    base
        The configuration to compare with; the first cell's by default.

    Raises
    ------
    ValueError
        If the recipe is not there, takes other arguments, returns something else, or a setting does
        not exist or has a value that is not allowed.

    Examples
    --------
    >>> scan = Scan(name="ranks", recipe="models/retina_vvs.py::ldfa", axes={"feedback.rank": [1]})
    >>> make_plan(scan).cells  # doctest: +SKIP
    {'rank=1': (Cell(labels={'rank': 1}, settings={'feedback.rank': 1}), {'feedback.rank': 1})}
    """
    axes = scan.grid
    if not isinstance(scan.recipe, str):
        raise ValueError(f"recipe={scan.recipe!r} must be a text, path/to/file.py::function")
    twice = [name for axis in axes for name in axis.names if name in scan.settings]
    if twice:
        raise ValueError(f"setting {twice[0]!r} is an axis; it cannot be the same for all cells")
    recipe = load_recipe(scan.recipe)
    signature = inspect.signature(recipe)
    is_run = not returns_dataset(recipe)
    if not is_run and scan.analyse:
        raise ValueError(f"analyse={scan.analyse!r}: {scan.recipe!r} returns a Dataset, not a run")
    if scan.analyse:
        load_recipe(analysis_address(scan.analyse))
    parameters = tuple(signature.parameters)
    recipes: dict[str, RunConfig] = {}
    cells: dict[str, tuple[Cell, Tree]] = {}
    for cell in cells_of(axes, scan.where):
        settings = {**scan.settings, **cell.settings}
        arguments = {name: value for name, value in settings.items() if name in parameters}
        others = {name: value for name, value in settings.items() if name not in parameters}
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise ValueError(f"recipe {scan.recipe!r} cannot be called so: {error}") from None
        if is_run:
            key = json.dumps(arguments, sort_keys=True)
            if key not in recipes:
                recipes[key] = _call(recipe, arguments, scan.recipe)
            config = _changed(recipes[key], others, cell)
            if scan.independent_seeds:
                config = replace(config, seed=independent_seed(cell.labels, config.seed))
            tree: Tree = json.loads(to_json(config))
        else:
            if others:
                raise ValueError(
                    f"setting {next(iter(others))!r} is no argument of {scan.recipe!r}; it has: "
                    f"{', '.join(parameters)}"
                )
            tree = _with_defaults(signature, arguments)
            if base is not None and tree.keys() != base.keys():
                raise ValueError(
                    f"recipe {scan.recipe!r} has the arguments {', '.join(tree)}, but had "
                    f"{', '.join(base)} when the store was made"
                )
            if scan.independent_seeds and "seed" not in parameters:
                raise ValueError(f"independent_seeds: {scan.recipe!r} has no argument 'seed'")
            if scan.independent_seeds:
                tree["seed"] = independent_seed(cell.labels, int(tree.get("seed", 0)))
        base = tree if base is None else base
        cells[cell.name] = cell, subtract(tree, base)
    assert base is not None
    return Plan(axes=axes, is_run=is_run, base=base, cells=cells)


def analysis_address(analyse: str) -> str:
    """Return the address of an analysis' function for one run.

    Examples
    --------
    >>> analysis_address("analyses/receptive_fields.py")
    'analyses/receptive_fields.py::per_run'
    """
    return analyse if "::" in analyse else f"{analyse}::per_run"


def subtract(tree: Tree, base: Tree, prefix: str = "") -> Tree:
    """Return the settings in which a tree differs from another: dotted name → value.

    Where two subtrees do not have the same fields, the whole subtree is a setting.

    Examples
    --------
    >>> subtract({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a.c': 2}
    >>> subtract({"a": {"d": 1}}, {"a": {"b": 1}})
    {'a': {'d': 1}}
    """
    found: Tree = {}
    for name, value in tree.items():
        other = base.get(name)
        if isinstance(value, dict) and isinstance(other, dict) and _alike(value, other):
            found |= subtract(value, other, f"{prefix}{name}.")
        elif name not in base or value != other or type(value) is not type(other):
            found[f"{prefix}{name}"] = value
    return found


def add(base: Tree, settings: Tree) -> Tree:
    """Return the tree that `subtract` has taken apart.

    Examples
    --------
    >>> add({"a": {"b": 1, "c": 3}}, {"a.c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: Tree = json.loads(json.dumps(base))
    for name, value in settings.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node[part]
        node[last] = value
    return tree


def _with_defaults(signature: inspect.Signature, arguments: Tree) -> Tree:
    """Return all arguments of a call, as far as JSON can say them."""
    bound = signature.bind(**arguments)
    bound.apply_defaults()
    plain = (str, int, float, bool, list, dict, type(None))
    found = {name: value for name, value in bound.arguments.items() if isinstance(value, plain)}
    for name, value in arguments.items():
        try:
            found[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            raise ValueError(
                f"setting {name!r}: {value!r} is a {type(value).__name__}; allowed: text, number, "
                "truth value, None, lists and dicts of them"
            ) from None
    return found


def _alike(tree: Tree, other: Tree) -> bool:
    """Tell whether two subtrees have the same fields, and these have plain names."""
    return bool(tree) and tree.keys() == other.keys() and not any("." in name for name in tree)


def _call(recipe: Any, arguments: Tree, address: str) -> RunConfig:
    config = recipe(**arguments)
    if not isinstance(config, RunConfig):
        raise ValueError(
            f"recipe {address!r} returns a {type(config).__name__}, not a RunConfig (a recipe that "
            "computes the cell's Dataset itself must say so: `-> xr.Dataset`)"
        )
    return config


def _changed(config: RunConfig, settings: Tree, cell: Cell) -> RunConfig:
    try:
        return change(config, {name: json.dumps(value) for name, value in settings.items()})
    except ValueError as error:
        raise ValueError(f"cell {cell.name}: {error}") from None
