"""Reading of files that may be compressed, never more than they may hold."""

import gzip
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

#: The most bytes one file may unpack to; larger data belong in memory-mapped formats.
MAX_BYTES = 4 * 2**30

#: What reading a damaged or unreadable file raises.
READ_ERRORS = (OSError, EOFError, zlib.error)


@runtime_checkable
class Readable(Protocol):
    """Anything that gives bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""
        ...


class BoundedReader:
    """A file that refuses to be read beyond a number of bytes (a compression bomb).

    Examples
    --------
    >>> import io
    >>> BoundedReader(io.BytesIO(b"12345"), 4, "toy").read(9)
    Traceback (most recent call last):
    ValueError: 'toy' unpacks to more than 4 bytes
    """

    def __init__(self, file: Readable, limit: int, name: str) -> None:
        self._file, self._left, self._limit, self._name = file, limit, limit, name

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; ValueError once the limit is passed."""
        allowed = self._left + 1
        data = self._file.read(allowed if size < 0 else min(size, allowed))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"{self._name!r} unpacks to more than {self._limit} bytes")
        return data


def read_file(path: Path, limit: int) -> bytes:
    """Return a file's bytes, unpacked if its name ends in ``.gz``.

    Parameters
    ----------
    path
        A regular file.
    limit
        The most bytes it may unpack to.

    Raises
    ------
    ValueError
        If the file is missing, damaged, unreadable or too large.

    Examples
    --------
    >>> read_file(Path("missing"), 10)
    Traceback (most recent call last):
    ValueError: 'missing' does not exist
    """
    check_file(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return BoundedReader(file, limit, str(path)).read()
    except READ_ERRORS as error:
        raise ValueError(f"{str(path)!r} is damaged or cannot be read: {error}") from error


def check_file(path: Path) -> None:
    """Refuse what is not a regular file (a pipe or a device would never end).

    Examples
    --------
    >>> check_file(Path("missing"))
    Traceback (most recent call last):
    ValueError: 'missing' does not exist
    """
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file")


def check_folder(path: Path) -> None:
    """Refuse what is not a folder.

    Examples
    --------
    >>> check_folder(Path("missing"))
    Traceback (most recent call last):
    ValueError: 'missing' does not exist
    """
    if not path.exists():
        raise ValueError(f"{str(path)!r} does not exist")
    if not path.is_dir():
        raise ValueError(f"{str(path)!r} is not a folder")
