"""One cell, as a worker computes it: whatever the engine, this function is what is called.

A worker gets a folder and two texts. It leaves in the folder either ``outcome.npz`` or
``failure.txt``, each whole or not at all; both survive the death of whoever waits for them.
"""

import json
import os
import shutil
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch
import xarray as xr

from neurofb.config import RunConfig, from_json
from neurofb.recipes import load_recipe
from neurofb.run import run
from neurofb.scan.handover import save_outcome, variables_of
from neurofb.scan.limits import memory_limit, time_limit
from neurofb.scan.run_summary import summary
from neurofb.scan.space import is_full, when_there_is_room
from neurofb.scan.starts import RUN, note_start
from neurofb.workers import kept_images

OUTCOME, FAILURE = "outcome.npz", "failure.txt"

#: Held while a cell is computed: threads of one process share torch's random state.
one_at_a_time = threading.Lock()


def compute_cell(folder: str, job: str, options: str) -> None:
    """Compute one cell and leave the outcome in its folder.

    A cell that is computed already is left alone; one that another process is at is waited for.
    Within a process one cell runs at a time, so threads are safe.

    Parameters
    ----------
    folder
        The cell's folder, which whoever hands out the cell has made; a run that was interrupted
        there goes on from its last checkpoint.
    job
        JSON: ``{"config": …, "analyse": address}`` or ``{"recipe": address, "arguments": …}``.
    options
        JSON: ``threads``, ``time_limit`` (s), ``memory_limit`` (GiB), ``cache`` (folder of data).

    Raises
    ------
    FileNotFoundError
        If there is no such folder: this machine sees other files, or the outcome was taken already.
    OSError
        If the outcome cannot be written.

    Examples
    --------
    >>> compute_cell("out/cell", '{"recipe": "theory.py::curve", "arguments": {}}', "{}")
    ... # doctest: +SKIP
    """
    here = Path(folder)
    if not here.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there on {socket.gethostname()}: workers must see the files of the "
            "machine that started the scan"
        )
    with one_at_a_time, filelock.FileLock(here / "lock"):
        if answered(here):
            return
        note_start(here)
        settings = json.loads(options)
        attempt(here, lambda: _compute(here, json.loads(job), settings.get("cache")), settings)


def answered(folder: Path) -> bool:
    """Tell whether a cell's outcome or failure lies in its folder.

    Examples
    --------
    >>> answered(Path("no/such/folder"))
    False
    """
    return (folder / OUTCOME).exists() or (folder / FAILURE).exists()


def attempt(
    folder: Path, compute: Callable[[], xr.Dataset], settings: Mapping[str, Any], spent: float = 0.0
) -> None:
    """Compute a cell's Dataset within its limits, and leave it, or why there is none.

    Parameters
    ----------
    folder
        The cell's.
    compute
        What is done.
    settings
        The options of `compute_cell`.
    spent
        Seconds that the cell has taken before.

    Raises
    ------
    OSError
        If the answer cannot be written.

    Examples
    --------
    >>> attempt(Path("out/cell"), lambda: xr.Dataset({"a": 1.0}), {})  # doctest: +SKIP
    """
    began = time.perf_counter() - spent

    def give_up(text: str) -> None:
        write_text(folder / FAILURE, f"{time.perf_counter() - began:.3f}\n{text}")

    try:
        with limits(settings, give_up):
            answer = variables_of(compute())
    except (Exception, SystemExit) as error:  # whatever a cell raises is the cell's failure
        text = traceback.format_exc()
        if is_full(error):
            _empty(folder)  # what it has written may be what fills the disk
        when_there_is_room(lambda: give_up(text))
        return
    seconds = time.perf_counter() - began
    when_there_is_room(lambda: save_outcome(folder / OUTCOME, answer, seconds))


@contextmanager
def limits(
    settings: Mapping[str, Any], last_words: Callable[[str], None], num_cells: int = 1
) -> Iterator[None]:
    """Keep threads, time and memory of one cell, or of several that are computed together.

    Examples
    --------
    >>> with limits({"time_limit": 60.0}, print):
    ...     1 + 1
    2
    """
    seconds = settings.get("time_limit")
    if seconds is not None and settings.get("coordinator") == this_process():
        raise ValueError(
            f"time_limit={seconds:g} needs worker processes: a cell that hangs can only be ended "
            "with its process, and this one is the coordinator's"
        )
    with (
        threads(settings.get("threads", 1)),
        time_limit(None if seconds is None else seconds * num_cells, last_words),
        memory_limit(settings.get("memory_limit")),
    ):
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "failure.txt", "why")
    ...     (Path(folder) / "failure.txt").read_text()
    'why'
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def this_process() -> str:
    """Return a name of this process, different on every machine of a cluster.

    Examples
    --------
    >>> this_process() == this_process()
    True
    """
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads: the last digits depend on it.

    Examples
    --------
    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _empty(folder: Path) -> None:
    """Remove what a failed cell has written."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            path.unlink(missing_ok=True)


def _compute(folder: Path, job: dict, cache: str | None) -> Any:
    if "recipe" in job:
        return load_recipe(job["recipe"])(**job["arguments"])
    config: RunConfig = from_json(json.dumps(job["config"]))
    data = kept_images(config, Path(cache) if cache else None)
    tree = run(config, folder / RUN, resume=True, progress=False, data=data)
    analyse = load_recipe(job["analyse"]) if job["analyse"] else summary
    return analyse(tree)
