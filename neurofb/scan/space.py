"""A full disk: whatever fills it may go in a moment, and if not, it is said what to do."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

_FULL = (errno.ENOSPC, errno.EDQUOT)


def when_there_is_room(write: Callable[[], Answer], seconds: float = 5.0) -> Answer:
    """Call a function that writes; while the disk is full, call it again.

    A cell that fills the disk fails, and its files are removed: others need not fail with it.

    Parameters
    ----------
    write
        May be called several times.
    seconds
        For so long it is tried.

    Raises
    ------
    OSError
        What `write` raises: at once, or in the end if the disk is full.

    Examples
    --------
    >>> when_there_is_room(lambda: 3)
    3
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return write()
        except OSError as error:
            if not is_full(error) or time.monotonic() > until:
                raise
        time.sleep(0.2)


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that the disk is full.

    Examples
    --------
    >>> is_full(OSError(errno.ENOSPC, "full")), is_full(OSError())
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def full_disk_explained(store: Path) -> Iterator[None]:
    """Let the error of a full disk say how to go on.

    Raises
    ------
    OSError
        With other words, if the block raises one because there is no space.

    Examples
    --------
    >>> with full_disk_explained(Path("a.zarr")):
    ...     raise OSError(errno.ENOSPC, "full")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    OSError: no space is left for the scan; what is finished is kept: make room, then resume
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        words = "no space is left for the scan; what is finished is kept: make room, then resume"
        raise OSError(error.errno, words, str(store)) from error
