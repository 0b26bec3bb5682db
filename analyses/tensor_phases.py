"""Message passing on tensors against state evolution, and least squares beside it.

A function a study of models/tensor_phases.py and models/tensor_algorithms.py.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.measures.claims import verdict
from neurofb.measures.statements import statements, statements_text
from neurofb.tensor_study import failing_noise, signal_found

Answer = tuple[xr.Dataset, dict[str, Figure]]


def phases(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return where seeds begin to fail beside theory's thresholds; how runs end in each phase."""
    found = _dataset(result, "prior_mean", "line_algorithmic")
    found["boundary"] = failing_noise(found)
    for condition in found["condition"].values:
        print(condition, _boundaries(found.sel(condition=condition), "prior_mean"), sep="\n")
    _print_outcomes(found)
    return found, {"phases": plot.tensor_phase_diagram(found)}


def shapes(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return thresholds over shape; whether the hard phase is widest in cubic tensors."""
    found = _dataset(result, "shape_ratio", "line_ratio")
    found["boundary"] = failing_noise(found)
    print(_boundaries(found, "shape_ratio"))
    _print_outcomes(found)
    width = found["line_information"] - found["line_algorithmic"]
    at = float(found["line_ratio"][int(np.argmax(width.values))])
    print(f"theory: the hard phase is widest, {float(width.max()):.4f}, at a ratio of {at:.3f}")
    late, early = (found["boundary"].sel(algorithm=name) for name in ("AMP from the truth", "AMP"))
    spread = late - early
    median = spread.median("seed")
    widest = float(median["shape_ratio"][int(np.argmax(median.values))])
    print(f"simulation: the starts at prior and truth part most at {widest:g} of the ratios tried")
    return found, {"shapes": plot.hard_phase_width(found)}


def large(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return errors and overlaps of AMP on large tensors beside those of state evolution."""
    found = _dataset(result, "noise_variance", "line_error")
    print(_errors(found))
    theory = _theory_of(found, "overlap_theory")
    distance = abs(found["overlap"] / theory - 1).where(found["tensor_error"] < 0.9)
    text = "distance of an overlap to state evolution, relative"
    found["overlap_distance"] = distance.assign_attrs(units="1", long_name=text)
    medians = abs(found["overlap"].median("seed") / theory - 1).max("axis")
    print("overlaps: distance of the median tensor to theory, largest of the axes, relative")
    print(medians.transpose("noise_variance", "algorithm").to_pandas().round(4).to_string())
    count = (found["tensor_error"] < 0.9).sum("seed")
    print(f"tensors of {found.sizes['seed']} with an error below 0.9")
    print(count.transpose("noise_variance", "algorithm").to_pandas().to_string())
    return found, {"large": plot.tensor_errors(found)}


def against_als(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return errors of AMP and of ALS by start, how often they succeed, what noise alone gives."""
    found = _dataset(result, "noise_variance", "line_error")
    print(_errors(found))
    limit = 0.9 * found["mean_error"]
    success = (found["tensor_error"] < limit).sum("seed")
    print(f"tensors of {found.sizes['seed']} that are found (error below {float(limit):.2f})")
    print(success.to_pandas().astype(int).to_string())
    said = []
    for delta in found["noise_variance"].values:
        error = found["tensor_error"].sel(noise_variance=delta)
        amp = error.sel(algorithm="AMP").values
        for name in [name for name in error["algorithm"].values if str(name).startswith("ALS")]:
            text = f"noise {delta:g}: AMP's error is below that of {name}"
            less = error.sel(algorithm=name).values - amp
            said.append(verdict(found["seed"].values, less, text))
    claims = statements(said)
    print("difference, seed by seed", statements_text(claims), sep="\n")
    pairs = (("AMP", "ALS, start at the prior mean"), ("AMP from the truth", "ALS from the truth"))
    for first, second in pairs:
        if {first, second} <= set(found["algorithm"].values.tolist()):
            error, other = (found["tensor_error"].sel(algorithm=name) for name in (first, second))
            less, both = 1 - error / other, (error < limit) & (other < limit)
            median = less.where(both).median("seed").to_pandas()
            print(f"error of {first} below that of {second} where both find it, as a share")
            print(median.round(3).to_string())
    if "null_size" in found:
        print("size of what is found in noise alone, over that of the signal (medians)")
        print(found["null_size"].median("seed").to_pandas().round(3).to_string())
    figures = {"against_als": plot.tensor_errors(found)}
    return xr.merge([found, claims]).assign_attrs(found.attrs), figures


def mixed(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return errors of each problem beside state evolution."""
    found = _dataset(result, "condition", "line_error")
    for condition in found["condition"].values:
        one = found.sel(condition=condition)
        one = one.isel(noise_variance=np.flatnonzero(_computed(one)))
        print(condition, _errors(one), sep="\n")
    return found, {"mixed": plot.tensor_errors(found)}


def schedules(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return how many runs of each schedule converge, after how many sweeps, and how far off."""
    found = _dataset(result, "schedule", "error_trace")
    sweep, done = found["sweep"], found["num_sweeps"]
    last = found["error_trace"].where(sweep > done - 6)
    found["swing"] = (last.max("sweep") - last.min("sweep")).assign_attrs(
        units="1", long_name="largest less smallest error of the last six sweeps"
    )
    found["last_error"] = (
        last.where(sweep == done)
        .max("sweep")
        .assign_attrs(units="1", long_name="error of the tensor after the last sweep")
    )
    table = pd.DataFrame(
        {
            "converged": found["converged"].sum("seed").to_series().astype(int),
            "sweeps": found["num_sweeps"].median("seed").to_series(),
            "last error": found["last_error"].median("seed").to_series(),
            "swing": found["swing"].median("seed").to_series(),
        }
    )
    print(f"of {found.sizes['seed']} tensors; medians", table.round(4).to_string(), sep="\n")
    return found, {"schedules": plot.schedule_traces(found)}


def _dataset(result: xr.Dataset | xr.DataTree, *needed: str) -> xr.Dataset:
    """Return a result as a dataset that may be added to; refuse one of another study."""
    found = (result.to_dataset() if isinstance(result, xr.DataTree) else result).copy()
    missing = [name for name in needed if name not in found.variables and name not in found.dims]
    if missing:
        raise ValueError(f"the dataset has no {missing[0]!r}: it is the result of another recipe")
    return found


def _theory_of(found: xr.Dataset, name: str) -> xr.DataArray:
    """Return theory's values for each algorithm: those of the start that the algorithm has."""
    names = [str(name) for name in found["algorithm"].values]
    starts = ["truth" if name.endswith("from the truth") else "prior" for name in names]
    return found[name].sel(start=xr.DataArray(starts, dims="algorithm")).drop_vars("start")


def _computed(one: xr.Dataset) -> np.ndarray:
    """Tell at which noise variances there are runs."""
    return one["tensor_error"].notnull().any(("seed", "algorithm")).values


def _boundaries(found: xr.Dataset, dim: str) -> str:
    """Return thresholds, and medians, smallest and largest boundaries of seeds, as text."""
    table = found[["algorithmic", "information", "spinodal"]].to_dataframe()
    table = table[["algorithmic", "information", "spinodal"]].round(4)
    for algorithm in found["algorithm"].values:
        one = found["boundary"].sel(algorithm=algorithm)
        table[str(algorithm)] = [
            f"{float(cell.median()):.3f} ({float(cell.min()):.3f} to {float(cell.max()):.3f})"
            for cell in one.transpose(dim, "seed")
        ]
    return table.to_string()


def _print_outcomes(found: xr.Dataset) -> None:
    """Print in each phase of theory how many runs find the signal, from both starts."""
    noise = found["noise_variance"]
    low, high, top = (found[name] for name in ("algorithmic", "information", "spinodal"))
    regions = {
        "easy": noise < low,
        "hard": (noise >= low) & (noise < high),
        "impossible": (noise >= high) & (noise < top),
        "above the spinodal": noise >= top,
    }
    solved = signal_found(found)
    for name, region in regions.items():
        cells = region & found["tensor_error"].notnull()
        for algorithm in found["algorithm"].values:
            here = cells.sel(algorithm=algorithm)
            count = int((solved.sel(algorithm=algorithm) & here).sum())
            print(f"{name}: {algorithm} finds the signal in {count} of {int(here.sum())} runs")


def _errors(found: xr.Dataset) -> str:
    """Return theory's errors and the median, smallest and largest of each algorithm, as text."""
    table = found["error_theory"].transpose("noise_variance", "start").to_pandas().round(3)
    table.columns = [f"theory, {start}" for start in table.columns]
    for algorithm in found["algorithm"].values:
        one = found["tensor_error"].sel(algorithm=algorithm)
        if bool(one.notnull().any()):
            table[str(algorithm)] = [
                f"{float(cell.median()):.3f} [{float(cell.min()):.3f}, {float(cell.max()):.3f}]"
                for cell in one.transpose("noise_variance", "seed")
            ]
    return table.to_string()
