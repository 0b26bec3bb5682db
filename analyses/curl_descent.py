"""Curl descent against its theory: phase diagrams, losses, spectra, escape times, exponents.

A function a study of models/curl_descent.py, curl_escape.py and curl_exponents.py.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.curl_phase import curl_phase
from neurofb.measures.claims import verdict
from neurofb.measures.growth import growth_rate
from neurofb.measures.statements import statements, statements_text
from neurofb.measures.survival import median_time

#: a Lyapunov exponent below this (per unit of time) is not called chaos, however small its error
SMALLEST_CHAOS = 1e-3
#: a loss below is near the solution that a run started at; below the other, near where it ends
NEAR_START, NEAR_END = 1e-6, 1e-17
Answer = tuple[xr.Dataset, dict[str, Figure]]


def phase(scan: xr.Dataset | xr.DataTree) -> Answer:
    """Return boundaries over M / N beside the theory's line, distances, what recovers; the map."""
    found = curl_phase(_dataset(scan))
    dim = "hidden_flips" if "hidden_flips" in found.dims else "readout_flips"
    over = ["boundary", "boundary_norms", "boundary_matrix", "boundary_failed"]
    table = found[[*over, "distance_ratio", "distance_fraction"]].median("seed").to_dataframe()
    table.insert(0, "critical_fraction", found["critical_fraction"].values)
    print(f"{dim}, medians of {found.sizes['seed']} seeds", table.round(4).to_string(), sep="\n")
    for name, axis in (("distance_ratio", "M / N"), ("distance_fraction", dim)):
        for who, values in (("median", found[name].median("seed")), ("seed", found[name])):
            worst = float(abs(values).max())
            print(f"largest distance of a {who}'s boundary to the line along {axis}: {worst:.3f}")
    for name, text in (("growth_start", "with kept norms"), ("eigenvalue_start", "of -X")):
        same = int((found["left"] == (found[name] > 0)).sum())
        print(f"the sign of the eigenvalue {text} foretells {same} of {found['left'].size} runs")
    unstable = found["growth_start"] > 0
    print(
        f"of {int(unstable.sum())} runs from unstable solutions {int(found['recovered'].sum())} "
        "ended with a small loss at a stable one, by flips:"
    )
    shares = pd.DataFrame(
        {
            "unstable": unstable.sum(("ratio", "seed")).values,
            "recovered": found["recovered"].sum(("ratio", "seed")).values,
        },
        found[dim].values,
    )
    print(shares.T.to_string())
    large = found["step_size_number"] > 2
    print(f"steps became too large for the flow in {int(large.sum())} of {large.size} runs")
    return found, {f"phase_{dim}": plot.phase_diagram(found, flips=dim)}


def loss_curves(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return losses with linear theory, growth against the eigenvalue, and what became of runs."""
    found = _dataset(result)
    scale = found.attrs["learning_rate"] * found.attrs["input_variance"]
    loss = found["train_loss"].where(found["step"] <= found["stopped_at"].fillna(np.inf))
    found["train_loss"] = loss.assign_attrs(
        found["train_loss"].attrs
    )  # it ends where a run is done
    near = loss.where((loss > NEAR_START).cumsum("step") == 0)
    parts = {"start": near.where(near["step"] >= near.idxmin("step")), "end": loss}
    windows = {"start": (1e-30, NEAR_START), "end": (1e-30, NEAR_END)}
    lines = []
    for when, part in parts.items():
        rate = 2 * np.log1p(scale * found[f"growth_{when}"])
        text = f"rate at which the loss changes at the {when}, from the eigenvalue"
        found[f"rate_{when}_theory"] = rate.assign_attrs(units="1 / step", long_name=text)
        low, high = windows[when]
        found[f"rate_{when}"] = growth_rate(part, low=low, high=high)
        lines.append(_line(part.where((part > low) & (part < high)), rate))
    line = lines[0].where(found["growth_start"] > 0).fillna(lines[1])
    text = "loss of the slowest decaying or fastest growing direction, theory"
    found["linear_theory"] = line.assign_attrs(units="1", long_name=text)
    names = [f"rate_{when}{theory}" for when in parts for theory in ("_theory", "")]
    names += ["growth_start", "growth_end", "final_loss"]
    print(found[names].to_dataframe()[names].map("{:.3g}".format).to_string())
    return found, {"loss_curves": plot.flip_loss_curves(found)}


def spectra(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return the largest eigenvalues beside the theory's edge; the densities."""
    found = _dataset(result)
    largest = found["eigenvalues"].max("eigenvalue")
    found["largest"] = largest.assign_attrs(units="1", long_name="largest eigenvalue of a draw")
    table = pd.DataFrame({"theory": found["edge"], "mean": largest.mean("seed")})
    if found.sizes["seed"] > 1:
        table["sd"] = largest.std("seed", ddof=1)
    print(table.set_index(found["flip"].values).round(3).to_string())
    return found, {"spectra": plot.curl_spectra(found)}


def finite_size(result: xr.Dataset | xr.DataTree) -> Answer:
    """Print how far from the theory's line networks of growing size become unstable."""
    found = _dataset(result)
    gap = found["boundary"].mean("seed") - found["critical_fraction"]
    error = found["boundary"].std("seed", ddof=1) / found.sizes["seed"] ** 0.5
    both = xr.Dataset({"mean": gap, "error": error}).to_dataframe()[["mean", "error"]]
    print("boundary less theory: mean and its standard error", both.round(3), sep="\n")
    return found, {}


def saddle_escape(scan: xr.Dataset | xr.DataTree) -> Answer:
    """Return medians of the times to solve a task (censored runs count as later), verdicts."""
    found = _dataset(scan)
    for dim in ("activation", "gain"):
        if dim not in found.dims:
            raise ValueError(
                f"the dataset has no dim {dim!r}: it must be a scan of models/curl_escape.py::"
                "saddle_escape over activation and gain"
            )
    found["censored"] = found["censored"].fillna(1).astype(bool)
    done = found["hit_epoch"].notnull().all(("flip", "seed"))
    if not bool(done.all()):
        raise ValueError("not every cell of the scan is done; neurofb scan resume STORE goes on")
    found["hit_epoch"].attrs["long_name"] = "epochs to a test loss of 0.001"
    found["median_epoch"] = median_time(found["hit_epoch"], found["censored"])
    said = []
    for place in np.ndindex(found.sizes["activation"], found.sizes["gain"]):
        at = dict(zip(("activation", "gain"), place, strict=True))
        one = found.isel(at)
        times = {flip: one["hit_epoch"].sel(flip=flip).values for flip in one["flip"].values}
        name = f"{one['activation'].item()}, g = {float(one['gain']):g}"
        for flip, other in (
            *(("1 flip", "none"), ("3 flips", "none"), ("1 frozen", "none")),
            ("1 flip", "1 frozen"),
        ):
            text = f"{name}: {flip} faster than {other.replace('none', 'no flip')}"
            faster = np.log2(times[other] / times[flip])
            said.append(verdict(one["seed"].values, faster, text))
        print(f"{name}: epochs by seed (> not within the run), median", _times(one), sep="\n")
    claims = statements(said)
    print("log2 of the ratio of epochs, seed by seed", statements_text(claims), sep="\n")
    print("a run that was cut short counts with its last epoch: its true difference is larger")
    return xr.merge([found, claims]).assign_attrs(found.attrs), {"escape": plot.escape_times(found)}


def lyapunov(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return which runs are chaotic: exponent beyond 3 standard errors, 10⁻³, loss not zero."""
    found = _dataset(result)
    certain = found["exponent"] > 3 * found["standard_error"]
    chaotic = certain & (found["exponent"] > SMALLEST_CHAOS) & (found["mean_loss"] > 1e-6)
    text = "exponent above 3 standard errors and 0.001, loss not zero"
    found["chaotic"] = chaotic.assign_attrs(units="1", long_name=text)
    found.attrs["smallest_chaos"] = SMALLEST_CHAOS
    names = ["exponent", "standard_error", "exponent_half", "mean_loss", "wandering", "chaotic"]
    print(found[names].to_dataframe()[names].map("{:.3g}".format).to_string())
    shares = found["chaotic"].sum("seed")
    for name, count in zip(found["condition"].values, shares.values, strict=True):
        print(f"{name}: {count} of {found.sizes['seed']} seeds are chaotic")
    return found, {"lyapunov": plot.lyapunov_exponents(found)}


def _dataset(result: xr.Dataset | xr.DataTree) -> xr.Dataset:
    """Return a result as a dataset that may be added to."""
    return (result.to_dataset() if isinstance(result, xr.DataTree) else result).copy()


def _line(near: xr.DataArray, rate: xr.DataArray) -> xr.DataArray:
    """Return the exponential of a rate through the last loss near a solution, where it is valid."""
    anchor = near["step"].where(near.notnull()).max("step")
    value = near.where(near["step"] == anchor).max("step")
    line = value * np.exp((rate * (near["step"] - anchor)).clip(-80, 80))
    return line.where((line > 1e-28) & (line < 1e-2)).transpose(*near.dims).drop_attrs()


def _times(one: xr.Dataset) -> str:
    """Return the times of one network as text, a row a flip condition."""
    rows = {}
    for flip in one["flip"].values:
        here = one.sel(flip=flip)
        late = here["censored"].values
        times = zip(here["hit_epoch"].values, late, strict=True)
        texts = [f"{'>' if cut else ''}{time:.0f}" for time, cut in times]
        median = float(here["median_epoch"])
        limit = f"> {float(here['hit_epoch'].max()):.0f}"
        rows[str(flip)] = [*texts, f"{median:.0f}" if np.isfinite(median) else limit]
    columns = [*(f"seed {seed}" for seed in one["seed"].values), "median"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).to_string()
