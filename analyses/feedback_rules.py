"""Rules × networks: test accuracies, what they lose against backpropagation, and chosen rates."""

import math
import re

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.measures import contrast
from neurofb.measures.accuracy import against_reference, best_rate
from neurofb.measures.statements import statements, statements_text
from neurofb.unfold import by_condition, condition_names, configurations, unfold

LABELS = "(?P<network>[^,]+), (?P<rule>.+)"


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return accuracies by network, rule and seed with differences to BP, verdicts, the figure."""
    runs = configurations(study)
    rates = [run.training.optimiser.learning_rate for run in runs.values()]
    rate = labels.variable("condition", rates, "1", "learning rate")
    dataset = unfold(study.to_dataset()[["test_accuracy"]].assign(learning_rate=rate), LABELS)
    accuracy = dataset["test_accuracy"]
    if "BP" not in accuracy["rule"].values:
        raise ValueError("the study has no condition '<network>, BP', the reference of all others")
    compared = against_reference(accuracy, accuracy.sel(rule="BP", drop=True))
    chance = 1 / min(run.network.num_classes for run in runs.values())
    claims = _statements(accuracy, chance)
    for network in accuracy["network"].values:
        print(_table(xr.merge([dataset, compared]), str(network)), end="\n\n")
    print("Margins in points:", statements_text(claims, scale=100), sep="\n")
    print(f"chance: {100 * chance:g} %")
    result = xr.merge([dataset, compared, claims], combine_attrs="drop_conflicts")
    result["chance"] = labels.variable((), chance, "1", "accuracy of guessing")
    result.attrs = dict(study.attrs)
    panels = by_condition(dataset[["test_accuracy"]])
    return result, {"rules": plot.rule_table(panels, reference="BP")}


def analyse_rates(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return for each network and rule the rate with the best validation accuracy at the end."""
    pattern = "(?P<network>[^,]+), (?P<rule>.+), rate (?P<learning_rate>.+)"
    root = study.to_dataset()
    condition_names(root)  # refuses the result of one run
    dataset = unfold(root[["validation_accuracy"]], pattern)
    result = best_rate(dataset["validation_accuracy"]).assign_attrs(study.attrs)
    last, chosen, at_edge = (result[name] for name in result)
    have = chosen.notnull()
    for network in last["network"].values:
        rows = last.sel(network=network).where(have.sel(network=network), drop=True)
        table = (100 * rows).to_pandas().round(2)
        edge = at_edge.sel(network=network, rule=rows["rule"]).values
        table["chosen"] = [f"{r:g}" for r in chosen.sel(network=network, rule=rows["rule"]).values]
        table["edge"] = ["" if not e else "at the edge of the grid" for e in edge]
        print(f"{network}: validation accuracy (%) at the end by learning rate")
        print(table.to_string(), end="\n\n")
    print(f"{int(at_edge.sum())} of {int(have.sum())} chosen rates lie at the edge of the grid")
    return result, {}


def _statements(accuracy: xr.DataArray, chance: float) -> xr.Dataset:
    """Return a verdict for each statement that the study's networks and rules allow."""
    point, found = 0.01, []
    for name in accuracy["network"].values:
        rules = accuracy.sel(network=name).dropna("rule", how="all")
        bp = rules.sel(rule="BP")
        for rule in rules["rule"].values:
            one = rules.sel(rule=rule)
            if name == "ViT" and (rule == "DFA" or rule.endswith(", local")):
                continue  # there the error's size decides, not its rank or its route: no verdict
            if rule in ("FA", "DFA"):
                text = f"{rule} is more than 1 point behind BP on the {name}"
                found.append(contrast(bp - point, one, text))
            if rule.startswith("LDFA") and _rank(rule) >= 1 / chance:
                text = f"{rule} is at most 1 point behind BP on the {name}"
                found.append(contrast(one + point, bp, text))
        text = f"every rule is above chance on the {name}"
        found.append(contrast(rules.min("rule"), 0 * bp + chance, text))
    return statements(found)


def _rank(rule: str) -> float:
    """Return the rank in the name of a rule, infinite for the full one."""
    rank = re.search(r"r=(\d+)", rule)
    return float(rank.group(1)) if rank else math.inf


def _table(dataset: xr.Dataset, network: str) -> str:
    """Return one network's rules as text: mean ± sd, every seed, difference to BP, verdict."""
    rows = {}
    for rule in dataset["rule"].values:
        one = dataset.sel(network=network, rule=rule)
        if one["num_seeds"] == 0:
            continue
        rows[rule] = {
            "rate": f"{float(one['learning_rate']):g}",
            "accuracy (%)": f"{100 * float(one['mean']):.2f} ± {100 * float(one['sd']):.2f}",
            "n": int(one["num_seeds"]),
            "seeds": " ".join(f"{100 * value:.2f}" for value in one["test_accuracy"].values),
            "to BP (points)": f"{float(one['mean_difference']):+.2f} ± "
            f"{float(one['sd_difference']):.2f}",
            "by 1 point": "" if rule == "BP" else str(one["verdict"].values),
        }
    return f"{network}\n{pd.DataFrame.from_dict(rows, orient='index').to_string()}"
