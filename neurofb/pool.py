"""Worker processes on this machine, one task each at a time."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

import torch


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

    def __exit__(self, error: object, *_: object) -> None:
        """Wait for the tasks; after an error or Ctrl-C end the workers at once."""
        self.shutdown() if error is None else self.kill()

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


def start_worker() -> None:
    """Use one thread, and end when the parent is gone (a killed parent cannot say so).

    Examples
    --------
    >>> ProcessPoolExecutor(1, initializer=start_worker).shutdown()
    """
    torch.set_num_threads(1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent, which ends the workers
    parent = parent_process()
    if parent is not None and not parent.is_alive():  # it died while this process was importing
        os._exit(1)

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
