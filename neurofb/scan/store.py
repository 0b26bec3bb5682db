"""The store of a scan: one labelled zarr that opens at any time, written by one process.

Every variable of a cell has a chunk of its own; the states of the cells are small arrays, and a
cell's status is written after its data. See `neurofb.scan.arrays` for how it grows.
"""

import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from neurofb.scan import arrays
from neurofb.scan.data import make_room, read_checksum, write_data
from neurofb.scan.grid import Axis, Cell, Label, cell_name, short_name
from neurofb.scan.handover import Variables
from neurofb.scan.plan import Tree

ABSENT, PENDING, DONE, FAILED = -1, 0, 1, 2

#: states over the scan's dims: name -> (dtype, units, long name)
STATES: dict[str, tuple[Any, str, str]] = {
    "status": ("int8", "1", "state of the cell: -1 absent, 0 pending, 1 done, 2 failed"),
    "settings": (str, "1", "in what the cell's configuration differs from neurofb_config (JSON)"),
    "failure": (str, "1", "why the cell failed"),
    "cell_seconds": ("float64", "s", "wall time of the cell"),
    "checksum": ("int64", "1", "CRC-32 of the cell's data"),
}
_LONGEST_TEXT = 8000


class Store:
    """The store of a scan, opened for writing by its one writer.

    Parameters
    ----------
    path
        An existing store. What a killed writer left half done is put right.

    Raises
    ------
    ValueError
        If there is no store of a scan at `path`.

    Examples
    --------
    >>> Store(Path("nowhere.zarr"))
    Traceback (most recent call last):
    ValueError: store='nowhere.zarr' is no store of a scan
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            (self.path / "zarr.json").read_bytes()  # zarr would make a folder where there is none
            self.group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
            self.scan: dict[str, Any] = json.loads(str(self.group.attrs["neurofb_scan"]))
            self.dims = tuple(str(dim) for dim in self.scan["dims"])
            self.coordinates = tuple(str(name) for name in self.scan["coordinates"])
            arrays.sweep(self.path)
            arrays.repair(self.path, self.group)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"store={str(path)!r} is no store of a scan") from error
        self._look()

    @classmethod
    def create(
        cls,
        path: Path,
        axes: Iterable[Axis],
        cells: Mapping[str, tuple[Cell, Tree]],
        scan: Tree,
        attributes: Mapping[str, Any],
    ) -> "Store":
        """Make a store whose cells are pending; a kill leaves none or a whole one.

        Parameters
        ----------
        path
            Where; nothing may be there.
        axes
            The scan's axes.
        cells
            Cell → its labels and settings.
        scan
            What the attribute neurofb_scan says.
        attributes
            Global attributes.
        """
        path, axes = Path(path), tuple(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(path.stem)}.*.partial{path.suffix}"):
            shutil.rmtree(left)  # of a writer that was killed; there is one at a time
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
        dims = [axis.dim for axis in axes]
        names = [short_name(name) for axis in axes for name in axis.names]
        whole = {"dims": dims, "coordinates": names, "id": uuid.uuid4().hex[:8], **scan}
        group = zarr.open_group(partial, mode="w", zarr_format=3)
        beside = [name for name in names if name not in dims]
        about = {"coordinates": " ".join(beside)} if beside else {}  # xarray's word for them
        group.attrs.update({**attributes, **about, "neurofb_scan": json.dumps(whole)})
        for axis in axes:
            for name, values in _columns(axis).items():
                arrays.add_coordinate(group, short_name(name), axis.dim, values, {"setting": name})
        shape = [len(axis.points) for axis in axes]
        for name, (dtype, units, long_name) in STATES.items():
            about = {"units": units, "long_name": long_name}
            if name == "status":
                about |= {"flag_values": "-1 0 1 2", "flag_meanings": "absent pending done failed"}
            chunks = arrays.state_chunks(shape)
            arrays.add_array(group, name, dims, shape, chunks, dtype, about)
        arrays.publish(partial)
        cls(partial).ask(axes, cells)
        partial.rename(path)
        return cls(path)

    def states(self) -> dict[str, int]:
        """Return the status of every cell that was asked for, by name."""
        status = np.asarray(self._arrays["status"])
        found = {name: int(status[place]) for name, (_, place) in self._cells.items()}
        return {name: state for name, state in found.items() if state != ABSENT}

    def settings(self) -> dict[str, Tree]:
        """Return the settings of every cell that was asked for, by name."""
        texts = np.asarray(self._arrays["settings"])
        found = {name: str(texts[place]) for name, (_, place) in self._cells.items()}
        return {name: json.loads(text) for name, text in found.items() if text}

    def ask(self, axes: Iterable[Axis], cells: Mapping[str, tuple[Cell, Tree]]) -> None:
        """Let the store grow to hold these cells, pending if they are new.

        Raises
        ------
        ValueError
            If an axis' labels are of another kind than the store's.
        """
        grown = False
        for axis in axes:
            known = {label for labels, _ in self._cells.values() for label in [labels[axis.dim]]}
            fresh = [i for i, label in enumerate(axis.labels) if label not in known]
            for name, values in _columns(axis).items() if fresh else ():
                array = self._arrays[short_name(name)]
                labels = [values[i] for i in fresh]
                if name not in axis.names[:1] and np.dtype(array.dtype).kind == "T":
                    labels = [_text(label) for label in labels]
                arrays.extend_labels(array, labels)
                grown = True
        if grown:
            arrays.resize_to(self.group, {dim: arrays.length(self.group, dim) for dim in self.dims})
            self._publish()
        status, texts = (np.asarray(self._arrays[name]) for name in ("status", "settings"))
        new = [name for name in cells if status[self._cells[name][1]] == ABSENT]
        for name in new:
            texts[self._cells[name][1]] = json.dumps(cells[name][1])
            status[self._cells[name][1]] = PENDING
        if new:
            self._arrays["settings"][...] = texts
            self._arrays["status"][...] = status

    def write(self, name: str, variables: Variables, seconds: float) -> None:
        """Write a cell's variables, look whether they arrived, then call the cell done.

        Raises
        ------
        ValueError
            If a variable has other dims or another kind than in other cells, or a taken name.
        OSError
            If it cannot be written, or what is read back is not what was written.
        """
        used = [name for own, (dims, _, _) in variables.items() for name in (own, *dims)]
        taken = [name for name in used if name in STATES or name in self.coordinates]
        if taken:
            raise ValueError(f"the cell's Dataset may not use the scan's own name {taken[0]!r}")
        try:
            grown = make_room(self.group, self._arrays, self.dims, variables)
        except (ValueError, OSError):
            self._shrink()
            raise
        if grown:
            self._publish()
        place = self._cells[name][1]
        if int(np.asarray(self._arrays["checksum"][place])) != -1:  # it was written before
            for other in set(self._data()) - set(variables):
                self._arrays[other][place] = self._arrays[other].fill_value
        self._arrays["checksum"][place] = write_data(self._arrays, place, variables)
        self._conclude(place, DONE, seconds, "")

    def fail(self, name: str, text: str, seconds: float = float("nan")) -> None:
        """Call a cell failed, and say why; of long texts the beginning and the end are kept."""
        if len(text) > _LONGEST_TEXT:
            text = f"{text[: _LONGEST_TEXT // 4]}\n…\n{text[-3 * _LONGEST_TEXT // 4 :]}"
        self._conclude(self._cells[name][1], FAILED, seconds, text)

    def reset(self, names: Iterable[str]) -> None:
        """Call cells pending again."""
        for name in names:
            self._arrays["status"][self._cells[name][1]] = PENDING

    def damaged(self) -> list[str]:
        """Read all cells that are done; return those that are not as they were written."""
        checksums = np.asarray(self._arrays["checksum"])
        names = self._data()
        done = [self._cells[name] for name, state in self.states().items() if state == DONE]
        return [
            cell_name(labels)
            for labels, place in done
            if read_checksum(self._arrays, names, place) != checksums[place]
        ]

    def note(self, text: str) -> None:
        """Add a line to the attribute history, in one step.

        What has grown but is not published stays so: a sitting may end in the middle of growing.
        """
        seen = zarr.open_group(self.path, mode="r+", use_consolidated=True)
        history = f"{seen.attrs.get('history', '')}\n{text}".strip()
        seen.attrs.update({"history": history})

    def _conclude(self, place: tuple[int, ...], status: int, seconds: float, text: str) -> None:
        if str(self._arrays["failure"][place]) != text:
            self._arrays["failure"][place] = text
        self._arrays["cell_seconds"][place] = seconds
        self._arrays["status"][place] = status

    def _shrink(self) -> None:
        """Take growth back that came to nothing: nothing half grown is ever published."""
        arrays.repair(self.path, self.group)
        self._look()

    def _publish(self) -> None:
        arrays.publish(self.path)
        self._look()

    def _look(self) -> None:
        """Read what arrays there are, and where each cell lies."""
        self._arrays: dict[str, zarr.Array] = dict(self.group.arrays())
        tables = [np.asarray(self._arrays[dim]).tolist() for dim in self.dims]
        self._cells: dict[str, tuple[dict[str, Label], tuple[int, ...]]] = {}
        for place in np.ndindex(*(len(table) for table in tables)):
            labels = {d: t[i] for d, t, i in zip(self.dims, tables, place, strict=True)}
            self._cells[cell_name(labels)] = labels, place

    def _data(self) -> list[str]:
        """Return the names of the cells' own variables."""
        return [
            name
            for name, array in self._arrays.items()
            if arrays.dims_of(array)[: len(self.dims)] == self.dims
            and name not in STATES
            and name not in self.coordinates
        ]


def _columns(axis: Axis) -> dict[str, list[Any]]:
    """Return the labels of an axis, and beside them the other settings; structures as JSON."""
    columns: dict[str, list[Any]] = {axis.names[0]: list(axis.labels)}
    for column, name in enumerate(axis.names[1:], start=1):
        values = [point[column] for point in axis.points]
        plain = all(type(value) in (int, float) for value in values)
        columns[name] = values if plain else [_text(value) for value in values]
    return columns


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
