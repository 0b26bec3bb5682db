"""Where a result comes from, and what its file holds."""

import xarray as xr

from neurofb.report.markup import Html, duration, folded, join, linked, number, pairs, table, tag
from neurofb.report.source import parsed

#: shown in the part on configuration
_ELSEWHERE = ("neurofb_config", "neurofb_scan")


def provenance(attributes: dict[str, object]) -> Html:
    """Return all attributes of a result, those with JSON taken apart.

    Examples
    --------
    >>> provenance({"seed": 3})
    '<dl class="wide"><dt>seed</dt><dd>3</dd></dl>'
    """
    rows = {
        name: _value(name, value)
        for name, value in attributes.items()
        if name not in _ELSEWHERE and str(value) != ""
    }
    if not rows:
        return tag("p", "The result says nothing about where it comes from.")
    return pairs(rows, class_="wide")


def structure(tree: xr.DataTree) -> Html:
    """Return what each group holds: dims, then variables with dims, units and meaning.

    Nothing is read but names and attributes.

    Examples
    --------
    >>> tree = xr.DataTree(xr.Dataset({"loss": ("step", [1.0])}))
    >>> "<td>loss</td><td>step</td><td>float64</td>" in structure(tree)
    True
    """
    parts = []
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        if not dataset.variables:
            continue
        sizes = " × ".join(f"{dim} {size}" for dim, size in dataset.sizes.items()) or "no dims"
        rows = [
            [name, ", ".join(map(str, v.dims)), _kind(v), *[str(v.attrs.get(k, "")) for k in _CF]]
            for name, v in [*dataset.coords.items(), *dataset.data_vars.items()]
        ]
        own = dataset.attrs if node is not tree else {}
        facts = [tag("p", "; ".join(f"{k}: {v}" for k, v in own.items()), class_="note")]
        variables = f"{len(dataset.data_vars)} variables and {len(dataset.coords)} coordinates"
        title = join([tag("code", node.path), f" {sizes}; {variables}"])
        head = ["name", "over", "type", "units", "meaning"]
        parts.append(folded(title, *(facts if own else []), table(head, rows)))
    return join(parts) or tag("p", "The result holds no variable.")


_CF = ("units", "long_name")


def _value(name: str, value: object) -> object:
    if name.endswith("_seconds") and isinstance(value, int | float):
        return duration(float(value)) if value == value else "not known"
    if isinstance(value, float):
        return number(value)
    inside = parsed(value) if str(value).startswith("{") else None
    if isinstance(inside, dict):
        return ", ".join(f"{key} {entry}" for key, entry in inside.items())
    return join([linked(line) for line in str(value).splitlines()], "<br>")


def _kind(array: xr.DataArray) -> str:
    """Name a variable's type as a reader would."""
    return "text" if array.dtype.kind in "OUST" else str(array.dtype)
