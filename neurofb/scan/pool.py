"""Worker processes on this machine, one task each at a time."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any

from neurofb.workers import start_worker


class WorkerPool(Executor):
    """Fresh processes, each in a pool of its own: one that dies takes only its own task with it.

    A dead worker is replaced by the next task. Workers use one thread and end when this process is
    gone, however it ends.

    Parameters
    ----------
    workers
        Number of processes.

    Raises
    ------
    ValueError
        If `workers` is below 1.

    Examples
    --------
    >>> with WorkerPool(1) as pool:  # doctest: +SKIP
    ...     pool.submit(abs, -1).result()
    1
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers} must be at least 1")
        #: so many tasks are best given at a time
        self.at_a_time = workers
        self._pools: list[ProcessPoolExecutor | None] = [None] * workers
        self._last: list[Future[Any] | None] = [None] * workers
        self._processes: list[list[BaseProcess]] = [[] for _ in range(workers)]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a task to a worker that has none, else to the first, behind its others."""
        free = [i for i, last in enumerate(self._last) if last is None or last.done()]
        slot = free[0] if free else 0
        try:
            future = self._start(slot, fn, *args, **kwargs)
        except BrokenProcessPool:
            self._pools[slot] = None
            future = self._start(slot, fn, *args, **kwargs)
        self._last[slot] = future
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after their tasks."""
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait, cancel_futures=cancel_futures)

    def kill(self) -> None:
        """End the workers now, in the middle of their tasks."""
        self.shutdown(wait=False, cancel_futures=True)
        for processes in self._processes:
            for process in processes:
                process.kill()
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait=True)

    def _start(self, slot: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        pool = self._pools[slot]
        if pool is None:
            pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=start_worker)
            self._pools[slot] = pool
        before = {process.pid for process in active_children()}
        future = pool.submit(fn, *args, **kwargs)
        new = [process for process in active_children() if process.pid not in before]
        self._processes[slot] = new or self._processes[slot]
        return future
