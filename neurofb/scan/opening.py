"""Open the store of a scan for reading."""

from pathlib import Path

import xarray as xr


def open_scan(store: str | Path) -> xr.Dataset:
    """Open the store of a scan, finished or filling; `xarray.open_zarr` does the same.

    Parameters
    ----------
    store
        Path of the zarr.

    Returns
    -------
    xr.Dataset
        Variables over the scan's dims and their own, read when they are used; ``status`` says which
        cells are done (1). What is not done is NaN or "".

    Raises
    ------
    ValueError
        If there is no store of a scan.

    Examples
    --------
    >>> open_scan("nowhere.zarr")
    Traceback (most recent call last):
    ValueError: store='nowhere.zarr' is no store of a scan
    """
    try:
        dataset = xr.open_zarr(store, chunks=None)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"store={str(store)!r} is no store of a scan") from error
    if "neurofb_scan" not in dataset.attrs:
        raise ValueError(f"store={str(store)!r} is no store of a scan")
    return dataset


def cells_folder(store: Path) -> Path:
    """Return the folder beside a store in which its cells are computed.

    Examples
    --------
    >>> cells_folder(Path("scans/rank.zarr")).as_posix()
    'scans/rank.cells'
    """
    return store.with_suffix(".cells")
