"""Runs side by side: from one tree a run to one tree a study, over condition and seed."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.config import RunConfig, to_json

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
        ``/`` loss and accuracy (condition, seed, step), test_accuracy (condition, seed), with the
        coordinates feedback_rank, bottleneck, rule; below it one child per layer with the fields
        (condition, seed, unit, y, x), the measures, and the two nulls under the same names with the
        endings ``_untrained`` and ``_noise``. Conditions with fewer units are filled with NaN and
        the status "absent".

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
    root = root.assign_coords(_facts(list(conditions.values())))
    root.attrs = labels.provenance(
        title=name,
        config=json.dumps({key: json.loads(to_json(c)) for key, c in conditions.items()}),
        seed=next(iter(runs))[1],
        device=_all_of("device", runs),
        data_checksum=_all_of("data_checksum", runs),
        cpu_seconds=float(np.sum([result.attrs["cpu_seconds"] for result in runs.values()])),
        references="arXiv:1901.00945 arXiv:2502.20580",
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
        raise ValueError(f"layer={layer!r} is not in the study; it has {', '.join(tree.children)}")
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
    """Return the training curves and the test accuracy of one run."""
    training = result.children["training"].to_dataset(inherit=False)
    keep = [name for name in ("loss", "accuracy") if name in training]
    dataset = training[keep]
    dataset = dataset.drop_vars([c for c in dataset.coords if c != "step"], errors="ignore")
    return dataset.assign(test_accuracy=result["test_accuracy"])


def _stack(cells: Mapping[tuple[str, int], xr.Dataset]) -> xr.Dataset:
    """Concatenate runs over condition and seed; shorter dims are filled up with NaN."""
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


def _facts(configs: list[RunConfig]) -> dict[str, xr.Variable]:
    """Return what is known of each condition as coordinates."""
    full = [float(config.network.bottleneck) for config in configs]
    ranks = [
        {"low_rank": float(getattr(config.feedback, "rank", np.nan)), "exact": width}.get(
            config.feedback.rule, np.nan
        )
        for config, width in zip(configs, full, strict=True)
    ]
    widest = max(full)
    ranks = [
        np.nan if config.network.bottleneck < widest else rank
        for config, rank in zip(configs, ranks, strict=True)
    ]
    return {
        "feedback_rank": labels.variable("condition", ranks, "1", "rank of the feedback"),
        "bottleneck": labels.variable(
            "condition",
            [config.network.bottleneck for config in configs],
            "1",
            "channels of the retinal output",
        ),
        "rule": labels.variable(
            "condition", [config.feedback.rule for config in configs], "1", "feedback rule"
        ),
    }
