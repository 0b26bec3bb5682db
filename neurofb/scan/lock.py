"""One writer a store: a lock that its holder's death opens."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock


@contextmanager
def only_writer(folder: Path, store: Path) -> Iterator[None]:
    """Hold the lock of a store while the block runs.

    The system opens it when the process ends, however it ends, so there is never an old lock to
    remove by hand. (On file systems without locks `filelock` warns.)

    Parameters
    ----------
    folder
        Folder beside the store; it holds the lock.
    store
        The store, for the message.

    Raises
    ------
    ValueError
        If another process holds it; who, the message says.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with only_writer(Path(folder), Path("a.zarr")):
    ...         writer(Path(folder)).startswith("process ")
    True
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=1)  # somebody may be asking for a moment who holds it
    except filelock.Timeout:
        raise ValueError(
            f"store={str(store)!r} is being written by another scan ({writer(folder)}); wait for "
            "it, or stop it"
        ) from None
    try:
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        (folder / "owner.txt").write_text(owner, encoding="utf-8")
        yield
    finally:
        lock.release()


def writer(folder: Path) -> str:
    """Return who holds the lock of a store, or "" if nobody does.

    Examples
    --------
    >>> writer(Path("no/such/folder"))
    ''
    """
    if not (folder / "lock").exists():
        return ""
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        owner = folder / "owner.txt"
        return owner.read_text(encoding="utf-8") if owner.exists() else "an unknown process"
    lock.release()
    return ""
