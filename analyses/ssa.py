"""SSA, learning in SVD space: accuracy by parameters, angles to backpropagation, and what it costs.

The paper (Roy et al. 2025, arXiv:2510.25594) says that SSA is as accurate as backpropagation. The
verdicts say where our reconstruction is: held against BP, and against dense FA and DFA.
"""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels
from neurofb.measures import contrast, factor_cost
from neurofb.measures.accuracy import against_reference, last_value
from neurofb.measures.statements import statements, statements_text
from neurofb.plot.cost import cost_bars
from neurofb.plot.ssa import accuracy_against_parameters, angle_curves
from neurofb.run_cost import run_cost
from neurofb.unfold import condition_names, configurations, unfold

POINT = 0.01
#: method → the dense one that brings the error the same way
DENSE = {"SVD-BP": "BP", "SSA-FA": "FA", "SSA-DFA": "DFA"}


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracies with verdicts against BP, FA and DFA, angles and costs; three figures."""
    names = condition_names(study.to_dataset())
    dataset = study.to_dataset()[["test_accuracy", "diverged_at"]]
    dataset = dataset.drop_vars("num_parameters", errors="ignore")  # counted below
    if missing := [name for name in ("BP", "FA", "DFA") if name not in names]:
        raise ValueError(
            f"the study has no condition {missing[0]!r}, against which others are held"
        )
    accuracy = dataset["test_accuracy"]
    angles = _angles(study)
    dense = [DENSE.get(_method(name), _method(name)) for name in names]
    own = accuracy.sel(condition=dense).reset_coords(drop=True).assign_coords(condition=names)
    to_bp = against_reference(accuracy, accuracy.sel(condition="BP", drop=True), POINT)
    to_dense = against_reference(accuracy, own, POINT)
    costs = xr.concat(
        [run_cost(run) for run in configurations(study).values()],
        labels.coordinate("condition", names),
    )
    end = last_value(angles).where(accuracy.notnull())
    claims = statements(_statements(accuracy, end, costs["num_parameters"]))
    print(_table(to_bp, to_dense, costs, end), end="\n\n")
    print(_layers(study), end="\n\n")
    print("Margins in points, angles in degrees:", statements_text(claims), sep="\n")
    result = xr.merge(
        [
            dataset,
            costs,
            to_bp.rename({name: f"bp_{name}" for name in to_bp.data_vars}),
            to_dense.rename({name: f"dense_{name}" for name in to_dense.data_vars}),
            angles.to_dataset(name="gradient_angle"),
            claims,
        ],
        combine_attrs="drop_conflicts",
        compat="no_conflicts",
    )
    result.attrs = dict(study.attrs)
    shown = [name for name in names if name != "BP"]
    figures = {
        "accuracy": accuracy_against_parameters(result[["test_accuracy", "num_parameters"]]),
        "angles": angle_curves(result[["gradient_angle"]].sel(condition=shown)),
        "costs": cost_bars(costs, parts={"step_flops": "retraction_flops"}),
    }
    return result, figures


def analyse_rates(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return for each method the rate with the best validation accuracy at the end."""
    pattern = "(?P<rule>[^,]+), rate (?P<learning_rate>.+)"
    root = study.to_dataset()
    condition_names(root)  # refuses the result of one run
    dataset = unfold(root[["validation_accuracy"]], pattern)
    last = last_value(dataset["validation_accuracy"]).mean("seed")
    tried = last["learning_rate"]
    best = last.fillna(-1).argmax("learning_rate")
    found = {
        "last_validation_accuracy": (last, "validation accuracy at the end"),
        "chosen_rate": (tried[best].drop_vars("learning_rate"), "rate with the best of them"),
        "at_edge": (best.isin([0, tried.size - 1]), "the lowest or highest rate tried is the best"),
    }
    result = xr.Dataset(
        {key: v.assign_attrs(units="1", long_name=text) for key, (v, text) in found.items()},
        attrs=dict(study.attrs),
    )
    table = (100 * last).to_pandas().round(2)
    table["chosen"] = [f"{rate:g}" for rate in result["chosen_rate"].values]
    table["edge"] = ["at the edge" if edge else "" for edge in result["at_edge"].values]
    print("Validation accuracy (%) at the end by learning rate", table.to_string(), sep="\n")
    return result, {}


def _angles(study: xr.DataTree) -> xr.DataArray:
    """Return the angle of each layer's gradient to BP's over epochs."""
    if "error_rank" not in study.children:
        raise ValueError("the study has no /error_rank; runs need measurement.rank_images > 0")
    angles = study.children["error_rank"].to_dataset()["gradient_angle"]
    return angles.drop_vars("num_parameters", errors="ignore")


def _method(name: str) -> str:
    """Return the method that a condition's label begins with."""
    return name.split(" ")[0]


def _statements(
    accuracy: xr.DataArray, angle: xr.DataArray, parameters: xr.DataArray
) -> list[xr.Dataset]:
    """Return verdicts: each factored method against its dense one and against BP; and angles."""
    points = 100 * accuracy
    bp, found = points.sel(condition="BP", drop=True), []
    hidden = angle.isel(layer=slice(0, -1)).mean("layer", skipna=False)  # the last one is exact
    for name in [str(name) for name in accuracy["condition"].values]:
        if _method(name) not in DENSE:
            continue
        dense, one = DENSE[_method(name)], points.sel(condition=name, drop=True)
        share = float(parameters.sel(condition=name) / parameters.sel(condition=dense))
        behind = f"{name} is at most 1 point behind dense"
        if dense != "BP" and "tracking" not in name:
            text = f"{behind} {dense}, with {share:.0%} of its parameters"
            found.append(contrast(one + 1, points.sel(condition=dense, drop=True), text))
            found.append(contrast(bp - 1, one, f"{name} is more than 1 point behind BP"))
            text = f"gradients of {name} end closer to BP's than those of dense {dense}"
            pair = hidden.sel(condition=dense, drop=True), hidden.sel(condition=name, drop=True)
            found.append(contrast(*pair, text))
        else:
            why = "; its feedback follows the weights" if dense != "BP" else ""
            text = f"{behind} BP, with {share:.0%} of its parameters{why}"
            found.append(contrast(one + 1, bp, text))
    return found


def _layers(study: xr.DataTree) -> str:
    """Return what factors save, layer by layer, in the first factored condition."""
    for name, run in configurations(study).items():
        if run.factorised is not None:
            cost = factor_cost(run.network, run.factorised).drop_vars("other_parameters")
            columns = ["rank", "break_even_rank", "parameters_dense", "parameters_factored"]
            return f"{name}, layer by layer\n{cost[columns].to_pandas().round(1).to_string()}"
    return "no condition is factored"


def _table(to_bp: xr.Dataset, to_dense: xr.Dataset, costs: xr.Dataset, angle: xr.DataArray) -> str:
    """Return the conditions as text: accuracy, every seed, differences, parameters, angles."""
    rows = {}
    for name in [str(name) for name in to_bp["condition"].values]:
        bp, own, cost = (data.sel(condition=name) for data in (to_bp, to_dense, costs))
        ends = angle.sel(condition=name).mean("seed")
        share = float(cost["num_parameters"] / costs["num_parameters"].sel(condition="BP"))
        rows[name] = {
            "accuracy (%)": f"{100 * float(bp['mean']):.2f} ± {100 * float(bp['sd']):.2f}",
            "to BP (points; seeds)": " ".join(f"{v:+.2f}" for v in bp["difference"].values),
            "by 1 point": "" if name == "BP" else str(bp["verdict"].values),
            "to dense": f"{float(own['mean_difference']):+.2f}" if _method(name) in DENSE else "",
            "parameters": f"{int(cost['num_parameters'])} ({share:.0%})",
            "angles at the end": " ".join(f"{value:.1f}" for value in ends.values),
        }
    layers = ", ".join(str(name) for name in angle["layer"].values)
    table = pd.DataFrame.from_dict(rows, orient="index").to_string()
    return f"{table}\nAngles to BP's gradient in degrees, of {layers}; means over seeds."
