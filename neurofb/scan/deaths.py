"""When a cell whose workers die is called failed, and when it was not the cell.

A worker may die because of what it computes, because its time on the machine is over, or because
somebody ended it. A cell that gets further between deaths goes on for ever; one that does not is
called failed. dask also blames cells that only waited on a worker that died: these run again.
"""

from collections import Counter
from concurrent.futures import BrokenExecutor
from pathlib import Path

from neurofb.scan.starts import progress, starts_in_vain

#: A cell whose worker has died so often without getting further is called failed.
MOST_DEATHS = 3
#: So often dask may give up on a cell that was hardly begun (each time after four dead workers).
_MOST_GIVEN_UP = 10
#: What dask raises when too many workers that held a task have died.
_DASK_GAVE_UP = "KilledWorker"


class Deaths:
    """Counts the deaths of cells' workers.

    Parameters
    ----------
    folder
        Where each cell has a folder.

    Examples
    --------
    >>> deaths = Deaths(Path("no/such/folder"))
    >>> [deaths.again("rank=1", BrokenExecutor()) for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: Counter[str] = Counter()
        self._progress: dict[str, int] = {}

    def of(self, name: str) -> int:
        """Return how often a cell's worker has died since the cell last got further."""
        return self._counts[name]

    def again(self, name: str, error: BaseException | None) -> bool:
        """Count a death; tell whether the cell is to run again."""
        here = self.folder / name
        now = progress(here)
        if self._progress.setdefault(name, now) != now:
            self._counts[name], self._progress[name] = 0, now
        self._counts[name] += 1
        if type(error).__name__ == _DASK_GAVE_UP:
            return starts_in_vain(here) < MOST_DEATHS and self._counts[name] < _MOST_GIVEN_UP
        return self._counts[name] < MOST_DEATHS


def is_death(error: BaseException) -> bool:
    """Tell whether an error means that the worker is gone, not that it complained.

    Examples
    --------
    >>> is_death(BrokenExecutor()), is_death(OSError())
    (True, False)
    """
    return isinstance(error, BrokenExecutor) or type(error).__name__ == _DASK_GAVE_UP
