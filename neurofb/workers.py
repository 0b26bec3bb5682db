"""Worker processes of a study, one thread each, and the progress over runs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import torch

from neurofb.config import RunConfig, from_json
from neurofb.data import ImageSplits
from neurofb.run import run
from neurofb.training.progress import clock, redraws


@contextmanager
def open_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of fresh processes; if anything goes wrong, or on Ctrl-C, they are ended.

    Examples
    --------
    >>> with open_pool(1) as pool:  # doctest: +SKIP
    ...     pool.submit(one_run, '{"name": "test"}', "out/test", "").result()
    """
    before = {process.pid for process in active_children()}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            if process.pid not in before:
                process.terminate()
        raise
    pool.shutdown()


def num_cores() -> int:
    """Count the cores that this process may use.

    Examples
    --------
    >>> num_cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_run(config: str, folder: str, cache: str) -> None:
    """Do one run in a worker, from its settings as JSON; the images of the last run are kept.

    Examples
    --------
    >>> one_run('{"name": "test"}', "out/test", "")  # doctest: +SKIP
    """
    settings = from_json(config)
    data = kept_images(settings, Path(cache) if cache else None)
    run(settings, Path(folder), resume=True, progress=False, data=data)


_kept: dict[str, ImageSplits] = {}


def kept_images(config: RunConfig, cache: Path | None) -> ImageSplits:
    """Load a run's images, or take those of the worker's run before.

    Examples
    --------
    >>> config = RunConfig(name="test")
    >>> kept_images(config, None) is kept_images(config, None)  # doctest: +SKIP
    True
    """
    key = repr(config.data)
    if key not in _kept:
        _kept.clear()
        _kept[key] = config.data.load(cache)
    return _kept[key]


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


def finished(futures: Iterable[Future[None]], bar: "Bar") -> Iterator[Future[None]]:
    """Yield runs as they end, and let the bar tick while none does.

    Examples
    --------
    >>> list(finished([], Bar(0, 0, False)))
    []
    """
    waiting = set(futures)
    while waiting:
        try:
            for future in as_completed(waiting, timeout=5):
                waiting.discard(future)
                yield future
        except TimeoutError:
            bar.tick()


class Bar:
    """Progress over runs or cells: a tqdm bar in a terminal or notebook, plain lines in a log.

    Examples
    --------
    >>> with Bar(2, 0, False) as bar:
    ...     bar.done("BP-seed0")
    >>> bar.count
    1
    """

    def __init__(self, total: int, done: int, show: bool, unit: str = "run") -> None:
        from tqdm.auto import tqdm

        self.start, self.total, self.count, self.first = time.monotonic(), total, done, done
        self.lines = show and not redraws()
        self.unit = unit
        self.bar = tqdm(total=total, initial=done, unit=unit, disable=self.lines or not show)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def tick(self) -> None:
        """Let the clock of the bar go on."""
        self.bar.refresh()

    def done(self, name: str) -> None:
        """Count one run."""
        self.count += 1
        self.bar.set_postfix_str(name, refresh=False)
        self.bar.update()
        if self.lines:
            elapsed = time.monotonic() - self.start
            left = elapsed * (self.total - self.count) / (self.count - self.first)
            print(
                f"{self.count}/{self.total} {self.unit}s  {name}  {clock(elapsed)} elapsed, "
                f"{clock(left)} left",
                file=sys.stderr,
                flush=True,
            )
