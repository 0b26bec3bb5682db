"""What rank of the error is enough: against the number of classes, and against the width."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures import contrast, verdict
from neurofb.measures.accuracy import against_reference, sufficient_rank
from neurofb.measures.statements import statements, statements_text
from neurofb.plot.size import accuracy_against_size
from neurofb.unfold import unfold

POINT = 0.01


def analyse(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return the rank needed to come within 1 point of BP, by number of classes and width."""
    tested = study.to_dataset()[["test_accuracy"]]
    group = r"(?P<num_classes>\d+) classes, width (?P<width>\d+)"
    bp = unfold(tested, f"{group}, BP")["test_accuracy"]
    ldfa = unfold(tested, f"{group}, LDFA r=(?P<rank>\\d+)")["test_accuracy"]
    compared = against_reference(ldfa, bp, POINT)
    needed = sufficient_rank(ldfa, bp, POINT)
    of_mean = sufficient_rank(ldfa.mean("seed"), bp.mean("seed"), POINT)
    claims = statements(_rank_statements(needed))
    print("Difference to BP in points (mean over seeds; negative: behind), by rank:")
    for classes in ldfa["num_classes"].values:
        rows = compared["mean_difference"].sel(num_classes=classes).transpose("width", "rank")
        print(f"{classes} classes", rows.to_pandas().round(2).to_string(), sep="\n", end="\n\n")
    print("Smallest rank at most 1 point behind BP (of the mean over seeds; each seed):")
    for classes in needed["num_classes"].values:
        for width in needed["width"].values:
            at = {"num_classes": classes, "width": width}
            seeds = " ".join(f"{rank:g}" for rank in needed.sel(at).values)
            print(f"  {classes:3d} classes, width {width:4d}: {of_mean.sel(at):g}; {seeds}")
    print("(nan: no rank tried is enough)", statements_text(claims), sep="\n\n")
    result = xr.merge(
        [
            xr.Dataset({"test_accuracy": ldfa, "bp_test_accuracy": bp}),
            compared.rename({name: f"bp_{name}" for name in compared.data_vars}),
            xr.Dataset({"sufficient_rank": needed, "sufficient_rank_of_mean": of_mean}),
            claims,
        ],
        combine_attrs="drop_conflicts",
    )
    result.attrs = dict(study.attrs)
    figure = plot.accuracy_against_rank(result[["test_accuracy", "bp_test_accuracy"]])
    return result, {"rank": figure}


def analyse_widths(study: xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return a narrow network by BP against a wide one by a narrow error, and rank 10 by width."""
    tested = study.to_dataset()[["test_accuracy"]]
    bp = unfold(tested, r"width (?P<width>\d+), BP")["test_accuracy"]
    by_width = unfold(tested, r"width (?P<width>\d+), LDFA r=10")["test_accuracy"]
    widest = int(bp["width"].max())
    by_rank = unfold(tested, rf"width {widest}, LDFA r=(?P<rank>\d+)")["test_accuracy"]
    both = sorted({*bp["width"].values.tolist()} & {*by_rank["rank"].values.tolist()})
    bottleneck = by_rank.sel(rank=both) - bp.sel(width=both).rename(width="rank")
    found = [
        verdict(
            bottleneck["seed"].values,
            bottleneck.sel(rank=number).values,
            f"width {widest} with an error of rank {number} is ahead of width {number} with BP",
        )
        for number in both
    ]
    for width in by_width["width"].values:
        text = f"an error of rank 10 is at most 1 point behind BP at width {width}"
        one, exact = (values.sel(width=width, drop=True) for values in (by_width, bp))
        found.append(contrast(one + POINT, exact, text))
    claims = statements(found)
    compared = against_reference(by_width, bp, POINT)
    series = {
        "BP, by width": bp,
        "LDFA r=10, by width": by_width,
        f"LDFA at width {widest}, by rank": by_rank,
    }
    print("Accuracy (%), mean ± sd over seeds")
    for name, values in series.items():
        for number, seeds in zip(values.indexes[str(values.dims[0])], values.values, strict=True):
            print(
                f"  {name}: {number:4d}  {100 * seeds.mean():.2f} ± {100 * seeds.std(ddof=1):.2f}"
            )
    print("Margins in points:", statements_text(claims, scale=100), sep="\n")
    sized = [
        values.rename({str(values.dims[0]): "size"}).assign_coords(condition=name)
        for name, values in series.items()
    ]
    lines = xr.concat(sized, "condition", join="outer").rename("test_accuracy")
    result = xr.merge(
        [
            xr.Dataset({"test_accuracy": by_width, "bp_test_accuracy": bp}),
            xr.Dataset({"wide_test_accuracy": by_rank, "wide_minus_narrow": 100 * bottleneck}),
            compared.rename({name: f"bp_{name}" for name in compared.data_vars}),
            claims,
        ],
        combine_attrs="drop_conflicts",
    )
    result["wide_minus_narrow"].attrs = {
        "units": "percent",
        "long_name": "wide network with an error of this rank minus BP of this width",
    }
    result.attrs = dict(study.attrs)
    return result, {"widths": accuracy_against_size(lines.to_dataset())}


def _rank_statements(needed: xr.DataArray) -> list[xr.Dataset]:
    """Return whether the rank needed rises with the classes, and more than with the width."""
    octaves = xr.apply_ufunc(np.log2, needed.clip(min=0.5))  # rank 0 as half of rank 1
    seeds = needed["seed"].values
    by_classes = octaves.isel(num_classes=-1) - octaves.isel(num_classes=0)
    by_width = octaves.isel(width=-1) - octaves.isel(width=0)
    found = [
        verdict(
            seeds,
            by_classes.sel(width=width).values,
            f"more classes need a higher rank at width {width} (octaves)",
        )
        for width in needed["width"].values
    ]
    more = by_classes.mean("width", skipna=False) - abs(by_width).mean("num_classes", skipna=False)
    text = "the rank needed changes more with the classes than with the width (octaves)"
    return [*found, verdict(seeds, more.values, text)]
