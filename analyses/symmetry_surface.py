"""Symmetry over bottleneck × feedback rank × route: every seed, two nulls, trends, the surface."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurofb import labels, plot
from neurofb.measures import rank_trend, verdict
from neurofb.measures.statements import statements, statements_text
from neurofb.plot.surface import exact_column

SYMMETRY, ORIENTATION = "rotational_symmetry", "orientation_selectivity"
DIMS = ("route", "bottleneck", "rank", "seed")
_NULLS = ("_untrained", "_noise", "_noise_low", "_noise_high")


def analyse(scan: xr.Dataset | xr.DataTree) -> tuple[xr.Dataset, dict[str, Figure]]:
    """Return medians over seeds, differences to the nulls, trends and statements, and the figures.

    Parameters
    ----------
    scan
        Over bottleneck, rank, route and seed: ``status`` and what ``per_run`` of
        ``receptive_fields.py`` keeps. The first layer is taken. Cells need not all be done.

    Returns
    -------
    tuple
        The dataset (see `compare`, `trends`; statements as `neurofb.measures.statements` has them)
        and the figures ``surface`` and ``orientation`` (gOSI; its null is the untrained network, as
        noise of equal spectrum answers gratings alike).

    Raises
    ------
    ValueError
        If a dim or a variable is missing.
    """
    cells = select(scan.to_dataset() if isinstance(scan, xr.DataTree) else scan)
    found = xr.merge(
        [cells, compare(cells, SYMMETRY), compare(cells, ORIENTATION), trends(cells[SYMMETRY])]
    )
    found = found.merge(surface_statements(cells)).assign_attrs(cells.attrs)
    status = cells["status"]
    print(f"{int((status == 1).sum())} of {int((status >= 0).sum())} cells are done")
    print(table(found), trend_table(found), statements_text(found), sep="\n\n")
    figures = {
        "surface": plot.symmetry_surface(found),
        "orientation": plot.symmetry_surface(
            found, measure=ORIENTATION, null="untrained", statements=False
        ),
    }
    return found, figures


def select(scan: xr.Dataset) -> xr.Dataset:
    """Return what is analysed of a scan: the first layer's two measures with their nulls."""
    names = [
        f"{measure}{ending}" for measure in (SYMMETRY, ORIENTATION) for ending in ("", *_NULLS)
    ]
    names += ["num_counted", "num_units", "test_accuracy", "status"]
    for name in (*DIMS, *names):
        if name not in scan.variables:
            raise ValueError(
                f"the scan has no {name!r}; it has: {', '.join(map(str, scan.variables))}"
            )
    cells = scan[names]
    if "layer" in cells.dims:
        layer = labels.variable((), str(cells["layer"].values[0]), "1", "layer name")
        cells = cells.isel(layer=0).assign_coords(layer=layer)
    cells = cells.sortby(["bottleneck", "rank", "seed"]).transpose(*DIMS)
    routes = sorted(cells["route"].values.tolist(), key=_place)
    one = labels.variable
    return cells.sel(route=routes).assign_coords(
        route=one("route", routes, "1", "way of the error to the retinal output"),
        bottleneck=one(
            "bottleneck", cells["bottleneck"].values, "1", "channels of the retinal output"
        ),
        rank=labels.coordinate("rank", cells["rank"].values),
        seed=labels.coordinate("seed", cells["seed"].values),
    )


def compare(cells: xr.Dataset, measure: str) -> xr.Dataset:
    """Return a measure's median over seeds, and how it stands to its nulls seed by seed.

    Returns
    -------
    xr.Dataset
        Over route, bottleneck and rank, names beginning with `measure`: ``_median`` over seeds;
        ``_minus_untrained``, ``_minus_noise``, medians of the differences within a seed;
        ``_num_above_untrained``; ``_num_above_noise``, seeds above the 95 % of their own noise.
    """
    value, about = cells[measure], cells[measure].attrs["long_name"]
    above = {"untrained": value > cells[f"{measure}_untrained"]}
    above["noise"] = value > cells[f"{measure}_noise_high"]
    found = {"median": (_median(value), f"{about}, median over seeds")}
    for null, seeds in above.items():
        gap = _median(value - cells[f"{measure}_{null}"])
        found[f"minus_{null}"] = gap, f"{about}, median over seeds of the difference to {null}"
        limit = "the 95 % of their noise" if null == "noise" else "the untrained network"
        found[f"num_above_{null}"] = seeds.sum("seed").astype(float), f"seeds above {limit}"
    return xr.Dataset(
        {
            f"{measure}_{name}": labels.variable(DIMS[:3], array.values, "1", text)
            for name, (array, text) in found.items()
        },
        {dim: cells[dim] for dim in DIMS[:3]},
    )


def trends(values: xr.DataArray) -> xr.Dataset:
    """Return each seed's trend along rank at each bottleneck, and along bottleneck at each rank.

    Returns
    -------
    xr.Dataset
        Minus Kendall's tau-b, so positive where the measure rises as the dimension gets smaller;
        NaN with fewer than two values: ``trend_as_rank_falls`` (route, bottleneck, seed) and
        ``trend_as_bottleneck_narrows`` (route, rank, seed).
    """
    found = {}
    for name, along, other, word in (
        ("trend_as_rank_falls", "rank", "bottleneck", "falling rank"),
        ("trend_as_bottleneck_narrows", "bottleneck", "rank", "narrowing bottleneck"),
    ):
        rows = values.transpose("route", other, along, "seed")
        taus = np.full([*rows.shape[:2], rows.sizes["seed"]], np.nan)
        for place in np.ndindex(*taus.shape[:2]):
            row = rows[place].rename({along: "condition"})
            taus[place] = rank_trend(row, row["condition"], "")["difference"].values
        about = f"trend of the symmetry with {word}, minus Kendall's tau"
        found[name] = labels.variable(("route", other, "seed"), taus, "1", about)
    return xr.Dataset(found, {dim: values[dim] for dim in DIMS})


def surface_statements(cells: xr.Dataset) -> xr.Dataset:
    """Return a verdict over seeds for each statement on the whole surface.

    Trends and differences are averaged over the rows or columns of a route first, within a seed,
    so that a statement has one number a seed.
    """
    value, found = cells[SYMMETRY], []
    trend = trends(value)
    seeds = cells["seed"].values
    routes = [route for route in cells["route"].values.tolist() if route != "exact"]
    for route in routes:
        for name, over, text in (
            ("trend_as_rank_falls", "bottleneck", "rounder as the rank falls"),
            ("trend_as_bottleneck_narrows", "rank", "rounder as the bottleneck narrows"),
        ):
            mean = trend[name].sel(route=route).mean(over)
            found.append(verdict(seeds, mean.values, f"{route}: {text} (mean over {over}s)"))
    if "exact" in cells["route"]:
        exact = exact_column(cells)[SYMMETRY].drop_vars(["rank", "route"])
        row = exact.rename(bottleneck="condition").transpose("condition", "seed")
        found.append(rank_trend(row, row["condition"], "exact: rounder as the bottleneck narrows"))
        for route in routes:
            one = value.sel(route=route).drop_vars("route")
            lowest, highest = (int(one["rank"][end]) for end in (0, -1))
            gap = one.sel(rank=lowest).drop_vars("rank") - exact
            found.append(_difference(gap, f"{route} at rank {lowest}: rounder than exact"))
            if route == "direct":
                gap = exact - one.sel(rank=highest).drop_vars("rank")
                found.append(_difference(gap, f"direct at rank {highest}: less round than exact"))
    return statements(found)


def table(found: xr.Dataset) -> str:
    """Return a map a route as text: median symmetry, seeds above the noise's 95 %, seeds done."""
    done = (found["status"] == 1).sum("seed")
    lines = []
    for route in found["route"].values:
        one = found.sel(route=route)
        lines.append(
            f"{route}: symmetry (seeds above the noise / done), rows bottleneck, columns rank"
        )
        for width in one["bottleneck"].values:
            texts = []
            for rank in one["rank"].values:
                cell, at = one.sel(bottleneck=width, rank=rank), {"bottleneck": width, "rank": rank}
                value, above = (
                    cell[f"{SYMMETRY}_{name}"].item() for name in ("median", "num_above_noise")
                )
                num_done = int(done.sel(route=route, **at))
                texts.append(f"{value:.2f} ({above:.0f}/{num_done})" if num_done else "-")
            lines.append(f"{width:4d}  " + "  ".join(f"{text:>11s}" for text in texts))
    return "\n".join(lines)


def trend_table(found: xr.Dataset) -> str:
    """Return every seed's trends, row by row."""
    lines = ["-Kendall's tau of every seed (positive: rounder as it gets smaller)"]
    for name in ("trend_as_rank_falls", "trend_as_bottleneck_narrows"):
        other = str(found[name].dims[1])
        for route in found["route"].values:
            for row in found[name].sel(route=route):
                if row.notnull().any():
                    seeds = ", ".join(f"{tau:+.2f}" for tau in row.values)
                    lines.append(f"{route}, {name}, {other} {int(row[other])}: {seeds}")
    return "\n".join(lines)


def _difference(gap: xr.DataArray, text: str) -> xr.Dataset:
    """Return the verdict on a difference within seeds, averaged over bottlenecks."""
    mean = gap.mean("bottleneck")
    return verdict(mean["seed"].values, mean.values, f"{text} (mean over bottlenecks)")


def _median(values: xr.DataArray) -> xr.DataArray:
    """Take the median over seeds; NaN where there is none (without numpy's warning)."""
    empty = values.isnull().all("seed")
    return values.where(~empty, 0.0).median("seed").where(~empty)


def _place(route: str) -> tuple[int, str]:
    """Order routes: exact, stepwise, direct, then others by name."""
    known = ("exact", "stepwise", "direct")
    return (known.index(route) if route in known else len(known), route)
