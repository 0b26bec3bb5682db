"""How the feedback's errors and gradients align with backpropagation while a network learns."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures import contrast, rank_trend
from neurofb.measures.accuracy import last_value
from neurofb.measures.statements import statements, statements_text
from neurofb.unfold import by_condition, configurations, unfold

LABELS = "(?P<network>[^,]+), (?P<rule>.+)"
MEASURES = ("gradient_cosine", "delta_angle", "weight_angle")


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return alignment at start and end by network, rule and layer, verdicts, curves."""
    if "alignment" not in study.children:
        raise ValueError("the study has no /alignment; runs need measurement.alignment_images > 0")
    curves = unfold(study.children["alignment"].to_dataset()[list(MEASURES)], LABELS)
    accuracy = unfold(study.to_dataset()[["test_accuracy"]], LABELS)["test_accuracy"]
    layers = {
        label.partition(",")[0]: list(dict(run.network.build(0).named_modules()))
        for label, run in configurations(study).items()
    }
    found, figures = [], {}
    for network in [str(name) for name in curves["network"].values]:
        here = curves.sel(network=network, drop=True)
        have = here["gradient_cosine"].notnull().any(["rule", "seed", "epoch"])
        order = [name for name in layers[network] if name in have["layer"].values[have.values]]
        here = here.sel(layer=order).dropna("rule", how="all", subset=["gradient_cosine"])
        start, end = here.isel(epoch=0), here.map(last_value)
        print(_table(start, end, accuracy.sel(network=network), network), end="\n\n")
        found += _statements(start, end, accuracy.sel(network=network), network)
        panels = by_condition(here)
        figures[f"alignment_{network}"] = plot.alignment_curves(panels, measures=MEASURES)
    claims = statements(found)
    print(
        "Means over all layers but the last, whose gradient is exact:",
        statements_text(claims),
        sep="\n",
    )
    start = curves.isel(epoch=0).rename({name: f"{name}_start" for name in MEASURES})
    end = curves.map(last_value).rename({name: f"{name}_end" for name in MEASURES})
    result = xr.merge([start.drop_vars("epoch"), end, accuracy, claims])
    result.attrs = dict(study.attrs)
    return result, figures


def _statements(
    start: xr.Dataset, end: xr.Dataset, accuracy: xr.DataArray, network: str
) -> list[xr.Dataset]:
    """Return verdicts on each rule: aligned at the end, more than at the start; and on accuracy."""
    found = []
    first, last = (  # the last layer's gradient is exact under every rule
        data["gradient_cosine"].isel(layer=slice(0, -1)).mean("layer") for data in (start, end)
    )
    for rule in end["rule"].values:
        one = last.sel(rule=rule)
        text = f"{network}, {rule}: gradients end on BP's side (cosine above 0)"
        found.append(contrast(one, 0 * one, text))
        text = f"{network}, {rule}: gradients end closer to BP's than at the start"
        found.append(contrast(one, first.sel(rule=rule), text))
    closeness = last.mean("seed")
    text = f"{network}: rules with gradients closer to BP's are more accurate (Kendall's tau)"
    rows = accuracy.sel(rule=closeness["rule"]).transpose("rule", "seed")
    return [*found, rank_trend(rows, -closeness, text)]


def _table(start: xr.Dataset, end: xr.Dataset, accuracy: xr.DataArray, network: str) -> str:
    """Return measures as text: mean over seeds at the start → at the end, by rule and layer."""
    texts = []
    for measure, digits in (("gradient_cosine", 2), ("delta_angle", 0), ("weight_angle", 0)):
        rows = {}
        for rule in end["rule"].values:
            pairs = [data[measure].sel(rule=rule).mean("seed").values for data in (start, end)]
            rows[rule] = {
                str(layer): f"{a:.{digits}f} → {b:.{digits}f}"
                for layer, a, b in zip(end["layer"].values, *pairs, strict=True)
                if b == b  # a direct pathway has no angle to a weight
            }
            rows[rule]["accuracy"] = f"{float(accuracy.sel(rule=rule).mean()):.3f}"
        table = pd.DataFrame.from_dict(rows, orient="index").to_string(na_rep="")
        texts.append(f"{network}: {measure}, start → end\n{table}")
    return "\n\n".join(texts)
