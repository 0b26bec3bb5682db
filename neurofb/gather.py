"""Runs side by side: from one tree a run to one tree a study, over condition and seed."""

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.conditions import facts
from neurofb.config import RunConfig, to_json
from neurofb.tracking import FOLLOWED

#: what is kept of a run's history
_CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy", "step_at_epoch")

#: results of runs by condition and seed
Runs = Mapping[tuple[str, int], xr.DataTree]


def side_by_side(name: str, conditions: Mapping[str, RunConfig], runs: Runs) -> xr.DataTree:
    """Put the results of runs side by side.

    Parameters
    ----------
    name
        Title of the study.
    conditions
        Condition → its run, in the order of the figure.
    runs
        The results, every condition with the same seeds.

    Returns
    -------
    xr.DataTree
        ``/`` loss and accuracy (condition, seed, step), validation_loss, validation_accuracy and
        step_at_epoch (condition, seed, epoch), test_loss and test_accuracy (condition, seed), with
        the coordinates of `neurofb.conditions.facts`; ``/alignment``, ``/error_rank`` and
        ``/factors`` (condition, seed, epoch, layer, …) and ``/curl`` (condition, seed, epoch), if
        runs measured them (the root then has the same epochs, NaN where there was no validation);
        below it one child per layer with mapped fields (condition, seed, unit, y, x), the measures,
        and the two nulls under the same names with the endings ``_untrained`` and ``_noise``.
        Conditions with fewer units are filled with NaN and the status "absent"; so are shorter
        runs, and layers that a network does not have.

    Raises
    ------
    ValueError
        If there is no run.

    Examples
    --------
    >>> side_by_side("demo", {}, {})
    Traceback (most recent call last):
    ValueError: runs={} must hold at least one run
    """
    if not runs:
        raise ValueError("runs={} must hold at least one run")
    layers = next(iter(conditions.values())).measurement.layers
    tree = {f"/{layer}": _layer(runs, layer) for layer in layers}
    root = _stack({key: _training(result) for key, result in runs.items()})
    followed = {f"/{child}": _followed(runs, child) for child in FOLLOWED if _has(runs, child)}
    if followed:
        measured = [dataset["epoch"].values for dataset in followed.values()]
        epochs = reduce(np.union1d, measured, root["epoch"].values).tolist()
        root = _along("epoch", epochs, root)
        tree |= {path: _along("epoch", epochs, dataset) for path, dataset in followed.items()}
    root = root.assign_coords(facts(list(conditions.values())) | _sizes(runs))
    root.attrs = labels.provenance(
        title=name,
        config=json.dumps({key: json.loads(to_json(c)) for key, c in conditions.items()}),
        seed=next(iter(runs))[1],
        device=_all_of("device", runs),
        data_checksum=_all_of("data_checksum", runs),
        cpu_seconds=float(np.sum([result.attrs["cpu_seconds"] for result in runs.values()])),
        references=labels.REFERENCES,
    )
    root.attrs["git_commit_of_runs"] = _all_of("git_commit", runs)
    root.attrs["threads"] = _all_of("threads", runs)
    root.attrs["seeds"] = " ".join(dict.fromkeys(str(seed) for _, seed in runs))
    tree["/"] = root
    return xr.DataTree.from_dict(tree)


def layer_dataset(tree: xr.DataTree, layer: str) -> xr.Dataset:
    """Return one layer of a study's tree together with the training curves, as figures want it.

    Raises
    ------
    ValueError
        If the layer is not in the tree.

    Examples
    --------
    >>> tree = xr.DataTree.from_dict({"/": xr.Dataset({"loss": 1.0}), "/a": xr.Dataset({"b": 2.0})})
    >>> sorted(layer_dataset(tree, "a"))
    ['b', 'loss']
    """
    if layer not in tree.children:
        if "receptive_field" in tree.children:
            raise ValueError("this is the result of one run; figures are drawn of a study")
        found = ", ".join(tree.children) or "none: it is no study of receptive fields"
        raise ValueError(f"layer={layer!r} is not in the study; it has {found}")
    dataset = xr.merge(
        [tree.to_dataset(), tree.children[layer].to_dataset(inherit=False)],
        combine_attrs="drop_conflicts",
    )
    dataset.attrs = dict(tree.attrs)
    return dataset


def _all_of(name: str, runs: Runs) -> str:
    """Return an attribute's different values over all runs."""
    return " ".join(dict.fromkeys(str(result.attrs[name]) for result in runs.values()))


def _layer(runs: Runs, layer: str) -> xr.Dataset:
    """Return the fields and measures of one layer over all runs."""
    cells = {}
    for key, result in runs.items():
        node = result.children["receptive_field"].children[layer]
        parts = [node.to_dataset(inherit=False)]
        for null in ("untrained", "noise"):
            dataset = node.children[null].to_dataset(inherit=False)
            dataset.attrs = {}
            if null == "noise":
                dataset = dataset.drop_vars("receptive_field", errors="ignore")
            parts.append(dataset.rename({v: f"{v}_{null}" for v in dataset.data_vars}))
        merged = xr.merge(parts, combine_attrs="drop_conflicts", compat="override", join="outer")
        merged = merged.drop_vars([c for c in merged.coords if c not in merged.dims])
        cells[key] = _fillable(merged)
    dataset = _stack(cells)
    for name in [v for v in dataset.data_vars if dataset[v].dtype == object]:
        dataset[name] = dataset[name].fillna("absent").assign_attrs(dataset[name].attrs)
    return dataset.squeeze("channel", drop=True) if dataset.sizes["channel"] == 1 else dataset


def _training(result: xr.DataTree) -> xr.Dataset:
    """Return the training and validation curves and the test of one run."""
    training = result.children["training"].to_dataset(inherit=False)
    keep = [name for name in _CURVES if name in training]
    found = ("test_accuracy", "test_loss", "diverged_at")
    tested = [name for name in found if name in result.data_vars]
    return _fillable(training[keep]).assign({name: result[name] for name in tested})


def _has(runs: Runs, child: str) -> bool:
    """Tell whether any run has followed something."""
    return any(child in result.children for result in runs.values())


def _followed(runs: Runs, child: str) -> xr.Dataset:
    """Return what was followed over all runs, its layers in the order of the networks."""
    cells, layers = {}, {}
    for key, result in runs.items():
        if child not in result.children:
            continue
        dataset = result.children[child].to_dataset(inherit=False).reset_coords("step")
        cells[key] = dataset.rename(step="step_at_epoch")
        if "layer" in dataset.dims:
            layers |= dict.fromkeys(dataset["layer"].values.tolist())
    first = next(iter(cells.values()))
    empty = first.isel({dim: slice(0) for dim in ("epoch", "layer") if dim in first.dims})
    stacked = _stack({key: cells.get(key, empty) for key in runs})
    return _along("layer", list(layers), stacked) if layers else stacked


def _along(dim: str, values: list[Any], dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset with these values along a dim, NaN where it has none."""
    return dataset.reindex({dim: values}).assign_coords({dim: labels.coordinate(dim, values)})


def _sizes(runs: Runs) -> dict[str, xr.Variable]:
    """Return the number of parameters of each condition, where the runs say it."""
    firsts: dict[str, xr.DataTree] = {}
    for (condition, _), result in runs.items():
        firsts.setdefault(condition, result)
    if not all("num_parameters" in result.data_vars for result in firsts.values()):
        return {}
    values = [int(result.dataset["num_parameters"]) for result in firsts.values()]
    return {"num_parameters": labels.variable("condition", values, "1", "weights and biases")}


def _stack(cells: Mapping[tuple[str, int], xr.Dataset]) -> xr.Dataset:
    """Concatenate runs over condition and seed; shorter dims are filled up with NaN."""
    # what was stored as whole numbers may have to hold NaN
    cells = {key: dataset.drop_encoding() for key, dataset in cells.items()}
    conditions = list(dict.fromkeys(condition for condition, _ in cells))
    seeds = list(dict.fromkeys(seed for _, seed in cells))
    rows = [
        xr.concat(
            [cells[condition, seed] for seed in seeds],
            labels.coordinate("seed", seeds),
            join="outer",
            combine_attrs="drop_conflicts",
            coords="minimal",
            compat="override",
            data_vars="all",
        )
        for condition in conditions
    ]
    whole = xr.concat(
        rows,
        labels.coordinate("condition", conditions),
        join="outer",
        combine_attrs="drop_conflicts",
        coords="minimal",
        compat="override",
        data_vars="all",
    )
    return whole[list(next(iter(cells.values())).data_vars)]  # xarray loses the order


def _fillable(dataset: xr.Dataset) -> xr.Dataset:
    """Bring flags to 0 and 1 and text to objects, so that absent units can be NaN."""
    for name, values in dataset.data_vars.items():
        kind = values.dtype.kind
        if kind in "bTU":
            wanted = np.float64 if kind == "b" else object
            dataset[name] = values.astype(wanted).assign_attrs(values.attrs)
    return dataset
