"""Run a scan: plan, store, workers; run again, and only what is missing is computed."""

import datetime
import json
import math
import multiprocessing
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from neurofb import labels
from neurofb.pool import WorkerPool
from neurofb.scan.agreement import Jobs, about, agreed_plan, attributes, changed_code
from neurofb.scan.cell import FAILURE, RUN, this_process
from neurofb.scan.coordinator import Coordinator
from neurofb.scan.journal import Journal
from neurofb.scan.lock import only_writer
from neurofb.scan.opening import cells_folder, open_scan
from neurofb.scan.plan import Plan, Scan, make_plan
from neurofb.scan.serial import Serial
from neurofb.scan.space import full_disk_explained
from neurofb.scan.stack import batches
from neurofb.scan.starts import STARTS
from neurofb.scan.store import DONE, FAILED, PENDING, Store
from neurofb.training.checkpoint import FILE_NAME as CHECKPOINT
from neurofb.training.checkpoint import load_checkpoint
from neurofb.workers import Bar, num_cores

_NO_GUARD = (
    'a script that calls run_scan needs `if __name__ == "__main__":` before the call: workers '
    "import the script"
)


def run_scan(
    scan: Scan | None,
    store: str | Path,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    verify: bool = False,
    fail_fast: bool = False,
    time_limit: float | None = None,
    memory_limit: float | None = None,
    threads: int = 1,
    stack: int = 1,
    keep: bool = False,
    progress: bool = True,
    cache: Path | None = None,
) -> xr.Dataset:
    """Compute the cells of a scan that its store does not have yet.

    A kill at any moment, of this process or of a worker, loses no finished cell: call it again. A
    cell's numbers depend on its settings (and the number of threads) alone, not on the engine, the
    order or what was interrupted.

    Parameters
    ----------
    scan
        The scan; None goes on with all that the store was ever asked for. Longer axes than the
        store has make it grow; only the scan's own cells that are missing are computed.
    store
        Path of the zarr. Beside it ``<name>.cells`` holds the lock, a journal that says why each
        cell ran, and the checkpoints of unfinished cells.
    workers
        Processes on this machine, the number of cores by default; 0 computes here, one by one.
    executor
        Any other `concurrent.futures.Executor` instead, such as dask's ``client.get_executor()``;
        its workers must see the same files.
    retry_failed
        Compute cells that have failed again.
    verify
        Read the data of all finished cells first; damaged ones are computed again.
    fail_fast
        Stop at the first failure; by default the other cells go on (but stop if the first three
        fail alike).
    time_limit, memory_limit
        For each cell: seconds; GiB of its process. A cell beyond one fails.
    threads
        Threads of each cell.
    stack
        The most cells that differ in ``seed`` alone to be trained as one stacked network; for small
        networks several times faster. Their numbers are those of single cells to rounding, which
        training makes grow, so they are not bitwise the same. What cannot be stacked runs one by
        one, with a warning.
    keep
        Keep the folder of each finished cell, with its whole result and checkpoint.
    progress
        Show a progress bar.
    cache
        Folder in which data that are slow to make are kept.

    Returns
    -------
    xr.Dataset
        See `open_scan`.

    Raises
    ------
    ValueError
        If an argument or a setting is not allowed, the store is of another scan (what differs is
        said), or somebody else writes it.
    ScanStoppedError
        If the scan was stopped early; it is a ValueError.
    OSError
        If the store cannot be written.

    Examples
    --------
    >>> scan = Scan(name="ranks", recipe="models/retina_vvs.py::ldfa",
    ...             axes={"feedback.rank": [1, 2, 4], "seed": range(5)})
    >>> run_scan(scan, "scans/ranks.zarr", workers=2)  # doctest: +SKIP
    """
    path = Path(store)
    if path.suffix != ".zarr":
        raise ValueError(f"store={str(store)!r} must end in .zarr")
    _check_limits(executor, workers, time_limit, memory_limit)
    for name, value in (("threads", threads), ("stack", stack)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    path = path.resolve()  # one lock for one store, whatever links lead to it
    folder = cells_folder(path)
    if scan is None and not path.exists():
        raise ValueError(f"store={str(store)!r} does not exist")
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(_NO_GUARD)
    plan = None if scan is None or path.exists() else make_plan(scan)
    with full_disk_explained(path), only_writer(folder, path):
        opened, asked = _open(scan, plan, path)
        states = {name: state for name, state in opened.states().items() if name in asked}
        journal = Journal(folder / "journal.txt")
        if changed := changed_code(opened):
            text = f"{', '.join(changed)} changed since the store was made"
            warnings.warn(f"{text}; cells that are done stay as they are", stacklevel=2)
            journal.add("code", about=text)
        if verify:
            damaged = [name for name in opened.damaged() if name in asked]
            opened.reset(damaged)
            states |= dict.fromkeys(damaged, PENDING)
            for name in damaged:
                journal.add("damaged", name, "its data are not as they were written")
        again = [name for name, state in states.items() if state == FAILED and retry_failed]
        work = folder / opened.scan["id"]  # what another store of this name left is not looked at
        work.mkdir(exist_ok=True)
        for name in again:
            _forget_failure(work / name)
        opened.reset(again)
        missing = [name for name, state in states.items() if state == PENDING] + again
        options = {
            "threads": threads,
            "time_limit": time_limit,
            "memory_limit": memory_limit,
            "cache": str(Path(cache).resolve()) if cache else None,
            "coordinator": this_process(),
        }
        num_done = sum(state == DONE for state in states.values())
        with Bar(len(states), num_done, progress, unit="cell") as bar:
            jobs = Jobs(opened)
            coordinator = Coordinator(
                opened,
                work,
                jobs.text,
                json.dumps(options),
                bar,
                journal,
                keep=keep,
                fail_fast=fail_fast,
            )
            todo = coordinator.collect(missing)
            why = {name: _why(work / name, name in again) for name in todo}
            begun = {name for name in todo if (work / name / RUN / CHECKPOINT).exists()}
            together, reasons = batches(todo, jobs.text, stack, begun)
            for name, reason in reasons.items():
                warnings.warn(f"stack={stack}: cell {name} runs alone: {reason}", stacklevel=2)
            if executor is None:
                at_a_time = max(1, num_cores() if workers is None else workers)
            else:
                at_a_time = getattr(executor, "at_a_time", None)
            try:
                with _engine(executor, workers, len(together)) as engine:
                    coordinator.complete(together, why, engine, at_a_time)
            except KeyboardInterrupt:
                journal.add("stopped", about="Ctrl-C")
                raise
            finally:
                if coordinator.done:
                    opened.note(_line(coordinator.done))
                if not any(work.iterdir()):
                    work.rmdir()
    if coordinator.failures:
        name, reason = next(iter(coordinator.failures.items()))
        warnings.warn(
            f"{len(coordinator.failures)} of {len(states)} cells failed (first {name}: {reason})",
            stacklevel=2,
        )
    return open_scan(path)


def _open(scan: Scan | None, plan: Plan | None, path: Path) -> tuple[Store, set[str]]:
    """Open the store, or make it, and let it hold the scan's cells; return which these are."""
    if scan is None:
        store = Store(path)
        return store, set(store.states())
    if path.exists():
        store = Store(path)
        plan = agreed_plan(scan, store)
        store.ask(plan.axes, plan.cells)
    else:
        plan = make_plan(scan) if plan is None else plan
        about_it = about(scan, plan), attributes(scan, plan)
        store = Store.create(path, plan.axes, plan.cells, *about_it)
    return store, set(plan.cells)


def _forget_failure(folder: Path) -> None:
    """Let a failed cell run again, from its checkpoint if that is good."""
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        load_checkpoint(folder / RUN)
    except ValueError:
        shutil.rmtree(folder / RUN)


def _why(folder: Path, failed: bool) -> str:
    """Say why a cell runs."""
    if failed:
        return "failed before, retry_failed"
    if (folder / RUN / CHECKPOINT).exists():
        return "interrupted, goes on from its checkpoint"
    return "interrupted, starts again" if (folder / STARTS).exists() else "new"


@contextmanager
def _engine(executor: Executor | None, workers: int | None, num_cells: int) -> Iterator[Executor]:
    """Open the workers; on an error or Ctrl-C they are ended at once."""
    if executor is not None:
        yield executor
    elif workers == 0:
        yield Serial()
    else:
        with WorkerPool(min(workers or num_cores(), max(num_cells, 1))) as pool:
            yield pool


def _check_limits(
    executor: Executor | None,
    workers: int | None,
    time_limit: float | None,
    memory_limit: float | None,
) -> None:
    """Refuse what cannot be."""
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} must be at least 0")
    if workers is not None and executor is not None:
        raise ValueError(f"workers={workers} and executor exclude each other")
    for name, value in (("time_limit", time_limit), ("memory_limit", memory_limit)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive and finite")
    here = workers == 0 or isinstance(executor, ThreadPoolExecutor)
    if time_limit is not None and here:
        raise ValueError(
            f"time_limit={time_limit:g} needs worker processes (workers=1 or more): a cell that "
            "hangs can only be ended with its process"
        )


def _line(done: int) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{now} {done} cells by neurofb {version('neurofb')} {labels.git_commit()}".strip()
