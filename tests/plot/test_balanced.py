"""Figures of balanced coding: what is drawn is what the dataset says."""

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import (
    balance_ramps,
    coding_against_balance,
    coding_scaling,
    delay_diagram,
    noise_and_delay,
    tracking_errors,
)

RNG = np.random.default_rng(0)


def runs(**sizes):
    return xr.DataArray(RNG.uniform(0.01, 1, tuple(sizes.values())), dims=tuple(sizes))


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_over_the_balance():
    one = runs(source=2, balance=3, matrix=2, trial=4)
    found = xr.Dataset({"bias": -one, "std": one, "std_open": one.isel(balance=0)})
    found["bias_theory"], found["std_theory"] = one.mean(("matrix", "trial")), one[..., 0, 0]
    found["std_open_theory"] = ("source", [0.5, 0.7])
    places = {"source": ["noise", "chaos"], "balance": [1.0, 3.0, 9.0]}
    found = found.assign_coords({**places, "drive": ("source", [0.2, 0.0])})
    above, silent, below, _ = coding_against_balance(found).axes
    np.testing.assert_allclose(
        drawn(above, "median")[0].get_ydata(), one.isel(source=0).median(("matrix", "trial"))
    )  # of |bias|
    assert drawn(below, "run")[0].get_ydata().size == 3 * 8
    np.testing.assert_allclose(drawn(below, "theory")[0].get_ydata(), one[0, :, 0, 0])
    assert not drawn(below, "pooled")
    pooled = coding_against_balance(found.assign(std_pooled=2 * found["std_theory"])).axes[2]
    np.testing.assert_allclose(drawn(pooled, "pooled")[0].get_ydata(), 2 * one[0, :, 0, 0])
    assert not silent.lines, "an input of zero has no bias"
    assert "no bias" in silent.texts[0].get_text()


def test_over_the_neurons():
    found = xr.Dataset(coords={"law": ["b = 5", "b = N"], "num_units": [50, 100, 200]})
    for name in ("bias", "std", "rmse"):
        found[name] = runs(law=2, num_units=3, trial=4)
        found[f"{name}_theory"] = found[name].mean("trial")
        for part, value in (("slope", -0.5), ("slope_low", -0.6), ("slope_high", -0.4)):
            found[f"{name}_{part}"] = ("law", [value, 2 * value])
    axes = coding_scaling(found).axes[1]
    assert len(drawn(axes, "theory")) == len(drawn(axes, "median")) == 2
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["b = 5: -0.50 (-0.60 to -0.40)", "b = N: -1.00 (-1.20 to -0.80)"]


def test_over_delay_and_balance():
    one = runs(delay=2, balance=3, trial=4)
    found = xr.Dataset({"std": one, "oscillation": one * 10, "crossing": one.isel(balance=1)})
    found["std_theory"] = one.mean("trial")
    for number, name in enumerate(("critical_balance", "optimal_balance", "critical_frequency")):
        found[name] = one.isel(balance=number, trial=0) + 1
    found["optimal_balance"][1] = 0.01  # below what was simulated
    found["std_open_theory"] = 0.02
    found = found.assign_coords(delay=[0.1, 1.0], balance=[1.0, 3.0, 9.0])
    left, middle, right = delay_diagram(found).axes[:3]
    mesh = np.ma.filled(left.collections[0].get_array(), np.nan).reshape(3, 2)
    np.testing.assert_allclose(mesh, found["std"].median("trial").transpose("balance", "delay"))
    assert np.isnan(drawn(left, "optimal_balance")[0].get_ydata()).tolist() == [False, True]
    assert len(drawn(left, "crossing")) == 4
    assert len(drawn(middle, "theory")) == 2
    np.testing.assert_allclose(drawn(right, "theory")[0].get_ydata(), found["critical_frequency"])
    single = delay_diagram(found.isel(delay=[0]))
    assert len(single.axes) == 4


def test_noise_ramps_and_tracking():
    found = xr.Dataset({"rmse": runs(noise=3, trial=2), "balance": 20.0, "drive": -0.2})
    found["rmse_theory"] = found["rmse"].mean("trial")
    found["critical_balance"] = found["rmse_theory"] * 50
    left, right = noise_and_delay(found.assign_coords(noise=[0.1, 0.5, 1.0])).axes
    np.testing.assert_allclose(drawn(left, "theory")[0].get_ydata(), found["rmse_theory"])
    assert drawn(right, "balance")[0].get_ydata()[0] == 20.0

    found = xr.Dataset({"std": runs(source=2, ramp=2, balance=3, matrix=2, trial=2)})
    found["std_theory"] = found["std"][:, 0, :, 0, 0]
    found["critical_balance"] = found["std_open_theory"] = ("source", [2.0, 3.0])
    places = {"source": ["noise", "chaos"], "ramp": ["up", "down"], "balance": [1.0, 2.0, 3.0]}
    panels = balance_ramps(found.assign_coords(places)).axes
    assert [drawn(axes, "critical")[0].get_xdata()[0] for axes in panels] == [2.0, 3.0]
    assert len(drawn(panels[0], "run")) == 2 * 4

    found = xr.Dataset()
    for name in ("response", "tracking_error"):
        found[name] = runs(condition=2, angular_frequency=3, trial=2)
        found[f"{name}_theory"] = found[name].mean("trial")
    places = {"condition": ["slow", "fast"], "angular_frequency": [0.3, 1.0, 3.0]}
    axes = tracking_errors(found.assign_coords(places)).axes[1]
    expected = found["tracking_error_theory"].isel(condition=1)
    np.testing.assert_allclose(drawn(axes, "theory")[1].get_ydata(), expected)


@pytest.mark.parametrize(
    "figure",
    [
        *(coding_against_balance, coding_scaling, delay_diagram, noise_and_delay),
        *(balance_ramps, tracking_errors),
    ],
)
def test_other_datasets_are_refused(figure):
    with pytest.raises(ValueError, match="dataset has no variable"):
        figure(xr.Dataset())
