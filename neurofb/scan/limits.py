"""Limits of one cell: time and memory, kept by the process that computes it."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: exit status of a worker that ended itself because its cell took too long
TIMED_OUT = 75


@contextmanager
def time_limit(seconds: float | None, last_words: Callable[[str], None]) -> Iterator[None]:
    """End this process when the block takes too long; nothing else ends a hang inside of C code.

    Parameters
    ----------
    seconds
        The limit; None is no limit.
    last_words
        Called before the end with a text that says where the block was.

    Examples
    --------
    >>> with time_limit(60.0, print):
    ...     1 + 1
    2
    """
    if seconds is None:
        yield
        return
    finished, watched = threading.Event(), threading.get_ident()

    def watch() -> None:
        if not finished.wait(seconds):
            frame = sys._current_frames().get(watched)
            where = "".join(traceback.format_stack(frame)) if frame else ""
            try:
                last_words(f"TimeoutError: not done within {seconds:g} s (time_limit)\n{where}")
            finally:
                os._exit(TIMED_OUT)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        finished.set()


@contextmanager
def memory_limit(gigabytes: float | None) -> Iterator[None]:
    """Let this process hold no more than so much memory: more ends in an error, not in a kill.

    Parameters
    ----------
    gigabytes
        The limit in GiB on the data of the whole process (RLIMIT_DATA; a torch process starts with
        about a third); None is no limit. Kept by Linux; elsewhere the system may not look.

    Raises
    ------
    ValueError
        If the system has no such limit.

    Examples
    --------
    >>> with memory_limit(None):
    ...     1 + 1
    2
    """
    if gigabytes is None:
        yield
        return
    if sys.platform == "win32":
        raise ValueError(f"memory_limit={gigabytes}: this system has no limit of a process' data")
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(gigabytes * 2**30)
    hard = before[1]
    wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
