"""What workers of studies and scans do, and the progress over runs."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from neurofb.config import RunConfig, from_json
from neurofb.data import ImageSplits
from neurofb.run import run
from neurofb.training.progress import clock, redraws


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


def finished(
    starts: Iterable[Callable[[], Future[None]]], at_a_time: int, bar: "Bar"
) -> Iterator[Future[None]]:
    """Start runs, so many at a time, yield them as they end, and let the bar tick while none does.

    Examples
    --------
    >>> list(finished([], 2, Bar(0, 0, False)))
    []
    """
    waiting, running = deque(starts), set[Future[None]]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            running.add(waiting.popleft()())
        done, running = wait(running, timeout=5, return_when=FIRST_COMPLETED)
        if not done:
            bar.tick()
        yield from done


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
