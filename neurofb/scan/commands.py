"""The commands ``neurofb scan``: start, go on, look."""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurofb.scan.axis_text import parse_axis
from neurofb.scan.coordinator import ScanStoppedError
from neurofb.scan.plan import Plan, Scan, make_plan
from neurofb.scan.scanning import run_scan
from neurofb.scan.status_text import status
from neurofb.scan.store import FAILED


def scan_command(options: argparse.Namespace) -> int:
    """Do what the words after ``neurofb scan`` say; return 1 if a cell has failed.

    Raises
    ------
    ValueError
        If the words do not fit each other.

    Examples
    --------
    >>> from neurofb.arguments import EXAMPLES, parser_of
    >>> parser = parser_of(dict.fromkeys(EXAMPLES, scan_command))
    >>> scan_command(parser.parse_args(["scan", "status", "nowhere.zarr"]))
    Traceback (most recent call last):
    ValueError: store='nowhere.zarr' is no store of a scan
    """
    store = options.store or options.store_too
    if options.what in ("status", "resume"):
        if store is None:
            raise ValueError(f"`neurofb scan {options.what} STORE` needs a store")
        if options.over or options.set or options.analyse or options.where:
            raise ValueError(
                f"--over, --set, --analyse and --where are not for `scan {options.what}`: the "
                "store says what is scanned (start the scan again to make it longer)"
            )
        if options.what == "status":
            print(status(store))
            return 0
        return _run(None, store, options)
    if "::" not in options.what:
        raise ValueError(
            f"`neurofb scan {options.what}`: neither a recipe (path/to/file.py::function), nor "
            "status, nor resume"
        )
    scan = _scan_of(options)
    if options.dry_run:
        print(overview(scan, make_plan(scan)))
        return 0
    if store is None:
        raise ValueError("--store PATH.zarr is needed (or --dry-run)")
    return _run(scan, store, options)


def overview(scan: Scan, plan: Plan) -> str:
    """Return what a scan would compute, as text.

    Examples
    --------
    >>> scan = Scan(name="waves", recipe="a.py::f", axes={"gain": [1, 2], "seed": range(3)})
    >>> print(overview(scan, Plan(axes=scan.grid, is_run=False, base={"gain": 1}, cells={})))
    waves: 0 cells of gain 2 × seed 3
    first cell: {"gain": 1}
    """
    axes = " × ".join(f"{axis.dim} {len(axis.points)}" for axis in plan.axes)
    lines = [f"{scan.name}: {len(plan.cells)} cells of {axes}"]
    lines.append(f"first cell: {json.dumps(plan.base)}")
    lines += [f"  {name}: {json.dumps(s)}" for name, (_, s) in list(plan.cells.items())[1:10]]
    if len(plan.cells) > 10:
        lines.append(f"  … and {len(plan.cells) - 10} more")
    return "\n".join(lines)


def _scan_of(options: argparse.Namespace) -> Scan:
    """Return the scan that the options describe."""
    if not options.over:
        raise ValueError("--over NAME=VALUE,VALUE is needed: a scan has at least one axis")
    axes: dict[Any, Any] = {}
    for text in options.over:
        name, values = parse_axis(text)
        if name in axes:
            raise ValueError(f"--over {text!r}: {name!r} is an axis already")
        axes[name] = values
    return Scan(
        name=options.title or options.what,
        recipe=options.what,
        axes=axes,
        analyse=options.analyse or "",
        where=options.where or "",
        settings=dict(_setting(text) for text in options.set),
        independent_seeds=options.independent_seeds,
    )


def _run(scan: Scan | None, store: Path, options: argparse.Namespace) -> int:
    """Run a scan, and say at the end how it stands."""
    from neurofb.data.cache import default_cache

    options.go_on = f"`neurofb scan resume {store}` goes on from here"
    with _executor(options) as executor, warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _say
        failed = _completed(
            scan,
            store,
            workers=None if executor is not None else options.workers,
            executor=executor,
            retry_failed=options.retry_failed,
            verify=options.verify,
            fail_fast=options.fail_fast,
            time_limit=options.time_limit,
            memory_limit=options.memory_limit,
            threads=options.threads,
            stack=options.stack,
            keep=options.keep,
            cache=default_cache(),
        )
    print(status(store))
    return failed


def _say(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line."""
    print(f"neurofb scan: {message}", file=sys.stderr)


def _completed(scan: Scan | None, store: Path, **how: Any) -> int:
    """Run a scan; return 1 if it was stopped or a cell has failed."""
    try:
        dataset = run_scan(scan, store, **how)
    except ScanStoppedError as error:
        print(f"neurofb scan: {error}", file=sys.stderr)
        return 1
    return int(np.any(dataset["status"].values == FAILED))


@contextmanager
def _executor(options: argparse.Namespace) -> Iterator[Executor | None]:
    """Open dask if it is asked for; the cells run in processes of this machine else."""
    if options.dask is None:
        yield None
        return
    if options.workers is not None and options.dask != "local":
        raise ValueError(f"--workers {options.workers}: the dask cluster has its own workers")
    from neurofb.scan.dask_engine import dask_executor

    with dask_executor(options.dask, workers=options.workers) as executor:
        yield executor


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"--set {text!r} must be NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
