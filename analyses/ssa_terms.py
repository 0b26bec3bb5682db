"""SSA, learning in SVD space: what keeps its factors orthonormal, its terms, and its rank cuts."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels
from neurofb.measures import contrast, verdict
from neurofb.measures.accuracy import last_value
from neurofb.measures.statements import statements, statements_text
from neurofb.plot.grouped import grouped_rows
from neurofb.unfold import condition_names, configurations

RESIDUALS = ("orthonormality_residual_u", "orthonormality_residual_v")


def analyse_orthogonality(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracy and how orthonormal the factors stay, by method, optimiser and control."""
    dataset = _rows(study).assign(residual=_residual(study))
    accuracy = _by_label(dataset)
    found = []
    for group in accuracy:
        one = accuracy[group]
        found += [_diverges(dataset, group, label) for label in one if "SGD" in group]
        if "SGD" in group or "retract" not in one:
            continue
        for label in [label for label in one if label.startswith(("none", "soft"))]:
            text = f"{group}: {label} is more than 1 point behind retraction"
            if group.startswith("SVD-BP"):
                text = f"{group}: {label} is at most 1 point behind retraction"
                margin = contrast(one[label] + 1, one["retract"], text)
            else:
                margin = contrast(one["retract"] - 1, one[label], text)
            found.append(_with_points(margin, one[label] - one["retract"]))
        if "polar" in one:
            text = f"{group}: polar is at most 1 point from retraction"
            apart = one["polar"] - one["retract"]
            found.append(_with_points(contrast(0 * apart + 1, abs(apart), text), apart))
    measures = ("test_accuracy", "residual")
    figure = grouped_rows(
        dataset, measures=measures, reference="retract", log=("residual",), chance=_chance(study)
    )
    return _finish(study, dataset, found, measures), {"orthogonality": figure}


def analyse_ablation(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return what each term of the loss changes in accuracy and angle, beside retraction alone."""
    dataset = _rows(study).assign(angle=_angle(study))
    accuracy, angle, found = _by_label(dataset), _by_label(dataset, "angle", 1), []
    for group, one in accuracy.items():
        base = next(iter(one))
        for label in [label for label in one if label != base]:
            text = f"{group}, {label}: ahead of {base} by more than 1 point"
            margin = contrast(one[label] - 1, one[base], text)
            found.append(_with_points(margin, one[label] - one[base]))
            text = f"{group}, {label}: gradients end closer to BP's than with {base}"
            found.append(contrast(angle[group][base], angle[group][label], text))
    measures = ("test_accuracy", "angle")
    base = str(dataset["label"].values[0])
    figure = grouped_rows(dataset, measures=measures, reference=base)
    return _finish(study, dataset, found, measures), {"ablation": figure}


def analyse_schedules(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracy and ranks at the end by method and schedule of cuts."""
    rank = last_value(_factors(study)["rank"]).isel(layer=slice(0, -1)).sum("layer")
    rank = rank.assign_attrs(units="1", long_name="ranks of the hidden layers at the end, summed")
    dataset = _rows(study).assign(final_rank=rank)
    found = []
    for group, one in _by_label(dataset).items():
        base = one["no cuts"]
        text = f"{group}: cuts to the end cost more than 1 point"
        margin = contrast(base - 1, one["to the end"], text)
        found.append(_with_points(margin, one["to the end"] - base))
        text = f"{group}: cuts in the first half cost at most 1 point"
        margin = contrast(one["first half"] + 1, base, text)
        found.append(_with_points(margin, one["first half"] - base))
    measures = ("test_accuracy", "final_rank")
    figure = grouped_rows(dataset, measures=measures, reference="no cuts")
    return _finish(study, dataset, found, measures), {"schedules": figure}


def _with_points(margin: xr.Dataset, difference: xr.DataArray) -> xr.Dataset:
    """Add to a verdict, whose margin counts from 1 point, the difference in accuracy itself."""
    text = "accuracy less that of the reference, points"
    return margin.assign(points=labels.variable("seed", difference.values, "1", text))


def _rows(study: xr.DataTree) -> xr.Dataset:
    """Return test accuracies, with the heading and the name of each condition's row."""
    dataset = study.to_dataset()[["test_accuracy", "diverged_at"]]
    names = _split(dataset)
    return dataset.assign_coords(
        group=labels.variable("condition", [group for group, _ in names], "1", "method"),
        label=labels.variable("condition", [label for _, label in names], "1", "what is varied"),
    )


def _split(dataset: xr.Dataset) -> list[tuple[str, str]]:
    """Split labels into method (with the optimiser, if it is said) and what is varied."""
    found = []
    for name in condition_names(dataset):
        parts = name.split(", ")
        num = 2 if len(parts) > 2 and parts[1].split(" ")[0] in ("Adam", "SGD") else 1
        found.append((", ".join(parts[:num]), ", ".join(parts[num:])))
    return found


def _by_label(
    dataset: xr.Dataset, measure: str = "test_accuracy", scale: int = 100
) -> dict[str, dict[str, xr.DataArray]]:
    """Return group → label → value of each seed, accuracies in points."""
    found: dict[str, dict[str, xr.DataArray]] = {}
    for index in range(dataset.sizes["condition"]):
        one = dataset.isel(condition=index)
        seeds = xr.DataArray(scale * one[measure].values, {"seed": dataset["seed"].values})
        found.setdefault(str(one["group"].values), {})[str(one["label"].values)] = seeds
    return found


def _factors(study: xr.DataTree) -> xr.Dataset:
    """Return the state of the factors over epochs."""
    if "factors" not in study.children:
        raise ValueError("the study has no /factors; runs need factorised and rank_images > 0")
    return study.children["factors"].to_dataset()


def _residual(study: xr.DataTree) -> xr.DataArray:
    """Return how far U and V of any layer are from orthonormal at the end."""
    last = _factors(study)[list(RESIDUALS)].map(last_value).to_array("factor")
    residual = last.max(["factor", "layer"]).where(study["test_accuracy"].notnull())
    text = "orthonormality residual at the end, largest of all U and V"
    return residual.drop_vars("factor", errors="ignore").assign_attrs(units="1", long_name=text)


def _angle(study: xr.DataTree) -> xr.DataArray:
    """Return the angle of the gradient to BP's at the end, mean over the layers but the last."""
    if "error_rank" not in study.children:
        raise ValueError("the study has no /error_rank; runs need measurement.rank_images > 0")
    curves = study.children["error_rank"].to_dataset()["gradient_angle"]
    angle = last_value(curves).isel(layer=slice(0, -1)).mean("layer")
    text = "angle of gradients to BP's at the end, mean of hidden layers"
    return angle.where(study["test_accuracy"].notnull()).assign_attrs(
        units="degree", long_name=text
    )


def _diverges(dataset: xr.Dataset, group: str, label: str) -> xr.Dataset:
    """Return the verdict that every run of a row diverges, or with retraction that none does."""
    rows = zip(dataset["group"].values.tolist(), dataset["label"].values.tolist(), strict=True)
    when = dataset["diverged_at"].isel(condition=list(rows).index((group, label)))
    lost = when.notnull().values * 2.0 - 1.0
    if label in ("retract", "polar"):
        return verdict(dataset["seed"].values, -lost, f"{group}, {label}: does not diverge")
    return verdict(dataset["seed"].values, lost, f"{group}, {label}: diverges")


def _chance(study: xr.DataTree) -> float:
    return 1 / next(iter(configurations(study).values())).network.num_classes


def _finish(
    study: xr.DataTree, dataset: xr.Dataset, found: list[xr.Dataset], measures: tuple[str, ...]
) -> xr.Dataset:
    """Print a study's rows and verdicts, and return them with the study's identity."""
    nothing = xr.DataArray([float("nan")] * dataset.sizes["seed"], dims="seed")
    claims = statements([one if "points" in one else _with_points(one, nothing) for one in found])
    print(_table(dataset, measures), end="\n\n")
    print(
        "Margins, positive where a seed agrees: of what a statement says, in points or degrees, so "
        "that the 1 point is taken off;"
    )
    print("+1 for a run that diverged (or did not), as said, else −1.")
    print("Behind them the difference in accuracy itself, positive where the first named is ahead.")
    print("A run without a value counts against a statement.")
    lines = statements_text(claims).splitlines()
    for line, points in zip(lines, claims["statement_points"].values, strict=True):
        known = ", ".join(f"{value:+.2f}" for value in points)
        print(line if np.isnan(points).all() else f"{line}; difference {known} points")
    result = xr.merge([dataset, claims], combine_attrs="drop_conflicts")
    result.attrs = dict(study.attrs)
    return result


def _table(dataset: xr.Dataset, measures: tuple[str, ...]) -> str:
    """Return rows as text: every seed of every measure, and when runs diverged."""
    rows = {}
    for name in [str(name) for name in dataset["condition"].values]:
        one = dataset.sel(condition=name)
        rows[name] = {
            measure: " ".join(f"{value:.4g}" for value in one[measure].values)
            for measure in measures
        }
        lost = one["diverged_at"].dropna("seed").values
        rows[name]["diverged"] = " ".join(f"{value:.0f}" for value in lost)
    return pd.DataFrame.from_dict(rows, orient="index").to_string()
