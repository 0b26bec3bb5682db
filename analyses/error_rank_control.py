"""Rank of the error, moved: by control of the update's rank, and by the rank of the feedback.

Ranks are those of the entropy definition in the sample view (a row an image); that of the error
is of the last layer before the readout, with every row divided by its norm.
"""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures import contrast, rank_trend
from neurofb.measures.statements import statements, statements_text
from neurofb.rank_curves import DEFINITION, accuracy_text, ends, hidden_layers, rank_curves
from neurofb.unfold import by_condition

CONDITION = "(?P<rule>.+), (?P<optimiser>[^,]+), (?P<normalisation>[^,]+)"
#: measure -> what verdicts call it, and the factor on its differences
WHAT = {
    "test_accuracy": ("accuracy (points)", 100),
    "error_rank_normalised": ("rank of the error", 1),
}


def analyse_causal(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracy and ranks by rule and control of the update, verdicts, the figure."""
    curves = rank_curves(study, "(?P<rule>[^,]+), (?P<control>.+)")
    shown = _one_layer(curves)
    said = []
    for rule in map(str, shown["rule"].values):
        own = shown.sel(rule=rule, control="none")
        for control in map(str, shown["control"].values):
            here = shown.sel(rule=rule, control=control)
            if control == "none" or bool(here["error_rank_normalised"].isnull().all()):
                continue
            for name, (what, scale) in WHAT.items():
                if control.startswith("truncate"):
                    text = f"{rule}, {control}: {what} below that with the whole update"
                    said.append(contrast(scale * own[name], scale * here[name], text))
                else:
                    text = f"{rule}, {control}: {what} above that with the update as it is"
                    said.append(contrast(scale * here[name], scale * own[name], text))
    claims = statements(said)
    print(_table(shown, ("rule", "control")), statements_text(claims), sep="\n\n")
    measures = ["test_accuracy", "update_rank", "error_rank_normalised"]
    figure = plot.measures_by_category(shown, measures, across="control", columns="rule")
    return xr.merge([ends(curves), claims]).assign_attrs(study.attrs), {"causal": figure}


def analyse_crossing(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracy and ranks by rank of the feedback, optimiser and normalisation, verdicts."""
    curves = rank_curves(study, CONDITION)
    shown = _one_layer(curves)
    columns = _joined(shown)
    rules = [str(rule) for rule in shown["rule"].values]
    local = [rule for rule in rules if rule.endswith(", local")]
    ranks = by_condition(xr.Dataset(coords={"rule": local}))["feedback_rank"]
    said = []
    for where in map(str, columns["condition"].values):
        here = columns.sel(condition=where, drop=True)
        for name, (what, scale) in WHAT.items():
            values = scale * here[name]
            fa = values.sel(rule="FA")
            for rule in rules:
                if rule.startswith("LDFA"):
                    text = f"{where}: {what} of {rule} above FA's"
                    said.append(contrast(values.sel(rule=rule), fa, text))
            rows = values.sel(rule=local).transpose("rule", "seed")
            text = f"{where}: {what} of local LDFA rises with the feedback's rank (Kendall's tau)"
            said.append(rank_trend(rows, -ranks, text))
    claims = statements(said)
    names = ("rule", "optimiser", "normalisation")
    print(_table(shown, names), statements_text(claims), sep="\n\n")
    measures = ["test_accuracy", "error_rank_normalised", "error_rank"]
    figure = plot.measures_by_category(columns, measures, across="rule", columns="condition")
    return xr.merge([ends(curves), claims]).assign_attrs(study.attrs), {"crossing": figure}


def _one_layer(curves: xr.Dataset) -> xr.Dataset:
    """Return ranks at the end of the last hidden layer, updates as means, with their nulls."""
    found = ends(hidden_layers(curves, "sample"))
    last = found.isel(layer=-1, drop=True)
    layer = str(found["layer"].values[-1])
    shown = last[["test_accuracy", "error_rank", "error_rank_normalised"]]
    for name in ("error_rank", "error_rank_normalised"):
        kind = "row-normalised error" if name.endswith("normalised") else "raw error"
        shown[name].attrs["long_name"] = f"effective rank ({DEFINITION}) of the {kind} in {layer}"
        start = last[f"{name}_start"]
        keep = [dim for dim in start.dims if dim in ("optimiser", "normalisation")]
        shown[f"{name}_null"] = start.mean([dim for dim in start.dims if dim not in keep])
    update = found["update_rank"].mean("layer")
    text = f"effective rank ({DEFINITION}) of the update, mean of the hidden layers"
    shown["update_rank"] = update.assign_attrs(units="1", long_name=text)
    shown["test_accuracy_null"] = xr.DataArray(1 / curves.attrs["num_classes"])
    return shown


def _joined(shown: xr.Dataset) -> xr.Dataset:
    """Return optimiser and normalisation as one dim, ``condition``."""
    parts = [
        shown.sel(optimiser=optimiser, normalisation=normalisation, drop=True).assign_coords(
            condition=f"{optimiser}, {normalisation}"
        )
        for optimiser in shown["optimiser"].values
        for normalisation in shown["normalisation"].values
    ]
    return xr.concat(parts, "condition", data_vars="all", combine_attrs="override")


def _table(shown: xr.Dataset, names: tuple[str, ...]) -> str:
    """Return accuracy and ranks at the end as text, a row a condition."""
    measures = ("error_rank", "error_rank_normalised", "update_rank")
    stacked = shown[["test_accuracy", *measures]].stack(row=names, create_index=False)
    rows = {}
    for i in range(stacked.sizes["row"]):
        one = stacked.isel(row=i)
        if bool(one["error_rank"].isnull().all()):
            continue
        rows[", ".join(str(one[name].values) for name in names)] = {
            "test accuracy (%)": accuracy_text(one["test_accuracy"])
        } | {
            str(one[name].attrs["long_name"]): " ".join(f"{v:.1f}" for v in one[name].values)
            for name in measures
        }
    return pd.DataFrame.from_dict(rows, orient="index").to_string()
