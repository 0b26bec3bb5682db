"""What a scan costs beside its cells: per cell, per worker, and with ten thousand cells.

    python benchmarks/scan_overhead.py

Three questions. How long does the engine take for a cell that computes nothing (one process)? How
much faster are two workers than one, with cells that take a second? How long do opening and
`status` of a store of 10 000 cells take? The results are written to
benchmarks/results/scan_overhead.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from machine import ROOT, describe_machine, write_result

from neurofb.pool import WorkerPool
from neurofb.scan import Scan, open_scan, run_scan, status
from neurofb.scan.agreement import about, attributes
from neurofb.scan.handover import variables_of
from neurofb.scan.plan import make_plan
from neurofb.scan.store import Store

RECIPE = f"{Path(__file__).resolve()}::cell"


def cell(a: int = 0, seed: int = 0, seconds: float = 0.0) -> xr.Dataset:
    """Two numbers and a curve, after so many seconds of doing nothing."""
    time.sleep(seconds)
    return xr.Dataset(
        {
            "one": ((), float(a), {"units": "1", "long_name": "one"}),
            "two": ((), float(seed), {"units": "1", "long_name": "two"}),
            "curve": ("time", np.arange(50.0), {"units": "1", "long_name": "curve"}),
        }
    )


def scan_of(num_a: int, num_seeds: int, seconds: float = 0.0) -> Scan:
    axes = {"a": range(num_a), "seed": range(num_seeds)}
    return Scan(name="overhead", recipe=RECIPE, axes=axes, settings={"seconds": seconds})


def per_cell(folder: Path, repeats: int) -> dict:
    """Return seconds a cell of a serial scan of 100 cells that compute nothing."""
    times = []
    for repeat in range(repeats):
        began = time.perf_counter()
        run_scan(scan_of(10, 10), folder / f"{repeat}.zarr", workers=0, progress=False)
        times.append((time.perf_counter() - began) / 100)
    return {"seconds_per_cell": statistics.median(times), "all": times}


def two_workers(folder: Path, repeats: int) -> dict:
    """Return how much faster two workers are than one, start of the workers left out."""
    ratios, ones, twos = [], [], []
    for repeat in range(repeats):
        took = {}
        for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            with WorkerPool(workers) as pool:
                _warm(pool, workers)
                began = time.perf_counter()
                run_scan(
                    scan_of(5, 4, seconds=1.0),
                    folder / f"{repeat}-{workers}.zarr",
                    executor=pool,
                    progress=False,
                )
                took[workers] = time.perf_counter() - began
        ones.append(took[1])
        twos.append(took[2])
        ratios.append(took[1] / took[2])
    return {"ratio": statistics.median(ratios), "all": ratios, "one": ones, "two": twos}


def ten_thousand(folder: Path, repeats: int, side: int) -> dict:
    """Return how long opening and status take with side² cells, all done."""
    scan = scan_of(side, side)
    began = time.perf_counter()
    plan = make_plan(scan)
    planned = time.perf_counter() - began
    path = folder / "many.zarr"
    about_it = about(scan, plan), attributes(scan, plan)
    store = Store.create(path, plan.axes, plan.cells, *about_it)
    variables = variables_of(cell())
    began = time.perf_counter()
    for name in plan.cells:
        store.write(name, variables, 1.0)
    written = (time.perf_counter() - began) / len(plan.cells)
    times: dict[str, list[float]] = {"open": [], "open_dask": [], "status": [], "resume": []}
    functions = {
        "open": lambda: open_scan(path),
        "open_dask": lambda: xr.open_zarr(path),
        "status": lambda: status(path),
        "resume": lambda: run_scan(None, path, workers=0, progress=False),
    }
    for _ in range(repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    began = time.perf_counter()
    open_scan(path)["one"].load()
    read = time.perf_counter() - began
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "cells": side**2,
        "seconds": medians | {"plan": planned, "write_a_cell": written, "read_a_variable": read},
    }


def _warm(pool: WorkerPool, workers: int) -> None:
    """Let the workers start and import."""
    for future in [pool.submit(_import) for _ in range(workers)]:
        future.result()


def _import() -> None:
    import neurofb.scan.cell  # noqa: F401


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=100, help="10 000 cells are 100 × 100")
    parser.add_argument("--tiny", action="store_true", help="only see that it runs")
    default = ROOT / "benchmarks/results/scan_overhead.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    repeats, side = (1, 4) if options.tiny else (options.repeats, options.side)
    result: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["serial"] = per_cell(folder / "serial", repeats)
        if not options.tiny:
            result["workers"] = two_workers(folder / "workers", 3)
        result["many"] = ten_thousand(folder / "many", repeats, side)
    result["load_average_at_end"] = describe_machine()["load_average"]
    write_result(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
