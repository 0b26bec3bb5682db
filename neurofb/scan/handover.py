"""How a cell's Dataset gets from a worker to the store: one file, written whole or not at all.

Numbers become floats, because a cell that is not done must be able to say so (NaN); texts stay
texts. Nothing in the file is executed when it is read.
"""

import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

#: variable -> its dims, values, attributes
Variables = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]

_LARGEST_WHOLE = 2**53


def variables_of(dataset: xr.Dataset) -> Variables:
    """Return the variables of a cell's Dataset as the store will hold them.

    Coordinates that belong to no dimension become variables like any other.

    Parameters
    ----------
    dataset
        Of floats, whole numbers, truth values (0 and 1) and texts.

    Raises
    ------
    ValueError
        If it is no Dataset, is empty, or a variable is of another kind.

    Examples
    --------
    >>> found = variables_of(xr.Dataset({"a": ("unit", [1, 2])}, attrs={"title": "x"}))
    >>> found["a"][0], found["a"][1].dtype
    (('unit',), dtype('float64'))
    """
    if not isinstance(dataset, xr.Dataset):
        raise ValueError(f"a cell must give an xr.Dataset, not a {type(dataset).__name__}")
    if not dataset.data_vars:
        raise ValueError("a cell's Dataset has no variable")
    found: Variables = {}
    for name, values in dataset.variables.items():
        attributes = {k: v for k, v in values.attrs.items() if isinstance(v, str | int | float)}
        dims = tuple(str(dim) for dim in values.dims)
        found[str(name)] = dims, _plain(str(name), values.values), attributes
    return found


def dimension_labels(variables: Variables) -> dict[str, np.ndarray]:
    """Return the labels along each dimension: its coordinate, or 0, 1, 2 … without one.

    Examples
    --------
    >>> dimension_labels(variables_of(xr.Dataset({"a": ("unit", [5, 6])})))
    {'unit': array([0., 1.])}
    """
    sizes = {
        dim: size
        for dims, values, _ in variables.values()
        for dim, size in zip(dims, values.shape, strict=True)
    }
    return {
        dim: variables[dim][1] if dim in variables else np.arange(size, dtype=np.float64)
        for dim, size in sizes.items()
    }


def save_outcome(path: Path, variables: Variables, seconds: float) -> None:
    """Write a cell's variables, and how long it took, to a file; it is there whole or not at all.

    Examples
    --------
    >>> save_outcome(Path("no/such/folder/outcome.npz"), {}, 1.0)
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    layout = {name: [dims, attributes] for name, (dims, _, attributes) in variables.items()}
    content = {f"_{i}": _to_file(v[1]) for i, v in enumerate(variables.values())}
    content["layout"] = np.array(json.dumps({"seconds": seconds, "variables": layout}))
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_outcome(path: Path) -> tuple[Variables, float]:
    """Read what `save_outcome` wrote: the variables, and the seconds.

    Raises
    ------
    ValueError
        If the file is damaged or of another kind.

    Examples
    --------
    >>> load_outcome(Path("no/such/folder/outcome.npz"))
    Traceback (most recent call last):
    ValueError: ...
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            layout = json.loads(str(file["layout"]))
            variables = {
                str(name): (tuple(dims), _from_file(file[f"_{i}"]), dict(attributes))
                for i, (name, (dims, attributes)) in enumerate(layout["variables"].items())
            }
            return variables, float(layout["seconds"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not readable: {error}") from None


def _to_file(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "T":
        return values
    return np.array(values.ravel().tolist(), np.str_).reshape(values.shape)


def _from_file(values: np.ndarray) -> np.ndarray:
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


def _plain(name: str, values: np.ndarray) -> np.ndarray:
    """Bring values to one of the kinds that the store holds."""
    kind = values.dtype.kind
    if kind in "fc":
        return values if values.dtype.itemsize >= 4 else values.astype(np.float32)
    if kind in "iub":
        if kind != "b" and np.abs(values.astype(np.float64)).max(initial=0) > _LARGEST_WHOLE:
            raise ValueError(
                f"variable {name!r} holds whole numbers above 2**53, which are not exact"
            )
        return values.astype(np.float64)
    texts = values.astype(object).ravel()
    if kind in "UTO" and all(isinstance(text, str) for text in texts):
        return values.astype(np.dtypes.StringDType())
    raise ValueError(
        f"variable {name!r} is of type {values.dtype}; a cell's variables are numbers or texts"
    )
