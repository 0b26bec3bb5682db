"""submitit as the engine of a scan: every cell a job of SLURM, for cells that take hours."""

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any


class SubmititExecutor(Executor):
    """An executor whose tasks are jobs; a job that is lost is a dead worker, not a failed cell.

    A job that SLURM pre-empts or ends at its time limit is put back into the queue by submitit, and
    goes on from what is in the cell's folder; its pickle says only which folder that is.

    Parameters
    ----------
    folder
        Where submitit keeps each job's script, pickle and log. Whoever can write there can execute
        code as you.
    cluster
        ``slurm``, or ``local`` for processes on this machine; None takes SLURM if it is there.
    jobs
        So many jobs are in the queue at a time.
    interval
        Seconds between two looks at the jobs.
    parameters
        Those of `submitit.AutoExecutor`: ``timeout_min``, ``slurm_partition``, ``gpus_per_node`` …

    Raises
    ------
    ValueError
        If `jobs` is below 1.
    ImportError
        If submitit is not installed.

    Examples
    --------
    >>> with SubmititExecutor("jobs", timeout_min=240, gpus_per_node=1) as executor:
    ...     run_scan(scan, "scans/ranks.zarr", executor=executor)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        cluster: str | None = None,
        jobs: int = 100,
        interval: float = 1.0,
        **parameters: Any,
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs={jobs} must be at least 1")
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise ImportError("scans with submitit need: pip install 'neurofb[slurm]'") from error
        self._queue = AutoExecutor(folder=folder, cluster=cluster)
        self._queue.update_parameters(**parameters)
        self.at_a_time, self._interval, self._open = jobs, interval, True
        self._running: dict[Future[Any], Any] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Put a task into the queue; a future that is cancelled cancels its job."""
        if not self._open:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self._running[future] = self._queue.submit(_Task(functools.partial(fn, **kwargs)), *args)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and wait for those there are."""
        self._open = False
        for future in list(self._running) if cancel_futures else ():
            future.cancel()
        if wait:
            self._thread.join()

    def _watch(self) -> None:
        while self._open or self._running:
            for future, job in list(self._running.items()):
                if future.cancelled():
                    job.cancel(check=False)
                elif not job.done():
                    continue
                elif future.set_running_or_notify_cancel():
                    try:
                        error = _error(job)
                    except Exception as problem:  # an unreadable answer must not end the watch
                        error = BrokenExecutor(f"job {job.job_id}: {problem}")
                    future.set_exception(error) if error else future.set_result(None)
                del self._running[future]
            time.sleep(self._interval)


class _Task:
    """A function that submitit may stop at any time and start again."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        """Call it in a thread: submitit's signal raises in the main one, and is no failure."""
        answer: Future[None] = Future()

        def call() -> None:
            try:
                answer.set_result(self.function(*args))
            except BaseException as error:  # raised by the main thread
                answer.set_exception(error)

        threading.Thread(target=call, daemon=True).start()
        answer.result()

    def checkpoint(self, *args: Any) -> Any:
        """Say what the job is to do when it starts again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *args)


def _error(job: Any) -> BaseException | None:
    """Return the error of a job that has ended; one without an answer, or out of time, is lost."""
    if not job.paths.result_pickle.exists():
        return BrokenExecutor(f"job {job.job_id} ended ({job.state}); log: {job.paths.stderr}")
    error = job.exception()
    return BrokenExecutor(str(error)) if "UncompletedJobError" in repr(error) else error
