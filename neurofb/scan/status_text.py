"""How far a scan is, as text."""

from pathlib import Path

import numpy as np

from neurofb.scan.failures import last_line
from neurofb.scan.lock import writer
from neurofb.scan.opening import cells_folder, open_scan
from neurofb.scan.store import DONE, FAILED, PENDING

_MOST = 10


def status(store: str | Path) -> str:
    """Return how many cells are done, failed and pending, which failed, and how to go on.

    It reads a few small arrays only, and may be asked while the scan runs.

    Parameters
    ----------
    store
        Path of the zarr.

    Raises
    ------
    ValueError
        If there is no store of a scan.

    Examples
    --------
    >>> status("nowhere.zarr")
    Traceback (most recent call last):
    ValueError: store='nowhere.zarr' is no store of a scan
    """
    dataset = open_scan(store)
    states = dataset["status"].values
    done, failed, pending = (int((states == state).sum()) for state in (DONE, FAILED, PENDING))
    axes = " × ".join(f"{dim} {dataset.sizes[dim]}" for dim in dataset["status"].dims)
    seconds = float(np.nansum(dataset["cell_seconds"].values))
    lines = [
        f"{store}: {done + failed + pending} cells ({axes}): {done} done, {failed} failed, "
        f"{pending} pending; {seconds:.1f} s of computing"
    ]
    for index in np.argwhere(states == FAILED)[:_MOST]:
        cell = dataset.isel(dict(zip(dataset["status"].dims, index.tolist(), strict=True)))
        labels = " ".join(f"{dim}={cell[dim].item()}" for dim in dataset["status"].dims)
        lines.append(f"  failed: {labels}  {last_line(str(cell['failure'].values))}")
    if failed > _MOST:
        lines.append(f"  … and {failed - _MOST} more; the variable `failure` has all tracebacks")
    running = writer(cells_folder(Path(store).resolve()))
    if running:
        lines.append(f"being written by {running}")
    elif pending or failed:
        retry = " --retry-failed" if failed and not pending else ""
        lines.append(f"neurofb scan resume {store}{retry}  goes on")
    return "\n".join(lines)
