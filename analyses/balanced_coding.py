"""Balanced coding against its mean field: balance, neurons, delay, noise, ramps, moving signals.

A function a study of models/balanced_coding.py and models/balanced_delay.py.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neurofb import plot
from neurofb.balanced_theory import balanced_theory
from neurofb.measures import failing_boundary, power_law
from neurofb.theory import mean_field, tracking_error, tracking_transfer

Answer = tuple[xr.Dataset, dict[str, Figure]]
#: a standard deviation above this is called an oscillation: fluctuations reach it next to the
#: critical balance alone, oscillations soon exceed 0.3
OSCILLATES = 0.1
#: exponents are those from here on, where the powers are reached
LEAST_BALANCE, LEAST_UNITS = 3.0, 200


def against_balance(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return bias and fluctuations beside theory, with the null; exponents of the fluctuations."""
    found = _dataset(
        result, "bias", "std", "std_open", dims=("source", "balance", "matrix", "trial")
    )
    found = found.merge(balanced_theory(found))
    found["std_open_theory"] = _opened(found)
    # chaos is slower than a trial: how the means over time differ among trials belongs to it
    variance = (found["std"] ** 2).mean("trial") + found["bias"].var("trial", ddof=1)
    pooled = variance.mean("matrix") ** 0.5
    error = variance.std("matrix", ddof=1) / variance.sizes["matrix"] ** 0.5 / 2 / pooled
    text = "standard deviation of the estimate, all trials of a realisation together"
    found["std_pooled"] = pooled.assign_attrs(units="1", long_name=f"{text}, root mean square")
    found["std_pooled_error"] = error.assign_attrs(units="1", long_name=f"standard error: {text}")
    over, fits = ("matrix", "trial"), {}
    for source in found["source"].values:
        one = found.sel(source=source)
        one = one.isel(balance=one["std"].notnull().all(over).values)
        median = one.median(over)
        table = {"std": median["std"], "std, theory": one["std_theory"]}
        table |= {"lowest": one["std"].min(over), "highest": one["std"].max(over)}
        table |= {"pooled": one["std_pooled"], "± s.e.": one["std_pooled_error"]}
        table |= {"pooled / theory": one["std_pooled"] / one["std_theory"]}
        if float(one["drive"]):
            table |= {"bias": median["bias"], "bias, theory": one["bias_theory"]}
            spread = one["bias"].mean("trial").std("matrix")
            table |= {"spread of bias": spread, "theory": one["frozen_std_theory"]}
        num_runs = one["std_open"].size
        print(f"{source}: medians of {num_runs} runs", _table(table), sep="\n")
        values = [float(median["std_open"]), float(one["std_open_theory"])]
        print("std without feedback {:.4g}, theory {:.4g}".format(*values))
        upper = one.where(one["balance"] >= LEAST_BALANCE, drop=True)
        if upper.sizes["balance"] < 2:
            print(f"exponent of std: none, fewer than two balances from b = {LEAST_BALANCE:g} on\n")
            continue
        runs = upper["std"].stack(run=over).drop_vars(["run", *over])
        fit = power_law(runs, dim="balance", over="run").assign(
            slope_theory=_slope(upper["std_theory"], "balance")
        )
        print(f"exponent of std from b = {LEAST_BALANCE:g} on: {_exponent(fit)}\n")
        fits[source] = fit
    if fits:
        named = xr.Variable("source", list(fits))
        bare = [fit.reset_coords(drop=True) for fit in fits.values()]
        together = xr.concat(bare, "source").assign_coords(source=named)
        together = together.reindex(source=found["source"].values)
        parts = ("slope", "slope_low", "slope_high", "slope_theory")
        found = found.assign({f"std_{part}": together[part] for part in parts})
    return found, {"against_balance": plot.coding_against_balance(found)}


def scaling(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return bias, fluctuations and error over the neurons beside theory, with their exponents."""
    found = _dataset(result, "bias", "std", "rmse", dims=("law", "num_units", "trial"))
    found = found.merge(balanced_theory(found))
    large = found.isel(num_units=found["num_units"].values >= LEAST_UNITS)
    for name in ("bias", "std", "rmse"):
        fit = power_law(abs(large[name]).assign_attrs(found[name].attrs), dim="num_units")
        fit["slope_theory"] = _slope(large[f"{name}_theory"], "num_units")
        found = found.assign({f"{name}_{part}": fit[part] for part in fit.data_vars})
        columns = {}
        for law in found["law"].values:
            columns[law] = found[name].sel(law=law).median("trial")
            columns["theory of " + law] = found[f"{name}_theory"].sel(law=law)
        print(f"{name}, medians of {found.sizes['trial']} trials", _table(columns), sep="\n")
        for law in found["law"].values:
            print(f"exponent from N = {LEAST_UNITS} on, {law}: {_exponent(fit.sel(law=law))}")
    return found, {"scaling": plot.coding_scaling(found)}


def delay_phase(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return where networks begin to oscillate, how fast, and their best balance, beside theory."""
    found = _dataset(result, "std", "frequency", dims=("delay", "balance", "trial"))
    found = found.merge(balanced_theory(found))
    found["std_open_theory"] = _opened(found.drop_vars("delay"))
    oscillates = found["std"] > OSCILLATES
    text = "angular frequency of networks that oscillate"
    found["oscillation"] = found["frequency"].where(oscillates)
    found["oscillation"].attrs |= {"long_name": text}
    found = found.merge(
        failing_boundary(oscillates, "balance").rename(
            boundary="crossing", boundary_low="crossing_low", boundary_high="crossing_high"
        )
    )
    for name in ("critical_balance", "critical_frequency", "optimal_balance"):
        found[name] = found[name].isel(balance=0, drop=True)  # the gain is the same: input is zero
    best = found["std"].median("trial").idxmin("balance")
    below = found["balance"] < 0.9 * found["critical_balance"]
    ratio = (found["std"].median("trial") / found["std_theory"]).where(below)
    first = found["oscillation"].where(found["balance"] == found["crossing_high"]).max("balance")
    table = {
        "b_c, theory": found["critical_balance"],
        "crossing": found["crossing"].median("trial"),
        "from": found["crossing_low"].min("trial"),
        "to": found["crossing_high"].max("trial"),
        "ω_c, theory": found["critical_frequency"],
        "ω at the first": first.median("trial"),
        "b*, theory": found["optimal_balance"],
        "lowest std at": best,
        "lowest ratio": ratio.min("balance"),
        "highest": ratio.max("balance"),
    }
    print(f"medians of {found.sizes['trial']} trials; ratio: std to theory, up to 0.9 b_c")
    print(_table(table))
    return found, {"delay_phase": plot.delay_diagram(found)}


def noise_stabilises(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return the error over the noise beside theory, and the critical balance."""
    found = _dataset(result, "rmse", "balance", "delay", dims=("noise", "trial"))
    found = found.merge(balanced_theory(found))
    table = {
        "b_c, theory": found["critical_balance"],
        "rmse": found["rmse"].median("trial"),
        "lowest": found["rmse"].min("trial"),
        "highest": found["rmse"].max("trial"),
        "rmse, theory": found["rmse_theory"],
    }
    print(f"medians of {found.sizes['trial']} trials", _table(table), sep="\n")
    for name, values in (("", found["rmse"].median("trial")), (" of theory", found["rmse_theory"])):
        print(f"lowest error{name} at σ = {float(values.idxmin('noise')):g}")
    return found, {"noise_stabilises": plot.noise_and_delay(found)}


def hysteresis(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return where networks begin and cease to oscillate as the balance is moved up and down."""
    found = _dataset(result, "std", dims=("source", "ramp", "balance", "matrix", "trial"))
    found = found.merge(balanced_theory(found))
    found["critical_balance"] = found["critical_balance"].isel(balance=0, drop=True)
    found["std_open_theory"] = _opened(found)
    places = failing_boundary(found["std"] > OSCILLATES, "balance")
    found["crossing"] = places["boundary"].assign_attrs(
        long_name="balance where the network begins (up) or ceases (down) to oscillate"
    )
    for source in found["source"].values:
        one = found.sel(source=source)
        up, down = (one["crossing"].sel(ramp=ramp) for ramp in ("up", "down"))
        print(
            f"{source}: linear theory {float(one['critical_balance']):.2f}; begins at "
            f"{_spread(up)}, ceases at {_spread(down)}, width {_spread(up - down)}"
        )
        table = {
            f"std, {ramp}": one["std"].sel(ramp=ramp).median(("matrix", "trial"))
            for ramp in one["ramp"].values
        }
        print(_table({**table, "theory": one["std_theory"]}))
    return found, {"hysteresis": plot.balance_ramps(found)}


def tracking(result: xr.Dataset | xr.DataTree) -> Answer:
    """Return how much of moving signals arrives, and the error, beside theory of small signals."""
    found = _dataset(
        result, "response", "tracking_error", dims=("condition", "angular_frequency", "trial")
    )
    gain = mean_field(1.0, 0.0, float(found["noise"])).gain  # it is that of a signal of zero
    rate, balance, delay = xr.broadcast(
        *(found[name] for name in ("angular_frequency", "balance", "delay"))
    )
    places = rate.values, gain * balance.values, delay.values
    for name, values, text in (
        ("response", abs(tracking_transfer(*places)), "amplitude of the estimate"),
        ("tracking_error", tracking_error(*places), "amplitude of the error"),
    ):
        label = {"units": "1", "long_name": f"{text} over that of the signal, theory"}
        theory = xr.DataArray(values, rate.coords, rate.dims, attrs=label)
        found[f"{name}_theory"] = theory.transpose("condition", "angular_frequency")
    for condition in found["condition"].values:
        one = found.sel(condition=condition)
        table = {}
        for name in ("response", "tracking_error"):
            table |= {name: one[name].median("trial"), f"{name}, theory": one[f"{name}_theory"]}
        print(condition, _table(table), sep="\n")
    for name in ("response", "tracking_error"):
        gap = abs(found[name].median("trial") - found[f"{name}_theory"])
        print(f"largest distance of a median to theory, {name}: {float(gap.max()):.4f}")
    return found, {"tracking": plot.tracking_errors(found)}


def _dataset(result: xr.Dataset | xr.DataTree, *needed: str, dims: tuple[str, ...]) -> xr.Dataset:
    """Return a result as a dataset that may be added to; refuse one of another study."""
    found = (result.to_dataset() if isinstance(result, xr.DataTree) else result).copy()
    missing = [name for name in needed if name not in found.variables]
    missing += [dim for dim in dims if dim not in found.dims]
    if missing:
        raise ValueError(f"the dataset has no {missing[0]!r}: it is the result of another recipe")
    return found


def _opened(found: xr.Dataset) -> xr.DataArray:
    """Return the null: the theory's fluctuations without feedback."""
    coords = found.coords.to_dataset().drop_vars("balance").assign_coords(balance=0.0)
    text = "standard deviation of the estimate without feedback, theory"
    return balanced_theory(coords)["std_theory"].assign_attrs(long_name=text)


def _table(columns: dict[str, xr.DataArray]) -> str:
    """Return arrays over one dim as text, a row a place."""
    dim = str(next(iter(columns.values())).dims[0])
    place = next(iter(columns.values()))[dim].values
    frame = pd.DataFrame({name: values.values for name, values in columns.items()}, place)
    return frame.rename_axis(dim).map("{:.4g}".format).to_string()


def _slope(values: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the exponent of a theory's curve, fitted as that of the simulations."""
    fit = power_law(values.expand_dims("trial"), dim=dim, num_resamples=1)["slope"]
    return fit.assign_attrs(long_name=f"exponent: {values.attrs.get('long_name', '')}")


def _exponent(fit: xr.Dataset) -> str:
    """Return an exponent with its interval and that of theory."""
    slope, low, high, theory = (
        float(fit[f"slope{end}"]) for end in ("", "_low", "_high", "_theory")
    )
    return f"{slope:.3f} ({low:.3f} to {high:.3f}), theory {theory:.3f}"


def _spread(values: xr.DataArray) -> str:
    """Return median, smallest and largest."""
    array = values.values
    return f"{np.median(array):.1f} ({array.min():.1f} to {array.max():.1f})"
