"""What a store says of its scan, whether a scan is that one, and from it each cell's job."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from neurofb import labels
from neurofb.config import difference, from_json, to_json
from neurofb.recipes import load_recipe
from neurofb.scan.plan import Plan, Scan, Tree, add, analysis_address, make_plan
from neurofb.scan.store import DONE, Store

_EMPTY = ", or delete this one: none of its cells is done"


def about(scan: Scan, plan: Plan) -> Tree:
    """Return what the attribute neurofb_scan of a store says beside its dims.

    Examples
    --------
    >>> scan = Scan(name="ranks", recipe="a.py::f", axes={"rank": [1]})
    >>> plan = Plan(axes=scan.grid, is_run=False, base={}, cells={})
    >>> about(scan, plan)["recipe"]
    'a.py::f'
    """
    return {
        "recipe": scan.recipe,
        "kind": "run" if plan.is_run else "function",
        "analyse": analysis_address(scan.analyse) if scan.analyse else "",
        "axes": {axis.dim: list(axis.names) for axis in plan.axes},
        "where": scan.where,
        "settings": json.loads(json.dumps(dict(scan.settings))),
        "independent_seeds": scan.independent_seeds,
        "code": _digests(scan.recipe, scan.analyse),
    }


def attributes(scan: Scan, plan: Plan) -> dict[str, Any]:
    """Return the global attributes of a new store.

    Examples
    --------
    >>> scan = Scan(name="ranks", recipe="a.py::f", axes={"rank": [1]})
    >>> attributes(scan, Plan(axes=scan.grid, is_run=False, base={}, cells={}))["title"]
    'ranks'
    """
    found = labels.provenance(title=scan.name, config=json.dumps(plan.base))
    for name in ("seed", "device", "data_checksum", "wall_seconds", "cpu_seconds", "threads"):
        del found[name]  # of a run; here they differ from cell to cell
    found["comment"] = (
        "One cell for each combination of the scan's coordinates. neurofb_config is the "
        "configuration of the first cell; `settings` says in what another cell differs from it. "
        "status 1 is done; what is not done is NaN or an empty text."
    )
    return found


def agreed_plan(scan: Scan, store: Store) -> Plan:
    """Work out a scan for a store that exists.

    Raises
    ------
    ValueError
        If the store is of another scan: what differs is said.

    Examples
    --------
    >>> agreed_plan(scan, Store(Path("scans/rank.zarr")))  # doctest: +SKIP
    """
    load_recipe(scan.recipe)
    pairs = zip(scan.axes.items(), scan.grid, strict=True)
    dims = {axis.dim: item for item, axis in pairs}
    if set(dims) != set(store.dims):
        raise ValueError(
            f"store={str(store.path)!r} is over {', '.join(store.dims)}, the scan over "
            f"{', '.join(dims)}; take another store"
        )
    scan = dataclasses.replace(scan, axes=dict(dims[dim] for dim in store.dims))
    plan = make_plan(scan, base=_base_of_today(store))
    old, new = store.scan, about(scan, plan)
    differences = [
        f"{name}: {old[name] or 'none'} → {new[name] or 'none'}"
        for name in ("recipe", "analyse", "kind", "axes")
        if old[name] != new[name]
    ]
    known = store.settings()
    if not known.keys() & plan.cells.keys():  # no cell in common to compare
        differences += [
            f"{name}: {old[name]} → {new[name]}"
            for name in ("settings", "independent_seeds")
            if old[name] != new[name]
        ]
    cells: dict[str, list[str]] = {}
    for name, (_, settings) in plan.cells.items():
        if name in known and known[name] != settings:
            before, after = _whole(store, known[name]), add(plan.base, settings)
            for line in difference(json.dumps(before), json.dumps(after)):
                cells.setdefault(line, []).append(name)
    differences += [
        f"{line} (cell {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''})"
        for line, names in cells.items()
    ]
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ValueError(
            f"store={str(store.path)!r} is of another scan: {'; '.join(differences[:5])}{more}; "
            f"take another store{'' if DONE in store.states().values() else _EMPTY}"
        )
    return plan


def changed_code(store: Store) -> list[str]:
    """Return the files executed by cells that are not what they were when the store was made.

    Examples
    --------
    >>> changed_code(Store(Path("scans/rank.zarr")))  # doctest: +SKIP
    ['analyses/receptive_fields.py']
    """
    code = store.scan["code"]
    now = _digests(*code)
    return [path for path in code if now.get(path, code[path]) != code[path]]


class Jobs:
    """The jobs of a store's cells, as workers take them.

    Parameters
    ----------
    store
        The store; it says everything, so no recipe is called.

    Raises
    ------
    ValueError
        If a file that cells execute is not there, or lies in the store itself: a store comes from
        anywhere, code does not.

    Examples
    --------
    >>> Jobs(Store(Path("scans/rank.zarr"))).text("rank=1,seed=0")  # doctest: +SKIP
    """

    def __init__(self, store: Store) -> None:
        self.base, self.settings = _base_of_today(store), store.settings()
        scan = store.scan
        self.is_run = scan["kind"] == "run"
        address = str(scan["analyse"] if self.is_run else scan["recipe"])
        self.address = _absolute(address, store.path) if address else ""

    def text(self, name: str) -> str:
        """Return a cell's job as JSON."""
        tree = add(self.base, self.settings[name])
        if self.is_run:
            return json.dumps({"config": tree, "analyse": self.address})
        return json.dumps({"recipe": self.address, "arguments": tree})


def _base_of_today(store: Store) -> Tree:
    """Return the store's base; settings that an older version did not have get their default."""
    return _of_today(store, json.loads(str(store.group.attrs["neurofb_config"])))


def _whole(store: Store, settings: Tree) -> Tree:
    """Return the whole configuration of a cell that the store has."""
    base = json.loads(str(store.group.attrs["neurofb_config"]))
    return _of_today(store, add(base, settings))


def _of_today(store: Store, tree: Tree) -> Tree:
    if store.scan["kind"] != "run":
        return tree
    try:
        return json.loads(to_json(from_json(json.dumps(tree))))
    except ValueError as error:
        raise ValueError(
            f"store={str(store.path)!r}: its configuration is none of this version: {error}"
        ) from None


def _absolute(address: str, store: Path) -> str:
    path, _, name = address.partition("::")
    found = Path(path).resolve()
    if not found.is_file():
        raise ValueError(
            f"store={str(store)!r} needs {path!r}, which is not here; paths of recipes are taken "
            "from the folder in which neurofb is started"
        )
    beside = store.resolve().with_suffix(".cells")
    if found.is_relative_to(store.resolve()) or found.is_relative_to(beside):
        raise ValueError(f"store={str(store)!r} names code inside of itself, {path!r}: not run")
    return f"{found}::{name}"


def _digests(*addresses: str) -> dict[str, str]:
    """Return a digest of each file that a scan executes."""
    paths = [Path(address.partition("::")[0]) for address in addresses if address]
    return {
        path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in paths
        if path.is_file()
    }
