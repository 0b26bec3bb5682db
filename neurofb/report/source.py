"""Find and open what a report is about."""

import json
from pathlib import Path
from typing import Any

import xarray as xr

from neurofb import labels

#: what the folders of `neurofb run` hold
_INSIDE = ("study.zarr", "result.zarr")
#: bookkeeping over the dims of a scan
BOOKS = ("status", "settings", "failure", "cell_seconds")


def open_result(path: Path) -> xr.DataTree | xr.Dataset:
    """Open the store of a scan as it is now, unread, or the result of a study or a run.

    Parameters
    ----------
    path
        A store, a ``.nc`` file, or a folder that `neurofb run` wrote.

    Raises
    ------
    ValueError
        If there is no result at `path`.

    Examples
    --------
    >>> open_result(Path("no_result.zarr"))
    Traceback (most recent call last):
    ValueError: path='no_result.zarr' does not exist
    """
    if path.is_dir() and path.suffix != ".zarr":
        found = [path / name for name in _INSIDE if (path / name).exists()]
        if not found:
            raise ValueError(f"path={str(path)!r} holds none of {', '.join(_INSIDE)}")
        path = found[0]
    root = _root(path)
    if "neurofb_scan" not in root.get("attributes", {}):
        return labels.load(path)
    try:
        consolidated = bool(root.get("consolidated_metadata"))
        return xr.open_zarr(path, chunks=None, consolidated=consolidated)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"path={str(path)!r} is not a readable scan: {error}") from error


def is_scan(dataset: xr.Dataset) -> bool:
    """Tell whether a dataset is a scan: it keeps a status over its dims.

    Examples
    --------
    >>> is_scan(xr.Dataset({"loss": 1.0}))
    False
    """
    return all(name in dataset for name in BOOKS) and dataset["status"].ndim > 0


def parsed(value: object) -> Any:
    """Read JSON; None where it is none.

    Examples
    --------
    >>> parsed('{"a": 1}'), parsed("not JSON")
    ({'a': 1}, None)
    """
    try:
        return json.loads(str(value))
    except (ValueError, RecursionError):
        return None


def _root(path: Path) -> dict[str, Any]:
    """Return the metadata of a zarr's root, or nothing."""
    try:
        found = parsed((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
