"""The parts of the page on a scan."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from neurofb.plot.scan import scan_curves, scan_measure
from neurofb.plot.scan_map import scan_status
from neurofb.report.cells import badge, cell_table, counts, failures
from neurofb.report.configuration import as_stored, axes_table, configuration, flat, varies
from neurofb.report.inline import drawn
from neurofb.report.markup import Html, duration, join, number, pairs, tag
from neurofb.report.source import BOOKS, parsed

#: figures of measures; of scans of many cells fewer, each cell is a file of its own
_MOST_MEASURES, _MANY_CELLS, _MOST_OF_MANY = 8, 2000, 4
#: curves are drawn for scans of at most this many cells, of at most so many variables
_MOST_CELLS_OF_CURVES, _MOST_CURVES = 1000, 4
_MOST_COLUMNS, _MOST_ALONE = 6, 2
_MOST_LAYERS = 6
_AXES = ("axes", "dims", "coordinates")
_NO_MEASURE = (*BOOKS, "checksum")
#: endings of a measure's nulls: the first two are drawn behind it
_NULLS = ("_untrained", "_noise", "_noise_low", "_noise_high")
_DRAWN_NULLS = _NULLS[:2]


def read_scan(scan: xr.Dataset) -> xr.Dataset:
    """Read of a store what the page needs: bookkeeping, measures, and curves of small scans.

    Examples
    --------
    >>> books = {name: ("seed", [0]) for name in BOOKS}
    >>> sorted(read_scan(xr.Dataset({**books, "image": (("seed", "y"), [[1.0]])})))
    ['cell_seconds', 'failure', 'settings', 'status']
    """
    chosen = [name for name in measures(scan) if name in scan]
    nulls = [f"{name}{end}" for name in chosen for end in _DRAWN_NULLS if f"{name}{end}" in scan]
    wanted = [*BOOKS, *chosen, *nulls, *curves(scan)]
    return scan[list(dict.fromkeys(wanted))].load()


def measures(scan: xr.Dataset) -> list[str]:
    """Return the numbers of which each cell has one, or one a layer, without nulls.

    Examples
    --------
    >>> books = {name: ("seed", [0]) for name in BOOKS}
    >>> measures(xr.Dataset({**books, "loss": ("seed", [0.5]), "loss_noise": ("seed", [1.0])}))
    ['loss']
    """
    dims = set(scan["status"].dims)
    found = []
    for name, values in scan.data_vars.items():
        more = set(values.dims) - dims
        fits = dims <= set(values.dims) and (
            not more or (more == {"layer"} and scan.sizes["layer"] <= _MOST_LAYERS)
        )
        null = any(str(name).endswith(end) and str(name).removesuffix(end) in scan
                   for end in _NULLS)  # fmt: skip
        if fits and values.dtype.kind in "fiu" and name not in _NO_MEASURE and not null:
            found.append(str(name))
    found.sort(key=lambda n: (f"{n}_untrained" not in scan, n.startswith("num_"), n))
    return found[: _MOST_OF_MANY if scan["status"].size > _MANY_CELLS else _MOST_MEASURES]


def curves(scan: xr.Dataset) -> list[str]:
    """Return the variables over a step or an epoch that are drawn.

    Examples
    --------
    >>> books = {name: ("seed", [0]) for name in BOOKS}
    >>> curves(xr.Dataset({**books, "loss": (("seed", "step"), [[2.0, 1.0]])}))
    ['loss']
    """
    if scan["status"].size > _MOST_CELLS_OF_CURVES:
        return []
    dims = set(scan["status"].dims)
    found = [
        str(name)
        for name, values in scan.data_vars.items()
        if values.dtype.kind == "f"
        and set(values.dims) - dims in ({"step"}, {"epoch"})
        and dims <= set(values.dims)
    ]
    return found[:_MOST_CURVES]


def scan_summary(scan: xr.Dataset) -> Html:
    """Say in a line how many cells are done, and what they took; a bar shows the shares.

    Examples
    --------
    >>> books = {"status": ("seed", [1, 2]), "cell_seconds": ("seed", [2.0, 4.0])}
    >>> "<strong>2 cells</strong>" in scan_summary(xr.Dataset(books))
    True
    """
    number_of = counts(scan)
    total = sum(number_of.values())
    bar = [
        tag("span", class_=f"share {word}", style=f"flex-grow: {count}", title=f"{count} {word}")
        for word, count in number_of.items()
        if count
    ]
    badges = [badge(word, count) for word, count in number_of.items()]
    seconds = scan["cell_seconds"].values
    seconds = seconds[np.isfinite(seconds)]
    spent = ""
    if seconds.size:
        spent = (
            f"The cells took {duration(float(seconds.sum()))} in all, "
            f"{duration(float(np.median(seconds)))} each in the median."
        )
    cells = "1 cell" if total == 1 else f"{total} cells"
    first = tag("p", tag("strong", cells), ": ", join(badges, " "), class_="summary")
    return join([first, tag("div", *bar, class_="bar", aria_hidden="true"), tag("p", spent)])


def scan_figures(scan: xr.Dataset) -> Html:
    """Return the map of status, a figure a measure, and the curves, with captions."""
    number_of = counts(scan)
    have = f"{number_of['done']} of {sum(number_of.values())} cells are done"
    seeds = "seed" in scan["status"].dims
    one = "a dot is one cell (one seed)" if seeds else "a dot is one cell"
    axes = [scan[dim] for dim in scan["status"].dims if dim != "seed" and scan.sizes[dim] > 1]
    numbers = not axes or any(axis.dtype.kind in "iuf" for axis in axes)
    one += f", {'lines' if numbers else 'bars'} are medians over seeds" if seeds else ""
    caption = "Status of every cell; failed ones are orange, with a cross where there is room."
    status, _ = drawn(lambda: scan_status(scan), caption, "map of the status of every cell")
    return tag("div", status, *_figures(scan, have, one), class_="figures")


def scan_table(scan: xr.Dataset) -> Html:
    """Return the table of cells, with the first measures as columns."""
    found = measures(scan)
    alone = [name for name in found if "layer" not in scan[name].dims]
    if len(alone) == len(found):
        return cell_table(scan, alone[:_MOST_COLUMNS])
    layer = scan["layer"].values.tolist()[0]
    first = scan.isel(layer=0, drop=True)
    layered = [name for name in found if name not in alone]
    names = {name: f"{name}, {layer}" for name in layered}
    columns = [*alone[:_MOST_ALONE], *names.values()][:_MOST_COLUMNS]
    return cell_table(first.rename(names), columns)


def scan_configuration(scan: xr.Dataset) -> Html:
    """Return the axes, how the scan was asked for, and the configuration they change."""
    rows, changing = [], {}
    dims = [str(dim) for dim in scan["status"].dims]
    names = dims + [
        str(name)
        for name, values in scan.coords.items()
        if name not in dims and "setting" in values.attrs and set(values.dims) < set(dims)
    ]
    for name in names:
        if name not in scan.coords:
            continue
        values = [_short(value) for value in np.atleast_1d(scan[name].values).tolist()]
        setting = str(scan[name].attrs.get("setting", name))
        shown = ", ".join(values[:40]) + (", …" if len(values) > 40 else "")
        axis = name if name in dims else f"{name} (with {scan[name].dims[0]})"
        meaning = str(scan[name].attrs.get("long_name", ""))
        rows.append([axis, tag("code", setting), len(values), shown, meaning])
        if len(values) > 1:
            changing[setting] = varies(values)
    about = parsed(scan.attrs.get("neurofb_scan")) or {}
    asked = {k: v for k, v in about.items() if k not in _AXES and v not in ("", None, {})}
    base = parsed(scan.attrs.get("neurofb_config"))
    parts = [tag("h3", "Axes"), axes_table(rows)]
    if asked:
        told = {name: tag("code", _short(value)) for name, value in asked.items()}
        parts += [tag("h3", "The scan"), pairs(told, class_="wide")]
    parts.append(tag("h3", "Configuration of a cell"))
    if isinstance(base, dict) and base:
        settings = flat(base)
        known = {name: words for name, words in changing.items() if name in settings}
        parts += [configuration(settings, known), as_stored(scan.attrs["neurofb_config"])]
    else:
        parts.append(tag("p", "The store keeps no configuration."))
    return join(parts)


def scan_failures(scan: xr.Dataset) -> Html:
    """Return the failed cells in groups."""
    return failures(scan)


def _figures(scan: xr.Dataset, have: str, one: str) -> list[Html]:
    """Draw measures and curves, and say what is not drawn."""
    figures, notes = [], []
    for name, part in _by_layer(scan):
        values = part[name].values
        finite = np.unique(values[np.isfinite(values)])
        words = str(part[name].attrs.get("long_name", name))
        if finite.size == 0:
            notes.append(f"{name} has no value")
        elif finite.size == 1 and values.size > 1:
            notes.append(f"{name} is {number(finite[0])} in every cell")
        else:
            behind = " Grey: the untrained network." if f"{name}_untrained" in part else ""
            behind += " Sand: noise of the same spectrum." if f"{name}_noise" in part else ""
            caption = join(
                [
                    tag("strong", _capital(words)),
                    " (",
                    tag("code", name),
                    f") against the axes of the scan; {one}.{behind} {_capital(have)}.",
                ]
            )
            figure, why = drawn(
                lambda part=part, name=name: scan_measure(part, name), caption, f"{words} by axis"
            )
            figures.append(figure)
            notes += [f"{name}: {why}"] if why else []
    for name in curves(scan):
        along = "step" if "step" in scan[name].dims else "epoch"
        words = str(scan[name].attrs.get("long_name", name))
        caption = join([tag("strong", _capital(words)), " while training: thin lines are cells, "
                        f"thick lines medians over seeds. {_capital(have)}."])  # fmt: skip
        figure, why = drawn(
            lambda name=name, along=along: scan_curves(scan, name, along=along),
            caption,
            f"{words} against {along}",
        )
        figures.append(figure)
        notes += [f"{name}: {why}"] if why else []
    if scan["status"].size > _MOST_CELLS_OF_CURVES:
        notes.append(f"curves are drawn for scans of at most {_MOST_CELLS_OF_CURVES} cells")
    said = "; ".join(dict.fromkeys(notes))  # layers may say the same
    note = [tag("p", f"Not drawn: {said}.", class_="note")] if notes else []
    return [*figures, *note]


def _by_layer(scan: xr.Dataset) -> Iterable[tuple[str, xr.Dataset]]:
    """Give each measure with the data it is drawn from, layer by layer where it has layers."""
    for name in measures(scan):
        nulls = [f"{name}{end}" for end in _DRAWN_NULLS if f"{name}{end}" in scan]
        part = scan[[name, *nulls]]
        if "layer" not in part[name].dims:
            yield name, part
            continue
        for index, layer in enumerate(scan["layer"].values.tolist()):
            one = part.isel(layer=index, drop=True)
            words = f"{one[name].attrs.get('long_name', name)}, {layer}"
            yield name, one.assign({name: one[name].assign_attrs(long_name=words)})


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_short(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
