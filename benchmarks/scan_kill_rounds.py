"""Rounds of a scan that is killed again and again, and must lose nothing.

A round starts a scan of 60 cells on two workers, kills (SIGKILL) the coordinator or a worker at a
random moment, several times, starts it again, and lets the last sitting end. It holds that

- every round ends with all cells done, equal bit by bit to an uninterrupted serial scan;
- no cell that was finished when something was killed is ever started again, and no more cells start
  a second time than were running when something was killed;
- after every kill of the coordinator its workers end by themselves, and the store opens with plain
  `xarray.open_zarr`, without a warning, with all data of the cells that it calls done;
- in the end no partial file and no folder of a cell is left.

Most rounds compute functions; every fourth one trains networks, which go on from checkpoints.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from machine import ROOT, describe_machine, write_result

from neurofb.scan import Scan, cell, run_scan
from neurofb.scan.scanning import cells_folder
from neurofb.training.checkpoint import load_checkpoint

RECIPES = "tests/scan/recipes.py"
TALLY, SLOWNESS = "SCAN_KILL_ROUNDS_TALLY", "SCAN_KILL_ROUNDS_SLOWNESS"
#: So many workers are killed in a sitting at most: a third death of one cell would be its failure.
MOST_WORKER_KILLS = 2


def make_scan(kind: str, num_cells: int) -> Scan:
    """Return a scan of functions or of runs; `num_cells` is a multiple of 4."""
    seeds = range(num_cells // 4)
    if kind == "function":
        axes: dict[Any, Any] = {"gain": [0.5, 1, 2, 3], "seed": seeds}
        return Scan(name="kill rounds", recipe=f"{RECIPES}::ragged", axes=axes)
    axes = {"hidden": [4, 6], "training.optimiser.learning_rate": [0.1, 0.2], "seed": seeds}
    return Scan(
        name="kill rounds",
        recipe=f"{RECIPES}::tiny_run",
        axes=axes,
        analyse=f"{RECIPES}::of_run",
    )


def play_round(
    kind: str, num_cells: int, folder: Path, reference: xr.Dataset, seed: int, kills: int
) -> dict[str, Any]:
    """Play one round and return what happened; AssertionError if something was lost."""
    chance, began = random.Random(seed), time.monotonic()
    store, tally = folder / "scan.zarr", folder / "tally.txt"
    log: list[dict[str, Any]] = []
    finished: dict[str, float] = {}  # cell -> when it was seen to be finished
    sittings = 0
    while True:
        sittings += 1
        process = start(kind, num_cells, store, tally)
        try:
            died = _sitting(process, num_cells, tally, chance, log, kills - len(log))
            errors = process.communicate(timeout=900)[1]
        finally:
            process.kill()
        if died is not None:
            log[-1]["workers_gone_s"] = wait_until_gone(died)
            if store.exists():
                log[-1]["done"] = look(store, reference)
            for name in finished_cells(store):
                finished.setdefault(name, time.time())
        elif process.returncode:
            raise AssertionError(
                f"sitting {sittings} of seed {seed} exited with {process.returncode}: {errors}"
            )
        else:
            break
    starts = read_tally(tally)
    again = started_again(starts, finished)
    assert not again, f"finished cells were started again: {again}"
    counts = Counter(name for name, _, _ in starts)
    assert finished.keys() <= counts.keys(), f"{finished} have never started"
    interrupted = sum(2 if kill["victim"] == "coordinator" else 1 for kill in log)
    assert len(counts) == num_cells, f"{len(counts)} cells were started"
    assert len(starts) - num_cells <= interrupted, f"{len(starts)} starts, {log}"
    assert look(store, reference) == num_cells, "not all cells are done"
    left = [str(path) for path in folder.rglob("*") if "partial" in path.name]
    left += [path.name for path in cells_folder(store).iterdir() if path.is_dir()]
    assert not left, f"left over: {left}"
    return {
        "seed": seed,
        "kind": kind,
        "cells": num_cells,
        "kills": log,
        "sittings": sittings,
        "executions": len(starts),
        "from_checkpoint": sum(step > 0 for _, _, step in starts),
        "seconds": round(time.monotonic() - began, 1),
        "equal_bitwise": True,
    }


def start(kind: str, num_cells: int, store: Path, tally: Path) -> subprocess.Popen:
    """Start a sitting: a coordinator with two workers, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--sitting", store, "--kind", kind, "--cells", str(num_cells)],
        cwd=ROOT,
        env={**os.environ, TALLY: str(tally), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def sit(kind: str, num_cells: int, store: Path) -> None:
    """Be the coordinator of one sitting."""
    warnings.simplefilter("error")
    run_scan(make_scan(kind, num_cells), store, workers=2, progress=False)


def _sitting(
    process: subprocess.Popen,
    num_cells: int,
    tally: Path,
    chance: random.Random,
    log: list[dict[str, Any]],
    kills: int,
) -> list[psutil.Process] | None:
    """Kill at random moments; return the workers, if it was the coordinator who died."""
    worker_kills = 0
    before = len(read_tally(tally))
    while kills > 0 and process.poll() is None:
        moment = "any" if chance.random() < 0.15 else "working"
        delay = chance.uniform(0, 10) if moment == "any" else chance.uniform(0, 0.3)
        cells = before + chance.randint(1, max(1, (num_cells - before) // kills))
        while moment == "working" and process.poll() is None and len(read_tally(tally)) < cells:
            time.sleep(0.005)
        _sleep(process, delay)
        children = workers_of(process.pid)
        victim = chance.choice(["coordinator", "worker"])
        if not children or worker_kills >= MOST_WORKER_KILLS:
            victim = "coordinator"
        if process.poll() is not None:
            break
        starts = len(read_tally(tally))
        entry = {"victim": victim, "moment": moment, "delay_s": round(delay, 3), "starts": starts}
        log.append(entry)
        kills -= 1
        if victim == "coordinator":
            process.kill()
            process.wait()
            return children
        worker_kills += 1
        before = len(read_tally(tally))
        _kill(chance.choice(children))
    return None


def read_tally(tally: Path) -> list[tuple[str, float, int]]:
    """Return cell, time and step of the checkpoint, for every start of a cell."""
    if not tally.exists():
        return []
    lines = [line.split() for line in tally.read_text(encoding="utf-8").splitlines()]
    return [(name, float(when), int(step)) for when, name, step in lines]


def started_again(
    starts: list[tuple[str, float, int]], finished: dict[str, float]
) -> list[tuple[str, float]]:
    """Return the starts of cells after they were seen to be finished; there must be none."""
    return [(name, when) for name, when, _ in starts if when > finished.get(name, np.inf)]


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the worker processes of a coordinator."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def wait_until_gone(processes: list[psutil.Process]) -> float:
    """Wait for the end of a dead coordinator's workers; return after how many seconds."""
    began = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive, f"workers live on without their coordinator: {alive}"
    return round(time.monotonic() - began, 2)


def finished_cells(store: Path) -> set[str]:
    """Return the cells that are done in the store, or wait beside it to be taken."""
    waiting = {path.parent.name for path in cells_folder(store).glob(f"*/*/{cell.OUTCOME}")}
    if not store.exists():
        return waiting
    with xr.open_zarr(store, chunks=None) as dataset:
        done = dataset["status"].stack(cell=dataset["status"].dims)
        places = done.where(done == 1, drop=True)["cell"].to_index()
    names = [str(name) for name in places.names]
    return waiting | {
        ",".join(f"{name}={_short(v)}" for name, v in zip(names, place, strict=True))
        for place in places
    }


def look(store: Path, reference: xr.Dataset) -> int:
    """Open a store as anybody would; return how many cells are done, all equal to the reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_zarr(store, chunks=None) as dataset:
            dataset.load()
    done = dataset["status"].values == 1
    different = [
        name
        for name in reference.data_vars
        if name not in ("cell_seconds", "status") and not _same(dataset, reference, str(name), done)
    ]
    assert not different, f"cells that are done differ from the serial scan in {different}"
    return int(done.sum())


def _same(dataset: xr.Dataset, reference: xr.Dataset, name: str, done: np.ndarray) -> bool:
    """Tell whether cells that are done have the reference's values, whatever the labels' order."""
    expected = reference[name].values
    if name not in dataset:
        return bool(_empty(expected[done]).all())
    empty = {"T": "", "O": "", "f": np.nan}.get(expected.dtype.kind, -1)
    found = np.full(expected.shape, empty, expected.dtype)
    places = [
        [reference.indexes[dim].get_loc(label) for label in dataset[dim].values.tolist()]
        for dim in dataset[name].dims
    ]
    found[np.ix_(*places)] = dataset[name].values
    a, b = found[done], expected[done]
    if dataset[name].dtype != expected.dtype:
        return False
    return a.tolist() == b.tolist() if a.dtype.kind in "TO" else a.tobytes() == b.tobytes()


def _empty(values: np.ndarray) -> np.ndarray:
    return values == "" if values.dtype.kind in "TO" else np.isnan(values)


def _short(label: Any) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)


def _sleep(process: subprocess.Popen, seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def count_starts() -> None:
    """Let every start of a cell in this process leave a line; workers import this file, too."""
    tally, compute = os.environ.get(TALLY), cell._compute

    def counted(folder: Path, *arguments: Any) -> xr.Dataset:
        saved = load_checkpoint(folder / cell.RUN)
        step = int(saved["step"]) if saved else 0
        handle = os.open(str(tally), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{time.time():.6f} {folder.name} {step}\n".encode())
        os.close(handle)
        return compute(folder, *arguments)

    if tally:
        cell._compute = counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/scan_kill_rounds.json"
    )
    parser.add_argument("--sitting", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sitting:
        sit(options.kind, options.cells, options.sitting)
        return
    machine = describe_machine()
    rounds = []
    for played in play(options.rounds, options.cells, options.seed):
        rounds.append(played)
        print(json.dumps(played), file=sys.stderr, flush=True)
        write_result(options.out, {"machine": machine, **totals(rounds), "rounds": rounds})


def play(rounds: int, num_cells: int, seed: int, most_kills: int = 4) -> Iterator[dict[str, Any]]:
    """Play rounds; round i has the seed `seed` + i, and every fourth one trains networks."""
    with tempfile.TemporaryDirectory() as name:
        references: dict[str, xr.Dataset] = {}
        for i in range(seed, seed + rounds):
            kind = "run" if i % 4 == 3 else "function"
            if kind not in references:
                scan, store = make_scan(kind, num_cells), Path(name) / f"{kind}.zarr"
                references[kind] = run_scan(scan, store, workers=0, progress=False).load()
            kills = random.Random(-1 - i).randint(1, most_kills)
            folder = Path(name) / f"round{i}"
            folder.mkdir()
            print(f"round of seed {i}: {kind}, {kills} kills", file=sys.stderr, flush=True)
            yield play_round(kind, num_cells, folder, references[kind], i, kills)


def totals(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up rounds."""
    kills = [kill for played in rounds for kill in played["kills"]]
    return {
        "num_rounds": len(rounds),
        "kills": Counter(f"{kill['victim']}, {kill['moment']}" for kill in kills),
        "cells": sum(played["cells"] for played in rounds),
        "executions": sum(played["executions"] for played in rounds),
        "finished_cells_computed_twice": 0,  # or the round had raised
        "executions_from_checkpoint": sum(played["from_checkpoint"] for played in rounds),
        "resumes": sum(played["sittings"] - 1 for played in rounds),
        "longest_life_of_an_orphan_s": max(
            (kill.get("workers_gone_s", 0) for kill in kills), default=0
        ),
        "seconds": round(sum(played["seconds"] for played in rounds), 1),
        "equal_bitwise": all(played["equal_bitwise"] for played in rounds),
    }


count_starts()
if __name__ == "__main__":
    main()
