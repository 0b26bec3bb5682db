"""Modes of linear networks with low-dimensional feedback: simulation against theory.

`analyse` is for the results of `authors` in `models/linear_modes.py`, `analyse_oja` and
`analyse_endpoints` for those of `oja` and `endpoints`. Medians are over seeds.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.measures import contrast, rank_trend
from neurofb.measures.statements import statements, statements_text

#: what simulation and theory may differ by in the share of a mode
ALLOWED = 0.03
#: share from which on a mode counts as learned
LEARNED = 0.95
#: of which functions of `models/linear_modes.py` the results are that each function here takes
SOURCES = {"analyse": "authors", "analyse_oja": "oja", "analyse_endpoints": "endpoints"}


def analyse(result: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return shares, losses and distances to theory at the end, verdicts, the figures."""
    dataset = _dataset(result, "analyse")
    found = ends(dataset)
    said = []
    for rule in dict.fromkeys(map(str, found["rule"].values)):
        one = found.isel(condition=np.flatnonzero(found["rule"].values == rule))
        low = one.isel(condition=np.flatnonzero(one["rank"] < found.attrs["num_modes"]))
        at = ", ".join(str(rank) for rank in one["rank"].values)
        name = f"{rule}, r = {at}" if one.sizes["condition"] > 1 else rule
        worst = one["distance"].max("condition", skipna=False)
        text = f"{name}: share of a mode within {ALLOWED} of theory at all steps"
        said.append(contrast(ALLOWED + 0 * worst, worst, text))
        if low.sizes["condition"]:
            ranks = ", ".join(str(rank) for rank in low["rank"].values)
            ahead = (low["leading_overlap"] - low["other_overlap"]).min("condition", skipna=False)
            text = f"{rule}, r = {ranks}: the first r modes are learned better than the others"
            said.append(contrast(ahead, 0 * ahead, text))
        if one.sizes["condition"] > 1:
            text = f"{rule}: the loss rises as the rank falls (Kendall's tau)"
            said.append(rank_trend(one["final_loss"], one["rank"], text))
    for name in map(str, found["condition"].values):
        one, fixed = found.sel(condition=name), name.replace("LDFA normative", "LDFA fixed P")
        if fixed != name and fixed in found["condition"] and one["rank"] < found.attrs["num_modes"]:
            text = (
                f"r = {int(one['rank'])}: normative learns more of the first r modes than fixed P"
            )
            other = found["leading_overlap"].sel(condition=fixed)
            said.append(contrast(one["leading_overlap"], other, text))
    claims = statements(said)
    print(table(found), statements_text(claims), sep="\n\n")
    measures = ["final_loss", "mean_overlap", "leading_overlap"]
    figures = {
        "linear_modes": plot.learned_modes(dataset, conditions=_columns(dataset)),
        "linear_modes_rank": plot.modes_against_rank(found, measures),
    }
    return xr.merge([found, claims]).assign_attrs(dataset.attrs), figures


def analyse_oja(result: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return shares at the end of rules that move P, verdicts, the figure."""
    dataset = _dataset(result, "analyse_oja")
    found = ends(dataset)
    targets, fixed = (_of_rule(found, f"LDFA {name}") for name in ("Oja targets", "fixed P"))
    said = [
        contrast(
            targets["leading_least"],
            LEARNED + 0 * targets["leading_least"],
            f"Oja on targets: each of the first r modes is learned by {LEARNED} and more",
        ),
        contrast(
            0.5 + 0 * targets["other_most"],
            targets["other_most"],
            "Oja on targets: every other mode is learned by less than a half",
        ),
        contrast(
            targets["leading_overlap"],
            fixed["leading_overlap"],
            "Oja on targets learns more of the first r modes than a fixed P",
        ),
    ]
    for name in map(str, found["condition"].values):
        one = found.sel(condition=name)
        if one["rule"] == "LDFA Oja error":
            text = f"{name}: more of all modes than Oja on targets"
            said.append(contrast(one["mean_overlap"], targets["mean_overlap"], text))
    claims = statements(said)
    print(table(found), statements_text(claims), sep="\n\n")
    figures = {"linear_modes_oja": plot.learned_modes(dataset)}
    return xr.merge([found, claims]).assign_attrs(dataset.attrs), figures


def analyse_endpoints(result: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return how far the shares with a fixed P end from R_ii, verdicts, the figure."""
    dataset = _dataset(result, "analyse_endpoints")
    last = dataset.isel(step=-1)
    distance = abs(last["overlap"] - last["endpoint"]).max("mode")
    total = last["overlap"].sum("mode")
    found = xr.Dataset(
        {
            "distance": distance.assign_attrs(units="1", long_name="largest |Λ_i − R_ii|"),
            "total_overlap": total.assign_attrs(units="1", long_name="sum of the modes' shares"),
        }
    )
    said = []
    for name in map(str, found["condition"].values):
        one = found.sel(condition=name)
        text = f"{name}: every mode's share ends within {ALLOWED} of R_ii"
        said.append(contrast(ALLOWED + 0 * one["distance"], one["distance"], text))
    claims = statements(said)
    rows = {
        str(name): {
            "max |Λ - R_ii|": _seeds(found["distance"].sel(condition=name), "1e"),
            "sum of shares": _seeds(found["total_overlap"].sel(condition=name), "3f"),
        }
        for name in found["condition"].values
    }
    text = pd.DataFrame.from_dict(rows, orient="index").to_string()
    print(text, statements_text(claims), sep="\n\n")
    figures = {"linear_modes_endpoints": plot.mode_endpoints(last)}
    return xr.merge([found, claims]).assign_attrs(dataset.attrs), figures


def ends(dataset: xr.Dataset) -> xr.Dataset:
    """Return what was learned at the last step, by seed, and the distance to theory.

    The leading modes are the first r; `distance` is the largest over modes and steps, NaN for what
    diverged.
    """
    last = dataset.isel(step=-1, drop=True)
    leading = last["mode"] <= last["rank"]
    share, theory = last["overlap"], last["overlap_theory"]
    apart = dataset["overlap"] - dataset["overlap_theory"]
    distance = abs(apart).max(("mode", "step"), skipna=False)
    of_mean = abs(apart.mean("seed", skipna=False)).max(("mode", "step"), skipna=False)
    what = "share of a mode learned"
    measures = {
        "final_loss": (last["loss"], "mean squared error at the end"),
        "mean_overlap": (share.mean("mode"), f"{what}, mean of all modes"),
        "mean_overlap_theory": (theory.mean("mode"), f"{what}, mean, in theory"),
        "leading_overlap": (share.where(leading).mean("mode"), f"{what}, mean of the first r"),
        "leading_overlap_theory": (theory.where(leading).mean("mode"), f"{what}, first r, theory"),
        "other_overlap": (share.where(~leading).mean("mode"), f"{what}, mean of the others"),
        "leading_least": (share.where(leading).min("mode"), f"{what}, least of the first r"),
        "other_most": (share.where(~leading).max("mode"), f"{what}, largest of the others"),
        "distance": (distance, "largest distance of simulation and theory in the share of a mode"),
    }
    found = xr.Dataset(
        {
            name: labels.variable(
                *(("condition", "seed"), values.transpose("condition", "seed"), "1", text)
            )
            for name, (values, text) in measures.items()
        },
        {name: dataset[name] for name in ("condition", "seed", "rule", "rank")},
        dataset.attrs,
    )
    text = "largest distance of simulation and theory, both averaged over seeds"
    found["distance_of_mean"] = labels.variable("condition", of_mean, "1", text)
    return found.assign_attrs(num_modes=dataset.sizes["mode"])


def table(found: xr.Dataset) -> str:
    """Return the ends as text, a row a condition, every seed."""
    columns = {
        "loss": ("final_loss", "2f"),
        "mean share": ("mean_overlap", "2f"),
        "of the first r": ("leading_overlap", "2f"),
        "of the others": ("other_overlap", "2f"),
        "max |sim - theory|": ("distance", "3f"),
    }
    rows = {
        str(name): {
            title: _seeds(found[measure].sel(condition=name), digits)
            for title, (measure, digits) in columns.items()
        }
        | {"of the mean over seeds": f"{float(found['distance_of_mean'].sel(condition=name)):.3f}"}
        for name in found["condition"].values
    }
    return pd.DataFrame.from_dict(rows, orient="index").to_string()


def _dataset(result: xr.DataTree | xr.Dataset, function: str) -> xr.Dataset:
    """Return the dataset if it is one for this function of the file, else say for which it is."""
    dataset = result.to_dataset() if isinstance(result, xr.DataTree) else result
    fitting = []
    if {"overlap", "endpoint"} <= set(dataset):
        fitting = ["analyse_endpoints"]
    elif {"overlap", "overlap_theory"} <= set(dataset):
        moves = {"LDFA Oja targets", "LDFA fixed P"} <= set(map(str, dataset["rule"].values))
        fitting = ["analyse", "analyse_oja"] if moves else ["analyse"]
    if function not in fitting:
        if fitting:
            text = f"the dataset is for {' or '.join(fitting)} of analyses/linear_modes.py"
        elif "distance" in dataset:
            text = "the dataset is what an analysis returned, for none of analyses/linear_modes.py"
        else:
            text = "the dataset is none of models/linear_modes.py"
        raise ValueError(f"{text}; {function} is for results of {SOURCES[function]}")
    return dataset


def _columns(dataset: xr.Dataset) -> list[str]:
    """Choose the figure's conditions: BP, everything at full rank, and each rule at a low one."""
    names = [str(name) for name in dataset["condition"].values]
    ranks = sorted({int(rank) for rank in dataset["rank"].values})
    low = 8 if 8 in ranks else ranks[len(ranks) // 2]
    rules = ("LDFA fixed P", "LDFA normative", "LDFA Oja targets")
    wanted = ["BP", f"LDFA normative r={ranks[-1]}", *(f"{rule} r={low}" for rule in rules)]
    return [name for name in wanted if name in names]


def _of_rule(found: xr.Dataset, rule: str) -> xr.Dataset:
    """Return the first condition of a rule."""
    return found.isel(condition=int(np.flatnonzero(found["rule"].values == rule)[0]))


def _seeds(values: xr.DataArray, digits: str) -> str:
    return " ".join(f"{value:.{digits}}" for value in values.values)
