"""A scan as jobs of submitit, on this machine: lost jobs run again, stopped ones go on."""

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from neurofb.scan import Scan, run_scan
from neurofb.scan.submitit_engine import SubmititExecutor

submitit = pytest.importorskip("submitit")
HERE = Path(__file__).parent


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SubmititExecutor("jobs", cluster="local", jobs=2, interval=0.1, timeout_min=5) as executor:
        yield executor


def scan_of(what: list[str]) -> Scan:
    recipe = f"{HERE / 'cluster_recipes.py'}::cell"
    settings = {"tally": str(Path("tally").resolve())}
    return Scan(name="cells", recipe=recipe, axes={"what": what}, settings=settings)


def calls() -> Counter[str]:
    return Counter(line.split()[0] for line in Path("tally").read_text().splitlines())


def test_cells_are_jobs_and_a_lost_job_runs_again(jobs):
    what = ["a", "interrupted", "raises"]
    with pytest.warns(UserWarning, match="1 of 3 cells failed"):
        found = run_scan(scan_of(what), "x.zarr", executor=jobs, progress=False)
    assert found["status"].values.tolist() == [1, 1, 2]
    assert found["number"].values.tolist()[:2] == [1.0, 11.0]
    assert "no such neuron" in found["failure"].values[2]
    assert calls() == {"a": 1, "interrupted": 2, "raises": 1}
    assert "died interrupted" in Path("x.cells/journal.txt").read_text().replace("what=", "")
    assert not list(Path("x.zarr").rglob("*.pkl"))
    assert not list(Path("x.cells").rglob("*.pkl"))


def test_a_preempted_job_starts_again_by_itself_and_is_no_death(jobs):
    """submitit ends the process where it is, and puts the same cell into the queue."""

    def preempt() -> None:
        until = time.monotonic() + 120
        while not Path("tally").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(int(Path("tally").read_text().split()[1]), signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    found = run_scan(scan_of(["waits"]), "x.zarr", executor=jobs, progress=False)
    thread.join()
    assert found["number"].values.tolist() == [5.0]
    assert calls() == {"waits": 2}
    assert " died " not in Path("x.cells/journal.txt").read_text()


def test_what_a_task_raises_is_its_error_and_no_death(jobs):
    error = jobs.submit(os.listdir, "no/such/folder").exception(timeout=60)
    assert "FileNotFoundError" in str(error)
    assert not isinstance(error, BrokenExecutor)


@pytest.mark.slow
def test_a_cancelled_future_ends_its_job(jobs):
    future = jobs.submit(time.sleep, 1000)
    while not jobs._running:
        time.sleep(0.05)
    (job,) = jobs._running.values()
    assert future.cancel()
    until = time.monotonic() + 60
    while not job.done():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_queue_that_takes_no_jobs_leaves_the_cells_pending(jobs, monkeypatch):
    def refuse(*_: object) -> None:
        raise submitit.core.utils.FailedJobError("sbatch: invalid partition")

    monkeypatch.setattr(jobs._queue, "submit", refuse)
    with pytest.raises(ValueError, match=r"takes no more cells \(.*invalid partition"):
        run_scan(scan_of(["a"]), "x.zarr", executor=jobs, progress=False)


def test_no_jobs_at_a_time_are_refused():
    with pytest.raises(ValueError, match="jobs=0 must be at least 1"):
        SubmititExecutor("jobs", jobs=0)
