"""The cells of a scan in a table, and the failed ones grouped by what happened."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from neurofb.plot.scan_map import STATUS
from neurofb.report.markup import Html, folded, join, table, tag
from neurofb.scan.failures import last_line

#: rows of the table of cells; of more cells the failed ones come first
MOST_ROWS = 500
_MOST_NAMED = 12
_ORDER = {2: 0, 0: 1, 1: 2}


def counts(scan: xr.Dataset) -> dict[str, int]:
    """Count the cells by status, without those that were not asked for.

    Examples
    --------
    >>> counts(xr.Dataset({"status": ("seed", [1, 1, 2, -1])}))
    {'done': 2, 'failed': 1, 'pending': 0}
    """
    codes = _codes(scan)
    return {STATUS[code][0]: int((codes == code).sum()) for code in (1, 2, 0)}


def badge(word: str, count: int | None = None) -> Html:
    """Return a status as a word on its colour.

    Examples
    --------
    >>> badge("done", 3)
    '<span class="badge done">3 done</span>'
    """
    if count is None:
        return tag("span", word, class_=f"badge {word}")
    return tag("span", f"{count} {word}", class_=f"badge {word}" if count else "badge")


def cell_table(scan: xr.Dataset, measures: list[str]) -> Html:
    """Return a row a cell: where it lies, status, seconds, measures or what went wrong.

    Parameters
    ----------
    scan
        The scan, with its bookkeeping.
    measures
        Variables over the scan's dims that get a column.

    Examples
    --------
    >>> books = {"status": [1], "cell_seconds": [2.5], "failure": [""]}
    >>> scan = xr.Dataset({name: ("seed", v) for name, v in books.items()}, {"seed": [7]})
    >>> '<td class="number">2.500</td>' in cell_table(scan, [])
    True
    """
    dims = _dims(scan)
    codes = _codes(scan).ravel()
    asked = np.flatnonzero(codes >= 0)
    rows = asked
    note = f"All {len(asked)} cells." if len(asked) != 1 else "The only cell."
    if len(asked) > MOST_ROWS:
        rows = sorted(asked, key=lambda i: (_ORDER[int(codes[i])], i))[:MOST_ROWS]
        note = f"The first {MOST_ROWS} of {len(asked)} cells, failed ones first, then pending ones."
    coordinates = {dim: _labels(scan, dim) for dim in dims}
    seconds = scan["cell_seconds"].transpose(*dims).values.ravel()
    failure = scan["failure"].transpose(*dims).values.ravel()
    columns = {name: scan[name].transpose(*dims).values.ravel() for name in measures}
    places = np.unravel_index(np.asarray(rows, dtype=int), [scan.sizes[dim] for dim in dims])
    body = []
    for row, *index in zip(rows, *places, strict=True):
        code = int(codes[row])
        start: list[object] = [coordinates[dim][i] for dim, i in zip(dims, index, strict=True)]
        start += [badge(STATUS[code][0]), float(seconds[row])]
        if code == 2 and measures:
            words = tag(
                "td",
                _shorter(last_line(str(failure[row]))),
                class_="why",
                colspan=str(len(measures)),
            )
            body.append([*start, words])
        else:
            body.append([*start, *[float(values[row]) for values in columns.values()]])
    head = [*dims, "status", "seconds", *[_column(scan[name]) for name in measures]]
    return table(head, body, caption=note, name="cells")


def failures(scan: xr.Dataset) -> Html:
    """Return the failed cells, those that failed alike together, each group with a traceback.

    Alike is: the last line of the traceback is the same but for its numbers.

    Examples
    --------
    >>> books = {"status": ("seed", [2, 2]), "failure": ("seed", ["E: at 1", "E: at 20"])}
    >>> failures(xr.Dataset(books, {"seed": [0, 1]})).count("<details>")
    1
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for where, trace in _failed(scan):
        groups.setdefault(_alike(trace), []).append((where, trace))
    if not groups:
        return tag("p", "No cell failed.")
    parts = []
    for members in sorted(groups.values(), key=len, reverse=True):
        where, trace = members[0]
        named = "; ".join(name for name, _ in members[:_MOST_NAMED])
        more = len(members) - _MOST_NAMED
        named += f"; and {more} more" if more > 0 else ""
        count = f"{len(members)} cells" if len(members) > 1 else "1 cell"
        parts += [
            tag("h3", f"{count}: ", tag("code", last_line(trace))),
            tag("p", named, class_="note"),
            folded(f"Traceback of {where}", tag("pre", trace)),
        ]
    return join(parts)


def _failed(scan: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Give the place and the traceback of every failed cell."""
    dims, codes = _dims(scan), _codes(scan)
    failure = scan["failure"].transpose(*dims).values
    coordinates = [_labels(scan, dim) for dim in dims]
    for index in np.argwhere(codes == 2):
        named = zip(dims, coordinates, index, strict=True)
        where = ", ".join(f"{dim} {values[i]}" for dim, values, i in named)
        yield where, str(failure[tuple(index)])


def _shorter(words: str) -> str:
    return words if len(words) <= 90 else f"{words[:89]}…"


def _alike(trace: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", last_line(trace))


def _dims(scan: xr.Dataset) -> list[str]:
    return [str(dim) for dim in scan["status"].dims]


def _codes(scan: xr.Dataset) -> np.ndarray:
    """Return the status of all cells as whole numbers, a missing one as pending."""
    return np.nan_to_num(np.asarray(scan["status"].values, dtype=float)).astype(int)


def _labels(scan: xr.Dataset, dim: str) -> list[Any]:
    """Return what the places along a dim are called."""
    values = scan[dim].values.tolist() if dim in scan.coords else list(range(scan.sizes[dim]))
    return [f"{value:g}" if isinstance(value, float) else value for value in values]


def _column(values: xr.DataArray) -> Html:
    """Head a column with the variable's name, its units, and its meaning on hovering."""
    units = str(values.attrs.get("units", "1"))
    words = f"{values.name}" if units == "1" else f"{values.name} ({units})"
    return tag("span", words, title=str(values.attrs.get("long_name", "")))
