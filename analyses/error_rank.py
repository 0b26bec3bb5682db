"""Rank of the error by rule, optimiser and normalisation: where it collapses, what brings it back.

Ranks are those of the entropy definition. Verdicts are about the last layer before the readout, in
the sample view (a row an image) and, if they say nothing else, with every row divided by its norm.
"""

from collections.abc import Iterator

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures import contrast, rank_trend
from neurofb.measures.accuracy import best_rate
from neurofb.measures.statements import statements, statements_text
from neurofb.rank_curves import (
    DEFINITION,
    accuracy_text,
    ends,
    hidden_layers,
    rank_curves,
    text_of,
    views,
)
from neurofb.unfold import condition_names, unfold

CONDITION = "(?P<rule>.+), (?P<optimiser>[^,]+), (?P<normalisation>[^,]+)"
COLUMNS = {
    "error": "error_rank",
    "error, row-normalised": "error_rank_normalised",
    "input, centred": "activity_rank",
    "gradient": "gradient_rank",
    "update": "update_rank",
    "angle to BP": "gradient_angle",
}
#: measure -> the error that it is of
RANKS = {"error_rank": "raw", "error_rank_normalised": "row-normalised"}


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return ranks at start and end by rule, optimiser and normalisation, verdicts, figures."""
    curves = rank_curves(study, CONDITION)
    figures, claims, trends = {}, xr.Dataset(), xr.Dataset()
    for view in views(curves):
        hidden = hidden_layers(curves, view)
        found = ends(hidden)
        print(_table(found, view), end="\n\n")
        claims, trends = statements(_statements(found)), _trends(found)  # of the last view, samples
        end = "" if len(views(curves)) == 1 else f"_{view}"
        counts = hidden["test_accuracy"].notnull().any(["rule", "seed"]).sum("optimiser")
        main = hidden.isel(normalisation=(counts > 1).values)
        figures[f"depth{end}"] = plot.rank_over_depth(main)
        figures[f"epochs{end}"] = plot.rank_over_epochs(main)
        figures[f"accuracy{end}"] = plot.accuracy_against_error_rank(_last_layer(found))
        if main.sizes["normalisation"] < hidden.sizes["normalisation"]:
            alone = hidden.isel(normalisation=(counts == 1).values)["test_accuracy"]
            of = alone.notnull().any(["rule", "normalisation", "seed"]).values
            figures[f"normalisations{end}"] = plot.rank_over_depth(
                hidden.isel(optimiser=of), rows="optimiser", columns="normalisation"
            )
    print("Verdicts:", statements_text(claims), sep="\n")
    print("Accuracy against rank over all conditions: Kendall's tau of every seed")
    for name, trend in trends.data_vars.items():
        print(f"  {name}: " + ", ".join(f"{value:+.2f}" for value in trend.values))
    return xr.merge([ends(curves), claims, trends]).assign_attrs(study.attrs), figures


def analyse_rates(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return for each condition the rate with the best validation accuracy at the end."""
    root = study.to_dataset()
    condition_names(root)  # refuses the result of one run
    curve = root["validation_accuracy"]
    if "diverged_at" in root:
        curve = curve.where(root["diverged_at"].isnull())
    pattern = f"{CONDITION}, rate (?P<learning_rate>.+)"
    unfolded = unfold(curve.to_dataset(name="validation_accuracy"), pattern)
    found = best_rate(unfolded["validation_accuracy"])
    num_edges = num = 0
    print("validation accuracy (%) at the end by learning rate")
    for name, one in _cells(found, "chosen_rate"):
        tried = one["last_validation_accuracy"].dropna("learning_rate")
        pairs = zip(tried["learning_rate"].values, tried.values, strict=True)
        text = "  ".join(f"{rate:g}: {100 * value:.1f}" for rate, value in pairs)
        edge = "  (at the edge)" if bool(one["at_edge"]) else ""
        print(f'  "{name}": {float(one["chosen_rate"]):g},  # {text}{edge}')
        num_edges, num = num_edges + bool(edge), num + 1
    print(f"{num_edges} of {num} chosen rates lie at the edge of what was tried")
    return found.assign_attrs(study.attrs), {}


def _last_layer(found: xr.Dataset) -> xr.Dataset:
    """Return the last layer, whose name is then part of what its variables are called."""
    last = found.isel(layer=-1)
    for name, error in RANKS.items():
        text = f"effective rank ({DEFINITION}) of the {error} error, {found['layer'].values[-1]}"
        last[name].attrs["long_name"] = text
    return last


def _cells(found: xr.Dataset, name: str) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield label and values of each condition that a study has."""
    for optimiser in found["optimiser"].values:
        for normalisation in found["normalisation"].values:
            for rule in found["rule"].values:
                at = {"rule": rule, "optimiser": optimiser, "normalisation": normalisation}
                if bool(found[name].sel(at).notnull().any()):
                    yield f"{rule}, {optimiser}, {normalisation}", found.sel(at)


def _table(found: xr.Dataset, view: str) -> str:
    """Return accuracies and ranks at the end as text, layer after layer."""
    rows = {}
    for name, one in _cells(found, "error_rank"):
        rows[name] = {"test accuracy (%)": accuracy_text(one["test_accuracy"])}
        rows[name] |= {
            column: text_of(one[measure].transpose("layer", "seed"))
            for column, measure in COLUMNS.items()
        }
    layers = [str(layer) for layer in found["layer"].values]
    start = found["error_rank_start"].mean(["optimiser", "seed"])
    begins = [
        f"  {rule}, {normalisation}: "
        + " ".join(f"{value:.0f}" for value in start.sel(rule=rule, normalisation=normalisation))
        for rule in start["rule"].values
        for normalisation in start["normalisation"].values
        if bool(start.sel(rule=rule, normalisation=normalisation).notnull().any())
    ]
    return "\n".join(
        [
            f"Effective ranks ({view} view), mean over seeds, {layers[0]} to {layers[-1]}",
            pd.DataFrame.from_dict(rows, orient="index").to_string(),
            "Error before training",
            *begins,
        ]
    )


def _statements(found: xr.Dataset) -> list[xr.Dataset]:
    """Return a verdict for each statement that the study's conditions allow."""
    last = found.isel(layer=-1)
    cells = dict(_cells(last, "error_rank"))
    points = {name: 100 * one["test_accuracy"] for name, one in cells.items()}
    rank = {name: one["error_rank_normalised"] for name, one in cells.items()}
    raw = {name: one["error_rank"] for name, one in cells.items()}
    said = [_same_start(found)]
    for name in cells:
        rule, optimiser, normalisation = name.rsplit(", ", 2)
        where = f"{optimiser}, {normalisation}"
        bp, fa = f"BP, {where}", f"FA, {where}"
        if name == fa and bp in cells:
            said.append(contrast(rank[bp], rank[fa], f"{where}: FA's rank is below BP's"))
            if normalisation == "none":
                text = f"{where}: FA's rank is below half of BP's"
                said.append(contrast(0.5 * rank[bp], rank[fa], text))
            text = f"{where}: FA is more than 5 points behind BP (points)"
            said.append(contrast(points[bp] - 5, points[fa], text))
        if rule == "FA" and normalisation != "none":
            plain, cure = f"FA, {optimiser}, none", f"{optimiser}: normalisation by {normalisation}"
            said += _cures(name, plain, cure, rank, points)
        if rule == "FA" and optimiser == "Muon":
            said += _cures(
                name,
                f"FA, Adam, {normalisation}",
                f"{normalisation}: Muon instead of Adam",
                rank,
                points,
            )
        if rule == "FA orthogonal":
            said += _cures(name, fa, f"{where}: orthogonal feedback", rank, points)
        if name == "FA, Muon, none" and bp in cells:
            text = f"{where}: BP's raw rank is below FA's, though BP is more accurate"
            below = (raw[fa] - raw[bp]).where(points[bp] > points[fa], -1.0)
            said.append(contrast(below, 0 * below, text))
    both, alone = "FA, Muon, batch", ("FA, Muon, none", "FA, Adam, batch")
    if {both, *alone} <= set(cells):
        text = "FA, Muon and batch norm together: more accurate than either alone (points)"
        better = xr.concat([points[name] for name in alone], "one").max("one", skipna=False)
        said.append(contrast(points[both], better, text))
    return said


def _trends(found: xr.Dataset) -> xr.Dataset:
    """Return how accuracy goes with the rank over all conditions: Kendall's tau, no verdict.

    Most conditions are alike in every seed, so that all seeds agree on a tau near 0 as well.
    """
    last, trends = found.isel(layer=-1), {}
    for name, error in RANKS.items():
        rows = last["test_accuracy"].stack(condition=("rule", "optimiser", "normalisation"))
        ranks = last[name].mean("seed").stack(condition=("rule", "optimiser", "normalisation"))
        keep = rows.notnull().all("seed").values & ranks.notnull().values
        pair = rows.isel(condition=keep).transpose("condition", "seed"), -ranks.isel(condition=keep)
        text = f"Kendall's tau of accuracy and rank of the {error} error over conditions"
        trend = rank_trend(*pair, text)["difference"]
        trends[f"{name}_trend"] = trend.assign_attrs(units="1", long_name=text)
    return xr.Dataset(trends)


def _cures(
    name: str,
    plain: str,
    cure: str,
    rank: dict[str, xr.DataArray],
    points: dict[str, xr.DataArray],
) -> list[xr.Dataset]:
    """Return the verdicts on a cure: rank and accuracy (points) with it and without."""
    if plain not in rank:
        return []
    return [
        contrast(rank[name], rank[plain], f"{cure} raises FA's rank"),
        contrast(points[name], points[plain], f"{cure} makes FA more accurate (points)"),
    ]


def _same_start(found: xr.Dataset) -> xr.Dataset:
    """Return the verdict on the ranks of FA and BP before training."""
    start = found["error_rank_start"]
    apart = abs(start.sel(rule="FA", drop=True) / start.sel(rule="BP", drop=True) - 1)
    most = apart.max(["optimiser", "normalisation", "layer"])
    text = "before training the ranks of FA and BP differ by less than 5 % in every layer"
    return contrast(0 * most + 0.05, most, text)
