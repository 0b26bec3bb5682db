"""Activity of a retina-VVS as a tensor: held-out errors by rank and noise, components, verdicts."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures import contrast
from neurofb.measures.statements import statements, statements_text

#: two errors closer than this (of the signal) are called the same
SAME = 0.02


def analyse(result: xr.Dataset | xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return errors with the best rank of every method, verdicts; figures of errors and factors."""
    found = (result.to_dataset() if isinstance(result, xr.DataTree) else result).copy()
    for name in ("held_out_error", "unit_factor", "predicted_difference"):
        if name not in found:
            raise ValueError(
                f"the dataset has no variable {name!r}: it must be a run of "
                "models/activity_tensor.py::activity_tensor"
            )
    best = found["held_out_error"].min("rank")
    text = "error on held-out trials at the best rank, over the signal"
    found["best_error"] = best.assign_attrs(units="1", long_name=text)
    print(f"medians of {found.sizes['seed']} seeds; error on held-out trials, over the signal")
    for condition in found["condition"].values:
        one = found.sel(condition=condition)
        table = one["held_out_error"].median("seed").to_series().unstack("rank")
        table["best rank"] = one["best_error"].median("seed").to_series()
        null = one["error_of_mean"].median("seed").values
        units = one["num_units"].values.astype(int)
        print(f"\n{condition} (units {units.min()} to {units.max()}; grand mean {null.round(3)})")
        print(table.round(3).to_string())
    done = found["converged"].mean(("condition", "seed", "rank")).to_series().unstack("noise_ratio")
    print("\nshare of fits that converged", done.round(2).to_string(), sep="\n")
    print("\nΔ of the fitted half", found["noise_variance"].median("seed").to_pandas(), sep="\n")
    both = {
        name: found[name].median("seed").to_series()
        for name in ("difference", "predicted_difference")
    }
    print("\nfactors of two halves, rank 1, trained", pd.DataFrame(both).unstack("axis").round(3))
    print(f"\nvalidation accuracy {found['validation_accuracy'].values.round(2)}")
    claims = statements(_statements(found))
    print("", statements_text(claims), sep="\n")
    figures = {
        "activity_tensor": plot.activity_errors(found),
        "activity_factors": plot.activity_factors(found),
    }
    return xr.merge([found, claims]).assign_attrs(found.attrs), figures


def _statements(found: xr.Dataset) -> list[xr.Dataset]:
    """Return what the study says of the methods, seed by seed."""
    best = found["best_error"]
    amp = best.sel(algorithm="AMP", drop=True)
    als = best.drop_sel(algorithm="AMP").min("algorithm")
    clean, noisy = found["noise_ratio"].values.min(), found["noise_ratio"].values.max()
    told = []
    for condition in ("trained", "along training"):
        here = {"condition": condition}
        at = {**here, "noise_ratio": clean}
        gap = abs(amp.sel(at) - als.sel(at))
        text = f"{condition}, no added noise: AMP and ALS within {SAME:g} at their best ranks"
        told.append(contrast(xr.full_like(gap, SAME), gap, text))
        for ratio in found["noise_ratio"].values[1:]:
            at = {**here, "noise_ratio": ratio}
            text = f"{condition}, noise × {ratio:g}: AMP below ALS, each at its best rank"
            told.append(contrast(als.sel(at), amp.sel(at), text))
    at = {"condition": "trained", "noise_ratio": noisy}
    text = f"trained, noise × {noisy:g}: AMP finds more than the grand mean"
    told.append(contrast(found["error_of_mean"].sel(at), amp.sel(at), text))
    text = f"trained, noise × {noisy:g}: ALS finds more than the grand mean"
    told.append(contrast(found["error_of_mean"].sel(at), als.sel(at), text))
    at = {
        "noise_ratio": clean,
        "rank": found["rank"].values.max(),
        "algorithm": "ALS, random start",
    }
    error = found["held_out_error"].sel(at)
    text = "shuffled, no added noise: the largest rank leaves more than of the tensor itself"
    told.append(contrast(error.sel(condition="shuffled"), error.sel(condition="trained"), text))
    text = "no added noise: training brings the tensor nearer to low rank (at the largest rank)"
    told.append(contrast(error.sel(condition="untrained"), error.sel(condition="trained"), text))
    return told
