"""A scan on dask: the numbers of a serial one, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

from neurofb.scan import Scan, ScanStoppedError, run_scan
from neurofb.scan.dask_engine import _local_cluster, dask_executor

distributed = pytest.importorskip("distributed")
HERE = Path(__file__).parent
CELL = f"{HERE / 'cluster_recipes.py'}::cell"


@pytest.fixture(scope="module")
def cluster():
    with _local_cluster(2, "127.0.0.1", None) as cluster:
        yield cluster


@pytest.fixture
def executor(cluster):
    with dask_executor(cluster.scheduler_address, show=False) as executor:
        yield executor


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the coordinator that is not the workers' folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan_of(what: list[str], tally: Path, **settings) -> Scan:
    settings = {"tally": str(tally), **settings}
    return Scan(name="cells", recipe=CELL, axes={"what": what}, settings=settings)


def calls(tally: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in tally.read_text().splitlines())


def states(dataset: xr.Dataset) -> dict[str, int]:
    return dict(
        zip(dataset["what"].values.tolist(), dataset["status"].values.tolist(), strict=True)
    )


def wait_until(true, seconds: float = 60.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def pids_at(tally: Path, what: str) -> list[int]:
    lines = tally.read_text().splitlines() if tally.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == what]


def test_the_numbers_are_those_of_a_serial_scan(executor, here):
    axes = {"gain": [1.0, 2.0], "seed": [0, 1, 2]}
    scan = Scan(name="waves", recipe=f"{HERE / 'recipes.py'}::wave", axes=axes)
    on_dask = run_scan(scan, "dask.zarr", executor=executor, progress=False)
    serial = run_scan(scan, "serial.zarr", workers=0, progress=False)
    assert (on_dask["status"] == 1).all()
    for name in ("response", "peak", "num_positive", "sign", "checksum"):
        assert on_dask[name].values.tolist() == serial[name].values.tolist()


def test_a_plain_executor_of_a_client_is_an_engine_too(cluster, here):
    """It gives the same key to the same call, and an answer that is still known is not computed."""
    tally = here / "tally"
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        for store in ("a.zarr", "b.zarr"):
            found = run_scan(
                scan_of(["x", "yy"], tally), store, executor=client.get_executor(), progress=False
            )
            assert found["number"].values.tolist() == [1.0, 2.0]
    assert calls(tally) == {"x": 2, "yy": 2}


def test_an_interrupted_cell_runs_on_another_worker_and_finished_ones_do_not(executor, here):
    tally, what = here / "tally", ["a", "interrupted", "b", "c", "d", "e"]
    found = run_scan(scan_of(what, tally), "x.zarr", executor=executor, progress=False)
    assert (found["status"] == 1).all()
    assert calls(tally) == {"interrupted": 2, **dict.fromkeys("abcde", 1)}
    first, second = pids_at(tally, "interrupted")
    assert first != second


def test_a_cell_that_raises_and_one_that_eats_memory_fail_and_the_others_finish(executor, here):
    tally, what = here / "tally", ["a", "raises", "eats", "b"]
    with pytest.warns(UserWarning, match="2 of 4 cells failed"):
        found = run_scan(
            scan_of(what, tally), "x.zarr", executor=executor, memory_limit=1.5, progress=False
        )
    assert states(found) == {"a": 1, "raises": 2, "eats": 2, "b": 1}
    failure = dict(zip(what, found["failure"].values.tolist(), strict=True))
    assert "RuntimeError: no such neuron" in failure["raises"]
    assert "MemoryError" in failure["eats"]
    assert calls(tally) == dict.fromkeys(what, 1)  # dask runs no failed cell again


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_on_another_worker(executor, here):
    recipe = f"{HERE / 'cluster_recipes.py'}::training"
    scan = Scan(name="training", recipe=recipe, axes={"seed": [0]}, settings={"num_steps": 1000})
    pids = list(executor._client.run(os.getpid).values())
    starts: list[str] = []

    def kill_then_look() -> None:
        wait_until(lambda: list(here.glob("x.cells/*/seed=0/run/checkpoint.pt")))
        (folder,) = here.glob("x.cells/*/seed=0")
        (pid,) = [p for p in pids if any(str(folder) in f.path for f in opened_by(p))]
        os.kill(pid, signal.SIGKILL)
        while folder.exists():
            starts[:] = lines_of(folder / "starts.txt") or starts
            time.sleep(0.01)

    killer = threading.Thread(target=kill_then_look)
    killer.start()
    found = run_scan(scan, "x.zarr", executor=executor, progress=False)
    killer.join()
    assert len(starts) == 2
    assert int(starts[0]) == 0
    assert int(starts[1]) > 0
    serial = run_scan(scan, "serial.zarr", workers=0, progress=False)
    assert found["loss"].shape == (1, 1000)
    for name in ("loss", "test_loss", "test_accuracy"):
        np.testing.assert_array_equal(found[name], serial[name])


def opened_by(pid: int) -> list:
    return psutil.Process(pid).open_files()


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []


def test_a_killed_coordinator_is_followed_by_one_that_waits_for_its_cells(cluster, here):
    """What the cluster was computing is waited for, and nothing is computed twice."""
    tally, what = here / "tally", ["a", "b", "cc", "ddd", "e", "f"]
    scan = f"""
from neurofb.scan import Scan, run_scan
from neurofb.scan.dask_engine import dask_executor
scan = Scan(name="cells", recipe={CELL!r}, axes={{"what": {what}}},
            settings={{"tally": {str(tally)!r}, "seconds": 1.5}})
with dask_executor({cluster.scheduler_address!r}) as executor:
    run_scan(scan, "x.zarr", executor=executor, progress=False)
"""
    coordinator = subprocess.Popen([sys.executable, "-c", scan], stderr=subprocess.DEVNULL)
    wait_until(lambda: tally.exists() and len(tally.read_text().splitlines()) >= 3)
    coordinator.kill()
    coordinator.wait()
    with dask_executor(cluster.scheduler_address, show=False) as executor:
        found = run_scan(None, "x.zarr", executor=executor, progress=False)
    assert found["number"].values.tolist() == [len(text) for text in what]
    assert calls(tally) == dict.fromkeys(what, 1)


@pytest.mark.slow
def test_a_cell_that_always_kills_its_worker_fails_alone(executor, here):
    """Others wait on the same workers while these die: dask blames them, we do not."""
    tally, what = here / "tally", ["kills_1", "kills_2", *"abcdef"]
    with pytest.warns(UserWarning, match="2 of 8 cells failed"):
        found = run_scan(scan_of(what, tally), "x.zarr", executor=executor, progress=False)
    assert states(found) == {"kills_1": 2, "kills_2": 2, **dict.fromkeys("abcdef", 1)}
    assert all("WorkerDied" in text for text in found["failure"].values[:2].tolist())
    assert {name: n for name, n in calls(tally).items() if len(name) == 1} == dict.fromkeys(
        "abcdef", 1
    )


@pytest.mark.slow
def test_a_cell_that_hangs_is_ended_with_its_worker(executor, here):
    tally, what = here / "tally", ["a", "hangs", "b", "c"]
    with pytest.warns(UserWarning, match="1 of 4 cells failed"):
        found = run_scan(
            scan_of(what, tally), "x.zarr", executor=executor, time_limit=3.0, progress=False
        )
    assert states(found) == {"a": 1, "hangs": 2, "b": 1, "c": 1}
    assert found["failure"].values[1].startswith("TimeoutError: not done within 3 s")
    assert calls(tally)["hangs"] == 1  # the second worker finds what the first has left


@pytest.mark.slow
def test_a_cluster_that_goes_away_leaves_its_cells_pending(here):
    tally = here / "tally"
    with _local_cluster(1, "127.0.0.1", None) as cluster:
        with dask_executor(cluster.scheduler_address, show=False) as executor:

            def close() -> None:
                wait_until(lambda: pids_at(tally, "hangs") != [])
                cluster.close()

            closer = threading.Thread(target=close)
            closer.start()
            with pytest.raises(ScanStoppedError, match="executor was closed"):
                run_scan(scan_of(["hangs", "b"], tally), "x.zarr", executor=executor)
            closer.join()
    assert "hangs" in calls(tally)
    assert xr.open_zarr("x.zarr")["status"].values.tolist() == [0, 0]


def test_everything_listens_to_this_machine_alone(cluster):
    me = psutil.Process()
    listening = {
        connection.laddr.ip
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    ports = {urlport(address) for address in cluster.scheduler_info["workers"]}
    assert len(ports) == 2
    assert cluster.dashboard_link.startswith("http://127.0.0.1:")


def urlport(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_the_cluster_says_where_it_is(cluster, capsys):
    with dask_executor(cluster.scheduler_address):
        pass
    assert f"dask: 2 workers at {cluster.scheduler_address}" in capsys.readouterr().err


def test_a_scheduler_file_is_an_address(cluster, here):
    Path("scheduler.json").write_text(json.dumps({"address": cluster.scheduler_address}))
    with dask_executor("scheduler.json", show=False) as executor:
        assert executor.submit(abs, -2).result() == 2


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("nowhere.json", {}, "no such scheduler file"),
        ("localhost", {}, "must be tcp://"),
        ("tcp://127.0.0.1:8786", {"workers": 2}, "has its own workers"),
        ("tcp://127.0.0.1:9", {"timeout": 0.5}, "no dask scheduler can be talked to"),
        (None, {"workers": 0}, "at least 1"),
    ],
)
def test_what_is_no_cluster_is_refused(address, options, message):
    with pytest.raises(ValueError, match=message), dask_executor(address, **options):
        pass


def test_dask_is_imported_only_when_it_is_used():
    code = "import sys, neurofb.scan, neurofb.cli; assert 'distributed' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'neurofb\[dask\]'"), dask_executor():
        pass
