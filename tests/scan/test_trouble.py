"""Cells that go wrong, two coordinators, Ctrl-C, a full disk: others finish, nothing is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

from neurofb.scan import Scan, ScanStoppedError, run_scan, status
from neurofb.scan.coordinator import Coordinator
from neurofb.scan.scanning import cells_folder

ROOT = Path(__file__).parents[2]
RECIPES = Path(__file__).with_name("recipes.py")
STATES = {-1: "absent", 0: "pending", 1: "done", 2: "failed"}


def troubles(tmp_path, *what, seeds=(0,), **settings):
    return Scan(
        name="troubles",
        recipe=f"{RECIPES}::trouble",
        axes={"what": what, "seed": seeds},
        settings={"tally": str(tmp_path / "tally.txt"), **settings},
    )


def starts(folder):
    """Count the starts of each cell."""
    path = folder / "tally.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return Counter(line.split(maxsplit=1)[1] for line in lines)


def states(store):
    with xr.open_zarr(store, chunks=None) as dataset:
        table = dataset["status"].stack(cell=dataset["status"].dims).load()
    return {
        ",".join(f"{d}={v}" for d, v in zip(table.indexes["cell"].names, cell, strict=True)): (
            STATES[state]
        )
        for cell, state in zip(table.indexes["cell"], table.values.tolist(), strict=True)
    }


def failures(store):
    with xr.open_zarr(store, chunks=None) as dataset:
        return {str(cell["what"].item()): str(cell.values) for cell in dataset["failure"][:, 0]}


def python(code, *arguments):
    """Start a coordinator in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(what, process, seconds=120):
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


EXPECTED = {
    "raise": "KeyError: 'seed 0 has no key'",
    "exit": "SystemExit: enough",
    "dims": "variable 'peak' of this cell is float64 over ('what', 'seed', 'time'), but that of",
    "dtype": "variable 'peak' of this cell is StringDType() over ('what', 'seed'), but that of",
    "narrow": "variable 'peak' of this cell is float32 over ('what', 'seed'), but that of",
    "name": "the cell's Dataset may not use the scan's own name 'status'",
    "dim": "the cell's Dataset may not use the scan's own name 'seed'",
    "twice": "the labels of dimension 'time' must all differ and be finite",
}


def test_cells_that_fail_leave_the_others_alone(tmp_path):
    store = tmp_path / "a.zarr"
    scan = troubles(tmp_path, "fine", *EXPECTED, "longer")
    with pytest.warns(UserWarning, match=r"8 of 10 cells failed \(first what=raise,seed=0: KeyErr"):
        dataset = run_scan(scan, store, workers=0, progress=False)
    expected = {f"what={what},seed=0": "failed" for what in EXPECTED}
    assert states(store) == expected | {f"what={w},seed=0": "done" for w in ("fine", "longer")}
    found = failures(store)
    for what, words in EXPECTED.items():
        assert words in found[what]
    assert found["fine"] == ""
    assert "recipes.py" in found["raise"]
    assert dataset["time"].size == 12
    assert not np.isnan(dataset["response"].sel(what="fine", seed=0)[:8]).any()
    assert np.isnan(dataset["response"].sel(what="fine", seed=0)[8:]).all()
    assert np.isnan(dataset["response"].sel(what="dims")).all()
    text = status(store)
    assert "10 cells (what 10 × seed 1): 2 done, 8 failed, 0 pending" in text
    assert "failed: what=exit seed=0  SystemExit: enough" in text
    assert "--retry-failed" in text
    assert not [path for path in cells_folder(store).iterdir() if path.is_dir()]

    before = starts(tmp_path)
    run_scan(None, store, workers=0, progress=False)
    assert starts(tmp_path) == before
    with pytest.warns(UserWarning, match="8 of 10 cells failed"):
        run_scan(None, store, workers=0, retry_failed=True, progress=False)
    again = starts(tmp_path) - before
    assert again == {f"what={what},seed=0": 1 for what in EXPECTED}
    journal = (cells_folder(store) / "journal.txt").read_text(encoding="utf-8")
    assert "start what=raise,seed=0: failed before, retry_failed" in journal


def test_a_cell_that_hangs_or_eats_ends_alone(tmp_path):
    store = tmp_path / "a.zarr"
    scan = troubles(tmp_path, "hang", "fine", "eat", "number")
    with pytest.warns(UserWarning, match="3 of 4 cells failed"):
        run_scan(scan, store, workers=2, time_limit=10.0, memory_limit=2.0, progress=False)
    assert list(states(store).values()) == ["failed", "done", "failed", "failed"]
    found = failures(store)
    assert found["hang"].startswith("TimeoutError: not done within 10 s (time_limit)")
    assert "time.sleep(600)" in found["hang"]
    assert re.search(r"MemoryError|Unable to allocate", found["eat"])
    assert "ValueError: a cell must give an xr.Dataset, not a float" in found["number"]
    assert "TimeoutError: not done within 10 s (time_limit)" in status(store)


@pytest.mark.slow
def test_cells_that_end_their_process_end_no_other(tmp_path):
    store = tmp_path / "a.zarr"
    scan = troubles(tmp_path, "leave", "fine", "kill", "longer")
    with pytest.warns(UserWarning, match="2 of 4 cells failed"):
        run_scan(scan, store, workers=2, progress=False)
    for cell, state in states(store).items():
        assert state == ("failed" if re.search("leave|kill", cell) else "done"), cell
    for what in ("leave", "kill"):
        assert failures(store)[what].startswith("WorkerDied: the workers of this cell died")
    before = starts(tmp_path)
    assert before["what=fine,seed=0"] == 1
    assert before["what=kill,seed=0"] == 3
    with pytest.warns(UserWarning, match="2 of 4 cells failed"):
        run_scan(None, store, workers=2, retry_failed=True, progress=False)
    assert set(starts(tmp_path) - before) == {f"what={w},seed=0" for w in ("leave", "kill")}


def test_stopping_early(tmp_path):
    store = tmp_path / "a.zarr"
    scan = troubles(tmp_path, "fine", "raise", "longer")
    words = r"cell what=raise,seed=0 failed \(KeyError: .*\); 1 cells were left pending"
    with pytest.raises(ScanStoppedError, match=words):
        run_scan(scan, store, workers=0, fail_fast=True, progress=False)
    assert list(states(store).values()) == ["done", "failed", "pending"]
    run_scan(None, store, workers=0, progress=False)
    assert list(states(store).values()) == ["done", "failed", "done"]

    store = tmp_path / "b.zarr"
    scan = troubles(tmp_path, "raise", "fine", seeds=range(5))
    words = r"the first 3 cells all failed alike \(KeyError: .*\); 7 cells were left pending"
    with pytest.raises(ScanStoppedError, match=words):
        run_scan(scan, store, workers=0, progress=False)
    assert Counter(states(store).values()) == {"failed": 3, "pending": 7}
    with pytest.warns(UserWarning, match="2 of 10 cells failed"):
        run_scan(None, store, workers=0, progress=False)
    assert Counter(states(store).values()) == {"failed": 5, "done": 5}


LONG_SCAN = """
import sys
from neurofb.scan import Scan, run_scan
recipe, store, tally, workers = sys.argv[1:]
scan = Scan(name="w", recipe=recipe, axes={"gain": [1], "seed": range(9)},
            settings={"tally": tally, "slowness": 8.0})
if __name__ == "__main__":
    run_scan(scan, store, workers=int(workers), progress=False)
"""


def gone(processes, seconds=30):
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_stops_cleanly(tmp_path, workers):
    store = tmp_path / "a.zarr"
    process = python(LONG_SCAN, f"{RECIPES}::ragged", store, tmp_path / "tally.txt", workers)
    wait_for(lambda: len(starts(tmp_path)) >= max(2, 2 * workers), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert "KeyboardInterrupt" in errors.splitlines()[-1]
    assert gone(children)
    found = Counter(states(store).values())
    assert 9 > found["done"] >= 1
    assert found["failed"] == 0
    assert found["pending"] == 9 - found["done"]
    assert "stopped: Ctrl-C" in (cells_folder(store) / "journal.txt").read_text(encoding="utf-8")
    assert f"neurofb scan resume {store}  goes on" in status(store)
    done = {cell for cell, state in states(store).items() if state == "done"}
    before = starts(tmp_path)
    run_scan(None, store, workers=2, progress=False)
    assert set(states(store).values()) == {"done"}
    assert not done & set(starts(tmp_path) - before)


WAITING_SCAN = """
import sys
from neurofb.scan import Scan, run_scan
recipe, store, folder = sys.argv[1:]
scan = Scan(name="w", recipe=recipe, axes={"what": ["fine", "wait", "longer"], "seed": [0]},
            settings={"folder": folder, "tally": f"{folder}/tally.txt"})
run_scan(scan, store, workers=0, progress=False)
"""


def test_two_coordinators(tmp_path):
    store = tmp_path / "a.zarr"
    process = python(WAITING_SCAN, f"{RECIPES}::trouble", store, tmp_path)
    try:
        wait_for(lambda: len(starts(tmp_path)) == 2, process)
        words = f"is being written by another scan \\(process {process.pid} on .*\\); wait for it"
        with pytest.raises(ValueError, match=words):
            run_scan(None, store, workers=0, progress=False)
        assert f"being written by process {process.pid} on " in status(store)
    finally:
        process.kill()
        process.communicate()
    assert "being written" not in status(store)
    assert list(states(store).values()) == ["done", "pending", "pending"]
    (tmp_path / "go").touch()
    run_scan(None, store, workers=0, progress=False)
    assert set(states(store).values()) == {"done"}
    assert list(starts(tmp_path).values()) == [1, 2, 1]
    journal = (cells_folder(store) / "journal.txt").read_text(encoding="utf-8")
    assert "start what=wait,seed=0: interrupted, starts again" in journal


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 16 MiB, where that is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_cell_that_fills_the_disk_fails_alone(small_disk, tmp_path):
    store = small_disk / "a.zarr"
    scan = troubles(tmp_path, "fine", "fill", "longer", folder=str(cells_folder(store)))
    with pytest.warns(UserWarning, match=r"1 of 3 cells failed .*No space left"):
        run_scan(scan, store, workers=0, progress=False)
    assert list(states(store).values()) == ["done", "failed", "done"]
    assert "OSError: [Errno 28] No space left on device" in failures(store)["fill"]
    assert not list(cells_folder(store).glob("*/what=fill,seed=0"))


def fill(path):
    """Leave no byte on the disk of this file."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.parametrize("num_before", [0, 3, 8])
def test_a_full_disk_loses_nothing(small_disk, tmp_path, num_before, monkeypatch):
    monkeypatch.setattr("neurofb.scan.space.time.sleep", lambda _: None)
    monkeypatch.setattr("neurofb.scan.space.time.monotonic", iter(range(0, 10**9, 100)).__next__)
    store, ballast = small_disk / "a.zarr", small_disk / "ballast"
    scan = Scan(
        name="ragged",
        recipe=f"{RECIPES}::ragged",
        axes={"gain": [1, 2], "seed": range(5)},
        settings={"tally": str(tmp_path / "tally.txt"), "slowness": 0.0},
    )
    number, take = [0], Coordinator._take

    def counted(self, name):
        taken = take(self, name)
        number[0] += taken
        if taken and number[0] == num_before:
            fill(ballast)
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "_take", counted)
        if num_before == 0:
            first = replace(scan, axes={"gain": [1], "seed": [0]})
            run_scan(first, store, workers=0, progress=False)
            fill(ballast)
        with pytest.raises(OSError, match=r"no space is left for the scan; .*make room, then res"):
            run_scan(scan, store, workers=0, progress=False)
    finished = {cell for cell, state in states(store).items() if state == "done"}
    assert len(finished) == max(num_before, 1)
    ballast.unlink()
    before = starts(tmp_path)
    run_scan(scan, store, workers=0, progress=False)
    assert set(states(store).values()) == {"done"}
    assert not finished & set(starts(tmp_path) - before)
