"""How often a cell was started, and from which checkpoint: a file in its folder that only grows."""

import itertools
from pathlib import Path

from neurofb.training.checkpoint import FILE_NAME as CHECKPOINT

STARTS, RUN = "starts.txt", "run"


def note_start(folder: Path) -> None:
    """Leave a line in a cell's folder: started, with the checkpoint that was there.

    Examples
    --------
    >>> note_start(Path("out/cell"))  # doctest: +SKIP
    """
    with (folder / STARTS).open("a", encoding="utf-8") as file:
        file.write(f"{progress(folder)}\n")


def starts_in_vain(folder: Path) -> int:
    """Count the last starts of a cell that led to no newer checkpoint.

    Examples
    --------
    >>> starts_in_vain(Path("no/such/folder"))
    0
    """
    if not (folder / STARTS).exists():
        return 0
    lines = (folder / STARTS).read_text(encoding="utf-8").split()
    now = str(progress(folder))
    return len(list(itertools.takewhile(lambda line: line == now, reversed(lines))))


def progress(folder: Path) -> int:
    """Return when a cell's checkpoint was written (ns), 0 without one.

    Examples
    --------
    >>> progress(Path("no/such/folder"))
    0
    """
    path = folder / RUN / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else 0
