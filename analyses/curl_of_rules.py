"""Is this learning rule a gradient? The curl index of every rule, before and along training."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.measures import contrast, rank_trend
from neurofb.measures.accuracy import best_rate, last_value
from neurofb.measures.statements import statements, statements_text
from neurofb.unfold import condition_names, configurations, unfold

#: a curl index below this is a gradient's: what remains is that of finite differences
ROUNDING = 1e-3
#: index of a Jacobian of independent random numbers
RANDOM_FIELD = 0.5**0.5
#: rules that are gradients by construction
GRADIENTS = ("BP", "SVD-BP r=0.5", "LDFA full, refreshed")
FLIPS = ("flips, 1 unit", "flips, 10 %", "flips, 50 %")


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return the curl of each rule over epochs, verdicts, the figures."""
    if "curl" not in study.children:
        raise ValueError("the study has no /curl; runs need measurement.curl_images > 0")
    names = condition_names(study.to_dataset())
    curves = study.children["curl"].to_dataset()
    curves = curves.dropna("epoch", how="all", subset=["curl_index"])
    for coordinate in ("num_parameters", "feedback_rank", "bottleneck"):
        curves = curves.drop_vars(coordinate, errors="ignore")
    found = curves.assign(test_accuracy=study.to_dataset()["test_accuracy"].variable)
    groups = [_group(name) for name in names]
    found = found.assign_coords(
        group=labels.variable("condition", groups, "1", "kind of learning rule")
    )
    classes = min(config.network.num_classes for config in configurations(study).values())
    found["chance"] = labels.variable((), 1 / classes, "1", "accuracy of guessing")
    claims = statements(_statements(found))
    print(_table(found), statements_text(claims), sep="\n\n")
    print(f"\nnull, a Jacobian of independent random numbers: {RANDOM_FIELD:.3f}")
    figures = {
        "rows": plot.curl_rows(found),
        "epochs": plot.curl_over_epochs(found),
    }
    return xr.merge([found, claims]).assign_attrs(study.attrs), figures


def analyse_rates(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return for each rule the rate with the best validation accuracy at the end."""
    root = study.to_dataset()
    condition_names(root)  # refuses the result of one run
    dataset = unfold(root[["validation_accuracy"]], "(?P<rule>.+), rate (?P<learning_rate>.+)")
    result = best_rate(dataset["validation_accuracy"]).assign_attrs(study.attrs)
    last, chosen, at_edge = (result[name] for name in result)
    table = (100 * last).to_pandas().round(2)
    table["chosen"] = [f"{rate:g}" for rate in chosen.values]
    table["edge"] = ["at the edge of the grid" if edge else "" for edge in at_edge.values]
    print("Validation accuracy (%) at the end by learning rate", table.to_string(), sep="\n")
    return result, {}


def _group(name: str) -> str:
    """Return the kind of rule that a condition's name says.

    Low-rank rules are grouped by what they learn, "LDFA local"; their rank is then the rest.
    """
    if name.startswith("LDFA"):
        return f"LDFA {name.rsplit(', ', 1)[1]}"
    if name.startswith(("SSA", "SVD")):
        return "in SVD space"
    return "flips" if name.startswith("flips") else "dense feedback"


def _statements(found: xr.Dataset) -> list[xr.Dataset]:
    """Return a verdict on each statement that the study's rules allow."""
    start = found["curl_index"].isel(epoch=0, drop=True)
    end, cosine = last_value(found["curl_index"]), last_value(found["gradient_cosine"])
    names = [str(name) for name in found["condition"].values]
    at = {name: end.sel(condition=name, drop=True) for name in names}
    said = []
    for name, curl in at.items():
        if name in GRADIENTS:
            text = f"{name}: curl index below {ROUNDING:g} at the end"
            said.append(contrast(0 * curl + ROUNDING, curl, text))
            continue
        said.append(contrast(curl, 0 * curl + 0.05, f"{name}: curl index above 0.05 at the end"))
        before = start.sel(condition=name, drop=True)
        said.append(contrast(before, curl, f"{name}: less curl at the end than at the start"))
    pairs = [(FLIPS[1], FLIPS[0]), (FLIPS[2], FLIPS[1]), ("FA", "KP")]
    for more, less in pairs:
        if {more, less} <= set(at):
            said.append(contrast(at[more], at[less], f"more curl at the end: {more} than {less}"))
    if (name := "LDFA full, normative") in at:
        close = cosine.sel(condition=name, drop=True)
        text = f"{name}: cosine with the gradient above 0.99 at the end"
        said.append(contrast(close, 0 * close + 0.99, text))
    for kind in dict.fromkeys(_group(name) for name in names if name.startswith("LDFA")):
        chosen = [name for name in names if _group(name) == kind]
        order = xr.DataArray(range(len(chosen)), dims="condition")
        rows = end.sel(condition=chosen).transpose("condition", "seed")
        said.append(rank_trend(rows, order, f"{kind}: curl at the end rises as the rank falls"))
    return said


def _table(found: xr.Dataset) -> str:
    """Return curl, cosine and accuracy of each rule as text."""
    timed = [name for name in found if "epoch" in found[name].dims]
    start, end = (
        found.isel(epoch=0),
        found.assign({name: last_value(found[name]) for name in timed}),
    )
    rows = {}
    for name in found["condition"].values:
        first, last = start.sel(condition=name), end.sel(condition=name)
        rows[str(name)] = {
            "curl at the start": f"{float(first['curl_index'].median()):.3f}",
            "at the end": f"{float(last['curl_index'].median()):.3f}",
            "seeds": " ".join(f"{value:.3f}" for value in last["curl_index"].values),
            "largest standard error": f"{float(last['curl_index_error'].max()):.3f}",
            "with feedback matrices": f"{float(last['curl_index_all'].median()):.3f}",
            "cosine": f"{float(last['gradient_cosine'].median()):.2f}",
            "accuracy (%)": f"{100 * float(last['test_accuracy'].median()):.1f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").to_string()
