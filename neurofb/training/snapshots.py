"""Labelled datasets inside a checkpoint, and stacked over steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from neurofb import labels


def encode(dataset: xr.Dataset) -> dict[str, Any]:
    """Turn a dataset into tensors, lists and strings, which load without unpickling objects.

    Examples
    --------
    >>> encode(xr.Dataset({"status": ("unit", ["ok", "dead"])}))["variables"]["status"]["values"]
    ['ok', 'dead']
    """
    return {
        "variables": {str(name): _encode(var) for name, var in dataset.variables.items()},
        "coords": [str(name) for name in dataset.coords],
        "attrs": dict(dataset.attrs),
    }


def decode(code: Mapping[str, Any]) -> xr.Dataset:
    """Undo `encode`."""
    variables = {name: _decode(entry) for name, entry in code["variables"].items()}
    coords = {name: variables.pop(name) for name in code["coords"]}
    return xr.Dataset(variables, coords=coords, attrs=code["attrs"])


def stack(snapshots: Mapping[int, xr.Dataset]) -> xr.Dataset | None:
    """Stack snapshots over a new dim ``step`` (number of updates done), in order; none gives None.

    Raises
    ------
    ValueError
        If their dims or coordinates differ, so that they cannot be one dataset.
    """
    if not snapshots:
        return None
    steps = sorted(snapshots)
    dim = xr.DataArray(labels.coordinate("step", steps), name="step")
    return xr.concat(
        [snapshots[step] for step in steps],
        dim=dim,
        data_vars="all",
        coords="different",
        compat="equals",
        join="exact",
        combine_attrs="override",
    )


def _encode(variable: xr.Variable) -> dict[str, Any]:
    values = np.asarray(variable.values)
    text = values.dtype.kind in "OUS"
    return {
        "dims": [str(dim) for dim in variable.dims],
        "values": values.tolist() if text else torch.from_numpy(np.array(values)),
        "dtype": values.dtype.str if text else None,
        "attrs": {
            name: attr.item() if isinstance(attr, np.generic) else attr
            for name, attr in variable.attrs.items()
        },
    }


def _decode(entry: Mapping[str, Any]) -> xr.Variable:
    values = entry["values"]
    values = values.numpy() if entry["dtype"] is None else np.array(values, dtype=entry["dtype"])
    return xr.Variable(entry["dims"], values, entry["attrs"])
