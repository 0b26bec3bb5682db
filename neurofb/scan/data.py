"""The data of one cell in a scan's store: room for them, writing, reading back, a checksum."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from neurofb.scan import arrays
from neurofb.scan.handover import Variables, dimension_labels


def make_room(
    group: zarr.Group,
    present: Mapping[str, zarr.Array],
    scan_dims: Sequence[str],
    variables: Variables,
) -> bool:
    """Make what no cell had before: arrays for variables, labels along dimensions.

    Parameters
    ----------
    group, present
        The store, and its arrays as they are.
    scan_dims
        Dimensions of the scan; those of the variables come behind them.
    variables
        One cell's.

    Returns
    -------
    bool
        Whether anything was made: the store is to be published then.

    Raises
    ------
    ValueError
        If a variable has other dims or another kind than in other cells.

    Examples
    --------
    >>> group, variable = zarr.open_group({}, mode="w"), (("unit",), np.ones(2), {})
    >>> arrays.add_coordinate(group, "seed", "seed", [0, 1])
    >>> make_room(group, dict(group.arrays()), ["seed"], {"a": variable})
    True
    >>> make_room(group, dict(group.arrays()), ["seed"], {"a": variable})
    False
    >>> group["a"].shape
    (2, 2)
    """
    for name, (dims, values, _) in variables.items():
        if name in present and name not in dims:
            _check_alike(name, present[name], (*scan_dims, *dims), values)
    found = dimension_labels(variables)
    for dim in found:
        if dim in present and arrays.dims_of(present[dim]) != (dim,):
            raise ValueError(f"dimension {dim!r} of this cell is a variable of other cells")
    sizes: dict[str, int] = {}
    for dim, labels in found.items():
        if dim not in present:
            about = variables[dim][2] if dim in variables else {}
            arrays.add_coordinate(group, dim, dim, labels, about)
        else:
            known = set(np.asarray(present[dim]).tolist())
            fresh = np.array([label not in known for label in labels.tolist()], bool)
            if not fresh.any():
                continue
            arrays.extend_labels(present[dim], labels[fresh])
        sizes[dim] = arrays.length(group, dim)
    if sizes:
        arrays.resize_to(group, sizes)
    new = [name for name, (dims, _, _) in variables.items() if name not in {*present, *dims}]
    for name in new:
        dims, values, about = variables[name]
        outer = [arrays.length(group, dim) for dim in scan_dims]
        inner = [arrays.length(group, dim) for dim in dims]
        chunks = [1] * len(outer) + inner  # one chunk a cell
        arrays.add_array(
            group, name, [*scan_dims, *dims], outer + inner, chunks, values.dtype, about
        )
    return bool(sizes or new)


def write_data(
    present: Mapping[str, zarr.Array], place: tuple[int, ...], variables: Variables
) -> int:
    """Write one cell's variables, read them back, and return their checksum.

    Parameters
    ----------
    present
        The store's arrays, with room for the variables.
    place
        The cell's position along the scan's dims.
    variables
        The cell's.

    Raises
    ------
    OSError
        If what is read back is not what was written.

    Examples
    --------
    >>> group, variables = zarr.open_group({}, mode="w"), {"a": (("unit",), np.ones(2), {})}
    >>> arrays.add_coordinate(group, "seed", "seed", [0, 1])
    >>> made = make_room(group, dict(group.arrays()), ["seed"], variables)
    >>> present = dict(group.arrays())
    >>> write_data(present, (1,), variables) == read_checksum(present, ["a"], (1,))
    True
    """
    labels = dimension_labels(variables)
    blocks = {}
    for name, (dims, values, _) in variables.items():
        if name in dims:
            continue
        array = present[name]
        whole = np.full(array.shape[len(place) :], array.fill_value, array.dtype)
        where = [_positions(present[dim], labels[dim].tolist()) for dim in dims]
        whole[np.ix_(*where)] = values
        array[place] = whole
        if not _same(np.asarray(array[place]), whole):
            raise OSError(f"variable {name!r}: what is read back is not what was written")
        blocks[name] = whole
    return _checksum(blocks)


def read_checksum(
    present: Mapping[str, zarr.Array], names: Sequence[str], place: tuple[int, ...]
) -> int:
    """Read one cell's variables and return their checksum; -1 if a chunk is not readable.

    It does not depend on what is empty (NaN, ""), so it stays when the store grows.

    Examples
    --------
    >>> read_checksum({}, [], (0,))
    0
    """
    try:
        return _checksum({name: np.asarray(present[name][place]) for name in names})
    except Exception:  # each codec complains of a damaged chunk in its own way
        return -1


def _checksum(blocks: Mapping[str, np.ndarray]) -> int:
    total = 0
    for name in sorted(blocks):
        values = blocks[name]
        if values.dtype.kind == "T":
            content = "\0".join(text for text in values.ravel().tolist() if text).encode()
        else:
            content = np.ascontiguousarray(values[~np.isnan(values)]).tobytes()
        total = zlib.crc32(content, zlib.crc32(name.encode(), total)) if content else total
    return total


def _check_alike(name: str, array: zarr.Array, dims: Sequence[str], values: np.ndarray) -> None:
    expected = arrays.dims_of(array)
    if expected != tuple(dims) or np.dtype(array.dtype) != values.dtype:
        raise ValueError(
            f"variable {name!r} of this cell is {values.dtype} over {tuple(dims)}, but that of "
            f"other cells {array.dtype} over {expected}"
        )


def _positions(coordinate: zarr.Array, labels: Sequence[Any]) -> list[int]:
    known = {label: i for i, label in enumerate(np.asarray(coordinate).tolist())}
    return [known[label] for label in labels]


def _same(read: np.ndarray, written: np.ndarray) -> bool:
    if written.dtype.kind == "T":
        return read.tolist() == written.tolist()
    return bool(np.array_equal(read, written, equal_nan=True))
