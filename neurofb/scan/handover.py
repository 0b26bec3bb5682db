"""How a cell's Dataset gets from a worker to the store: one file, written whole or not at all.

Numbers become floats, because a cell that is not done must be able to say so (NaN); texts stay
texts. Nothing in the file is executed when it is read.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

#: variable -> its dims, values, attributes
Variables = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]

_LARGEST_WHOLE = 2**53
_DECODED = frozenset(
    "_FillValue missing_value scale_factor add_offset dtype calendar coordinates _Unsigned".split()
)


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
        If it is no Dataset, is empty, or a variable is of another kind, has a name that is none for
        a file, labels that are not all different, or an attribute that tells readers to decode it.

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
        attributes = {
            str(k): v for k, v in values.attrs.items() if isinstance(v, str | int | float)
        }
        dims = tuple(str(dim) for dim in values.dims)
        _check_names(str(name), dims, attributes)
        found[str(name)] = dims, _plain(str(name), values.values, str(name) in dims), attributes
        if str(name) in dims:
            _check_labels(str(name), found[str(name)][1])
    return found


def dimension_labels(variables: Variables) -> dict[str, np.ndarray]:
    """Return the labels along each dimension: its coordinate, or 0, 1, 2 … without one.

    Examples
    --------
    >>> dimension_labels(variables_of(xr.Dataset({"a": ("unit", [5, 6])})))
    {'unit': array([0, 1])}
    """
    sizes = {
        dim: size
        for dims, values, _ in variables.values()
        for dim, size in zip(dims, values.shape, strict=True)
    }
    return {
        dim: variables[dim][1] if dim in variables else np.arange(size)
        for dim, size in sizes.items()
    }


def save_outcome(path: Path, variables: Variables, seconds: float) -> None:
    """Write a cell's variables, and how long it took, to a file; it is there whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_outcome(Path(folder) / "outcome.npz", {}, 1.5)
    ...     load_outcome(Path(folder) / "outcome.npz")
    ({}, 1.5)
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
    >>> load_outcome(Path("no/such/folder/outcome.npz"))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: no/such/folder/outcome.npz is not readable
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            layout = json.loads(str(file["layout"]))
            variables = {
                str(name): (tuple(dims), _from_file(file[f"_{i}"]), dict(attributes))
                for i, (name, (dims, attributes)) in enumerate(layout["variables"].items())
            }
            return variables, float(layout["seconds"])
    except Exception as error:  # zip, numpy and JSON complain of damage in many ways
        raise ValueError(f"{path} is not readable: {type(error).__name__}: {error}") from None


def _to_file(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "T":
        return values
    return np.array(values.ravel().tolist(), np.str_).reshape(values.shape)


def _from_file(values: np.ndarray) -> np.ndarray:
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


def _check_names(name: str, dims: tuple[str, ...], attributes: dict[str, Any]) -> None:
    """Refuse what cannot be an array of a zarr, or would be read as something else."""
    for text in (name, *dims):
        if text in ("", "zarr.json") or text.startswith((".", "__")) or set(text) & set("/\\\0"):
            raise ValueError(f"a cell's variable or dimension cannot be called {text!r}")
    if name in dims and len(dims) > 1:
        raise ValueError(f"variable {name!r} has the name of one of its dimensions {dims}")
    wrong = _DECODED & attributes.keys()
    if wrong:
        raise ValueError(f"variable {name!r}: readers would decode its attribute {min(wrong)!r}")


def _check_labels(dim: str, labels: np.ndarray) -> None:
    """Refuse labels by which nothing can be found."""
    kept = labels.tolist()
    finite = labels.dtype.kind == "T" or bool(np.isfinite(labels).all())
    if not finite or len(set(kept)) < len(kept):
        raise ValueError(f"the labels of dimension {dim!r} must all differ and be finite: {kept}")


def _plain(name: str, values: np.ndarray, labels: bool) -> np.ndarray:
    """Bring values to one of the kinds that the store holds; whole labels stay whole."""
    kind = values.dtype.kind
    if kind in "fc" and not (labels and kind == "c"):
        if values.dtype.itemsize > 8 * (1 + (kind == "c")):
            raise ValueError(f"variable {name!r} is {values.dtype}; floats have at most 64 bits")
        least = np.float32 if kind == "f" else np.complex64
        wide = np.float64 if labels else np.promote_types(values.dtype, least)
        return values.astype(np.dtype(wide).newbyteorder("="))
    if kind in "iub":
        if kind != "b" and np.abs(values.astype(np.float64)).max(initial=0) > _LARGEST_WHOLE:
            raise ValueError(
                f"variable {name!r} holds whole numbers above 2**53, which are not exact"
            )
        return values.astype(np.int64 if labels and kind != "b" else np.float64)
    texts = values.astype(object).ravel()
    if kind in "UTO" and all(isinstance(text, str) for text in texts):
        return values.astype(np.dtypes.StringDType())
    raise ValueError(
        f"variable {name!r} is of type {values.dtype}; a cell's variables are numbers or texts"
    )
