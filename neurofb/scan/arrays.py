"""The arrays of a scan's store: made, grown, put back after a kill, shown to readers in one step.

Arrays only ever grow, and new labels go behind the old ones, so no chunk moves. What readers see of
names and shapes is the metadata consolidated in the root, one file that is replaced whole; data are
written after it. So a kill leaves arrays that nobody sees yet, and `repair` takes them back.
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from neurofb import labels

#: Labels in one chunk of a coordinate; more labels make more chunks.
_COORDINATE_CHUNK = 4096
#: Cells in one chunk of an array of states.
_STATE_CHUNK = 65_536


def add_array(
    group: zarr.Group,
    name: str,
    dims: Sequence[str],
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: Any,
    attributes: Mapping[str, Any],
) -> zarr.Array:
    """Make an array in which what was not written is NaN, "" or -1.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> add_array(group, "a", ["seed"], (2,), (1,), np.float64, {})[:].tolist()
    [nan, nan]
    """
    kind = np.dtype(dtype).kind
    texts = kind in "TUO"
    return group.create_array(
        name,
        shape=tuple(shape),
        chunks=tuple(max(1, chunk) for chunk in chunks),
        dtype=str if texts else dtype,
        fill_value="" if texts else -1 if kind == "i" else np.nan,
        dimension_names=list(dims),
        attributes=dict(attributes),
    )


def add_coordinate(
    group: zarr.Group,
    name: str,
    dim: str,
    values: Sequence[Any] | np.ndarray,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Make a coordinate along a dimension and fill it.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> add_coordinate(group, "seed", "seed", [3, 4])
    >>> np.asarray(group["seed"]).tolist(), group["seed"].attrs["long_name"]
    ([3, 4], 'random seed of the run')
    """
    values = label_array(values)
    given = dict(attributes or {})
    units, long_name = labels.COORDINATES.get(name, ("1", given.get("setting", name)))
    about = {"units": units, "long_name": long_name} | given
    array = add_array(group, name, [dim], values.shape, [_COORDINATE_CHUNK], values.dtype, about)
    array[:] = values


def label_array(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return labels as an array of whole numbers, floats or texts.

    Examples
    --------
    >>> label_array([1, 2]).dtype, label_array([1, 0.5]).dtype, label_array(["a"]).dtype.kind
    (dtype('int64'), dtype('float64'), 'T')
    """
    kept = isinstance(values, np.ndarray) and values.dtype.kind in "Tif"
    if not kept and any(isinstance(value, str) for value in values):
        return np.array([str(value) for value in values], np.dtypes.StringDType())
    array = np.asarray(values)
    return array if kept else array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


def state_chunks(shape: Sequence[int]) -> list[int]:
    """Return the chunks of an array of states: room for the axes to grow, not too big to rewrite.

    Examples
    --------
    >>> state_chunks((4, 5))
    [16, 16]
    """
    chunks = [2 ** math.ceil(math.log2(max(size, 16))) for size in shape]
    while math.prod(chunks) > _STATE_CHUNK:
        chunks[int(np.argmax(chunks))] //= 2
    return chunks


def extend_labels(array: zarr.Array, values: Sequence[Any] | np.ndarray) -> None:
    """Put labels behind those that a coordinate has.

    Raises
    ------
    ValueError
        If the labels are of another kind than the coordinate's.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> add_coordinate(group, "seed", "seed", [3, 4])
    >>> extend_labels(group["seed"], [7])
    >>> np.asarray(group["seed"]).tolist()
    [3, 4, 7]
    """
    old = np.asarray(array)
    new = label_array(values)
    numbers = {old.dtype.kind, new.dtype.kind} == {"f", "i"}
    fits = new.dtype == old.dtype or (numbers and bool(np.all(new == new.astype(old.dtype))))
    if not fits:
        raise ValueError(
            f"axis {array.basename!r}: {list(values)} are of another kind than the labels in the "
            f"store, {old.tolist()}; take another store"
        )
    array.resize((len(old) + len(new),))
    array[:] = np.concatenate([old, new.astype(old.dtype)])


def resize_to(group: zarr.Group, sizes: Mapping[str, int]) -> None:
    """Let every array grow to the sizes of its dimensions.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> array = add_array(group, "a", ["seed"], (2,), (1,), np.float64, {})
    >>> resize_to(group, {"seed": 3})
    >>> group["a"].shape
    (3,)
    """
    for _, array in group.arrays():
        dims = dims_of(array)
        shape = tuple(sizes.get(dim, n) for dim, n in zip(dims, array.shape, strict=True))
        if shape != array.shape:
            array.resize(shape)


def dims_of(array: zarr.Array) -> tuple[str, ...]:
    """Return the names of an array's dimensions.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> dims_of(add_array(group, "a", ["seed"], (2,), (1,), np.float64, {}))
    ('seed',)
    """
    names = getattr(array.metadata, "dimension_names", None) or ()
    return tuple(str(name) for name in names)


def length(group: zarr.Group, dim: str) -> int:
    """Return the number of labels along a dimension.

    Examples
    --------
    >>> group = zarr.open_group({}, mode="w")
    >>> add_coordinate(group, "seed", "seed", [3, 4])
    >>> length(group, "seed")
    2
    """
    coordinate = group[dim]
    assert isinstance(coordinate, zarr.Array)
    return coordinate.shape[0]


def publish(path: Path) -> None:
    """Show readers the arrays as they are now, in one step.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     group = zarr.open_group(folder, mode="w", zarr_format=3)
    ...     add_coordinate(group, "seed", "seed", [3, 4])
    ...     publish(Path(folder))
    ...     "consolidated_metadata" in (Path(folder) / "zarr.json").read_text()
    True
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(path)


def repair(path: Path, group: zarr.Group) -> None:
    """Put arrays back to what readers see, after a kill in the middle of growing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     group = zarr.open_group(folder, mode="w", zarr_format=3)
    ...     add_coordinate(group, "seed", "seed", [3, 4])
    ...     publish(Path(folder))
    ...     group["seed"].resize((5,))
    ...     repair(Path(folder), group)
    ...     group["seed"].shape
    (2,)
    """
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    seen = (root.get("consolidated_metadata") or {}).get("metadata")
    if seen is None:  # killed between a note and its publication: the arrays are whole
        publish(path)
        return
    for name, array in list(group.arrays()):
        if name not in seen:
            del group[name]
        elif tuple(seen[name]["shape"]) != array.shape:
            array.resize(tuple(seen[name]["shape"]))


def sweep(path: Path) -> int:
    """Remove what killed writers left: files beside chunks, folders that are no array yet.

    Returns
    -------
    int
        How many files and folders.

    Examples
    --------
    >>> sweep(Path("nowhere.zarr"))
    0
    """
    found = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if name.endswith(".partial")
    ]
    for name in found:
        os.unlink(name)
    folders = [folder for folder in path.glob("*/") if not (folder / "zarr.json").exists()]
    for folder in folders:
        shutil.rmtree(folder)
    return len(found) + len(folders)
