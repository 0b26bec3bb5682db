"""Operations until a run reaches 90 % of its own final accuracy, or of backpropagation's.

Small networks with batches of 128 images on small images are not the setting of Hanut & Kadmon
(2025): a ViT of 384 dimensions with batches of 256 and 250 epochs. What a rule saves in the error
grows with the batch and the width; what its matrices' learning costs may not depend on the batch.
"""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.measures import compute_to_accuracy
from neurofb.measures.accuracy import last_value
from neurofb.step_cost import step_cost
from neurofb.unfold import by_condition, configurations, unfold

FRACTION, WINDOW = 0.9, 20
LABELS = "(?P<network>[^,]+), (?P<rule>.+)"
GIGA = 1e9


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return steps and FLOPs to both targets by network, rule and seed, and costs of a step."""
    runs = configurations(study)  # refuses the result of one run
    data = study.to_dataset()[["validation_accuracy", "step_at_epoch", "accuracy"]]
    costs = [step_cost(run) for run in runs.values()]
    cost = xr.concat(costs, labels.coordinate("condition", list(runs)))
    data = unfold(data.merge(cost), LABELS)
    per_step = data["counted_flops"].sum("phase", min_count=1)
    last = last_value(data["validation_accuracy"])
    targets = {"own": FRACTION * last, "BP's": FRACTION * last.sel(rule="BP", drop=True)}
    curves = {"epochs": data, f"running mean of {WINDOW} batches": _by_step(data["accuracy"])}
    reached = {
        (curve, target): compute_to_accuracy(history, per_step.fillna(1.0), target=goal)
        for curve, history in curves.items()
        for target, goal in targets.items()
    }
    found = xr.concat(
        [xr.concat([reached[c, t] for t in targets], "target") for c in curves], "curve"
    )
    found = found.drop_vars("epoch_reached").assign_coords(
        target=labels.variable(
            "target",
            list(targets),
            "1",
            f"whose final accuracy, {FRACTION:.0%} of which is the target",
        ),
        curve=labels.variable("curve", list(curves), "1", "accuracies that are looked at"),
    )
    found["last_accuracy"] = last.assign_attrs(units="1", long_name="last validation accuracy")
    result = xr.merge([found, data[["counted_flops", "analytic_flops"]]])
    result.attrs = dict(study.attrs)
    for network in result["network"].values:
        print(_table(result, str(network)), end="\n\n")
    at_first = (found["step_reached"] == data["step_at_epoch"].min("epoch")).isel(curve=0)
    print(
        f"Targets: {FRACTION:.0%} of the final validation accuracy, the run's own and BP's.\n"
        f"{int(at_first.isel(target=0).sum())} of {int(last.count())} runs are there at the first "
        "validation, after one epoch: for these, epochs compare nothing but the cost of a step;"
        f"\nthe running mean of the {WINDOW} last batches, each before it was learnt from, is "
        "known at every step (in the first epoch all images are new).\n"
        "Small networks and batches are not the paper's setting (see the head of this file)."
    )
    shown = result[["flops_reached", "last_accuracy"]].isel(curve=1).sel(target="BP's")
    shown = by_condition(shown.sel(rule=[rule for rule in shown["rule"].values if _is_shown(rule)]))
    figures = {
        f"compute_{name}": plot.compute_against_accuracy(
            shown.sel(network=name).dropna("condition", how="all")
        )
        for name in result["network"].values
    }
    return result, figures


def _is_shown(rule: str) -> bool:
    """Leave out of the figures what is dearer than backpropagation by construction."""
    return "full" not in rule and rule != "WM"


def _by_step(accuracy: xr.DataArray) -> xr.Dataset:
    """Return the running mean of the batches' accuracy as a history with a validation a step."""
    smooth = accuracy.rolling(step=WINDOW).mean().rename(step="epoch")
    return xr.Dataset({"validation_accuracy": smooth, "step_at_epoch": smooth["epoch"]})


def _table(result: xr.Dataset, network: str) -> str:
    """Return one network's rules as text: cost of a step, and steps and FLOPs to the targets."""
    rows = {}
    here = result.sel(network=network)
    for rule in here["rule"].values:
        one = here.sel(rule=rule)
        if one["last_accuracy"].isnull().all():
            continue
        counted, needed = one["counted_flops"], float(one["analytic_flops"].sum())
        total = float(counted.sum())
        bp = float(here["counted_flops"].sel(rule="BP").sum())
        learning = float(counted.sel(phase=["pathway_learning", "svd_refresh"]).sum())
        rows[rule] = {
            "GFLOP a step": f"{total / GIGA:.3f}",
            "of BP": f"{total / bp:.2f}",
            "by equations": f"{needed / GIGA:.3f}",
            "error": f"{float(counted.sel(phase='error')) / total:.0%}",
            "pathway learning": f"{learning / total:.0%}",
        }
        for name in result["target"].values:
            at = one.sel(target=name).isel(curve=1)
            gflop = at["flops_reached"] / GIGA
            rows[rule][f"steps to {name}"] = f"{float(at['step_reached'].mean()):.0f}"
            rows[rule][f"GFLOP to {name}"] = (
                f"{float(gflop.mean()):.1f} ± {float(gflop.std(ddof=1)):.1f} "
                f"({int(gflop.count())}/{int(one['last_accuracy'].count())})"
            )
    return f"{network}\n{pd.DataFrame.from_dict(rows, orient='index').to_string()}"
