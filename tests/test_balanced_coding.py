"""The recipes of balanced coding at small size, through their analyses to figures."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.balanced_theory import balanced_theory
from neurofb.dynamics import BalancedNetwork, balanced_statistics, simulate_balanced
from neurofb.plot import save_figure
from neurofb.recipes import load_recipe, recipe_names
from neurofb.theory import critical_balance, mean_field, optimal_balance, readout_variance

ROOT = Path(__file__).parents[1]


def recipe(name):
    for file in ("balanced_coding", "balanced_delay"):
        if name in recipe_names(ROOT / f"models/{file}.py"):
            return load_recipe(f"{ROOT}/models/{file}.py::{name}")
    raise LookupError(name)


def analyse(name, result, tmp_path, capsys):
    """Run an analysis on a saved and loaded result; draw its figures."""
    path = labels.save(result, tmp_path / "result.nc")
    function = load_recipe(f"{ROOT}/analyses/balanced_coding.py::{name}")
    found, figures = function(labels.load(path))
    labels.save(found, tmp_path / "analysis.nc")
    for key, figure in figures.items():
        save_figure(figure, tmp_path / f"{key}.png", found, dpi=40)
    for key, values in found.variables.items():
        assert {"units", "long_name"} <= set(values.attrs) or key in found.indexes, key
    assert list(figures) == [name]
    return found, capsys.readouterr().out


def test_theory_stands_beside_every_cell():
    cells = xr.Dataset(
        coords={
            "balance": [1.0, 10.0, 30.0],
            "delay": ("delay", [0.0, 0.1]),
            "num_units": 500,
            "noise": 0.75,
            "drive": 0.2,
        }
    )
    found = balanced_theory(cells)
    assert found["std_theory"].dims == ("balance", "delay")
    one = mean_field(10.0, 0.0, 0.75, 0.2)
    cell = found.sel(balance=10.0, delay=0.1)
    assert float(cell["bias_theory"]) == one.bias
    variance = readout_variance(one, 500, 0.1)
    np.testing.assert_allclose(cell["std_theory"], np.sqrt(variance))
    np.testing.assert_allclose(cell["rmse_theory"], np.sqrt(variance + one.bias**2))
    np.testing.assert_allclose(cell["critical_balance"], critical_balance(0.1, one.gain)[0])
    np.testing.assert_allclose(cell["optimal_balance"], optimal_balance(0.1, one.gain))
    beyond = found["balance"] > found["critical_balance"]
    assert int(beyond.sum()) == 1
    xr.testing.assert_equal(found["std_theory"].isnull(), beyond)
    chaos = balanced_theory(cells.isel(delay=0).assign_coords(noise=0.0, disorder=1.6))
    assert (chaos["frozen_std_theory"] > 0).all()
    both = chaos[["bias_theory", "std_theory", "frozen_std_theory"]].to_array()
    np.testing.assert_allclose(chaos["rmse_theory"], np.sqrt((both**2).sum("variable")))


def test_theory_needs_balance_and_size():
    with pytest.raises(ValueError, match="no 'num_units'; it has: balance"):
        balanced_theory(xr.Dataset(coords={"balance": [1.0]}))


def test_theory_fits_a_simulation_of_ones_own():
    networks = [BalancedNetwork(num_units=300, balance=b, noise=0.75) for b in (2.0, 8.0)]
    run = balanced_statistics(
        networks, 0.2, duration=20.0, burn_in=5.0, time_step=0.005, num_trials=16
    )
    theory = balanced_theory(run)
    median = run.median(("matrix", "trial"))
    np.testing.assert_allclose(median["std"], theory["std_theory"], rtol=0.08)
    np.testing.assert_allclose(median["bias"], theory["bias_theory"], rtol=0.08)


@pytest.mark.parametrize(
    ("kinds", "bias"),
    [({"nonlinearity": "linear"}, 0.2 / 9), ({"nonlinearity": "erf", "readout": "normal"}, None)],
)
def test_theory_is_that_of_the_networks_that_were_simulated(kinds, bias):
    network = BalancedNetwork(num_units=300, balance=8.0, noise=0.75, **kinds)
    run = balanced_statistics(
        *(network, 0.2),
        duration=20.0,
        burn_in=5.0,
        time_step=0.005,
        num_trials=8,
        num_matrices=4,
    )
    theory, median = balanced_theory(run), run.median(("matrix", "trial"))
    for found in (theory, balanced_theory(run.isel(trial=0)), balanced_theory(run.merge(theory))):
        field = mean_field(8.0, 0.0, 0.75, 0.2, **kinds)
        assert float(found["bias_theory"]) == pytest.approx(bias or field.bias)
        assert float(found["gain"]) == field.gain
    np.testing.assert_allclose(median["std"], theory["std_theory"], rtol=0.1)
    np.testing.assert_allclose(median["bias"], theory["bias_theory"], rtol=0.1)
    both = xr.concat(
        [run, run.assign_coords(nonlinearity="tanh")],
        "case",
        coords="different",
        compat="equals",
        join="outer",
    )
    assert len(set(balanced_theory(both)["gain"].values)) == 2


def steep(potential):
    return (2 * potential).tanh()


@pytest.mark.parametrize(
    ("kinds", "signal", "message"),
    [
        (
            {"nonlinearity": steep},
            0.2,
            r"nonlinearity='steep\(\)' has no theory here; allowed: tanh",
        ),
        ({"num_signals": 2}, 0.2, "num_signals=2 has no theory here; allowed: 1"),
        ({}, np.sin, "drive is NaN: the input moves, .* neurofb.theory.tracking_transfer"),
        ({}, np.ones(100), "drive is NaN: the input moves"),
    ],
)
@pytest.mark.parametrize("simulate", [balanced_statistics, simulate_balanced])
def test_what_has_no_theory_is_refused(simulate, kinds, signal, message):
    network = BalancedNetwork(num_units=30, balance=2.0, **kinds)
    for given in (network, [network]):
        run = simulate(given, signal, duration=1.0, time_step=0.01)
        with pytest.raises(ValueError, match=message):
            balanced_theory(run)


def test_inputs_some_of_which_move_are_told_apart():
    network = BalancedNetwork(num_units=30, balance=2.0)
    run = balanced_statistics([network, network], [0.2, np.sin], duration=1.0, time_step=0.01)
    assert run["drive"].isnull().values.tolist() == [False, True]
    balanced_theory(run.isel(condition=0))


def test_over_the_balance(tmp_path, capsys):
    result = recipe("against_balance")(
        sources=("noise", "chaos, g = 2.5"),
        balances=(3.0, 15.0, 40.0),
        num_units=120,
        num_matrices=2,
        num_trials=3,
        duration=10.0,
        burn_in=4.0,
    )
    found, said = analyse("against_balance", result, tmp_path, capsys)
    noise, chaos = (found.sel(source=source) for source in ("noise", "chaos, g = 2.5"))
    assert chaos["std"].sel(balance=40.0).isnull().all()
    median = noise["std"].median(("matrix", "trial"))
    np.testing.assert_allclose(median, noise["std_theory"], rtol=0.2)
    bias = noise["bias"].median(("matrix", "trial"))
    np.testing.assert_allclose(bias, noise["bias_theory"], atol=0.01)
    for one in (noise, chaos):
        assert (one["std_open"] > 2 * one["std"].sel(balance=15.0).max()).all(), "feedback helps"
    assert float(found["std_slope"].sel(source="noise")) == pytest.approx(-0.45, abs=0.15)
    assert float(found["std_slope"].sel(source="chaos, g = 2.5")) < -0.6
    within = (found["std"] ** 2).mean(("matrix", "trial"))
    assert (found["std_pooled"] ** 2 >= within).where(within.notnull(), True).all()
    assert "exponent of std from b = 3 on" in said
    assert said.count("bias, theory") == 1, "an input of zero has no bias"


@pytest.mark.parametrize("balances", [(1.0,), (1.0, 15.0), (3.0, 40.0)])
def test_few_balances_have_no_exponent(balances, tmp_path, capsys):
    result = recipe("against_balance")(
        sources=("chaos, g = 2.5", "noise"),
        balances=balances,
        num_units=40,
        num_matrices=2,
        num_trials=2,
        duration=2.0,
        burn_in=1.0,
    )
    found, said = analyse("against_balance", result, tmp_path, capsys)
    assert "exponent of std: none, fewer than two balances from b = 3 on" in said
    assert ("std_slope" in found) == (balances == (3.0, 40.0))
    if "std_slope" in found:
        assert found["std_slope"].isnull().values.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "result", "missing"),
    [
        ("tracking", "noise", "response"),
        ("hysteresis", "delay", "source"),
        ("scaling", "delay", "bias"),
        ("against_balance", "scaling", "std_open"),
        ("delay_phase", "hysteresis", "frequency"),
        ("noise_stabilises", "against_balance", "delay"),
    ],
)
def test_the_result_of_another_recipe_is_refused(name, result, missing):
    function = load_recipe(f"{ROOT}/analyses/balanced_coding.py::{name}")
    given = labels.load(ROOT / f"results/balanced_{result}.nc")
    with pytest.raises(ValueError, match=f"has no '{missing}': it is the result of another recipe"):
        function(given)


@pytest.mark.slow
def test_over_the_neurons(tmp_path, capsys):
    result = recipe("scaling")(sizes=(20, 200, 400), num_trials=6, num_times=40, burn_in=3.0)
    found, said = analyse("scaling", result, tmp_path, capsys)
    assert found["balance"].sel(law="b = N/10").values.tolist() == [2.0, 20.0, 40.0]
    for name, slopes in (("bias", (0, -0.5, -1)), ("std", (-0.5, -0.75, -1))):
        np.testing.assert_allclose(found[f"{name}_slope_theory"], slopes, atol=0.06)
        np.testing.assert_allclose(found[f"{name}_slope"], slopes, atol=0.25)
    assert said.count("exponent from N = 200 on") == 9


def test_over_the_delay(tmp_path, capsys):
    result = recipe("delay_phase")(
        *((0.1, 0.5), (4.0, 6.0, 15.0, 25.0)),
        num_units=200,
        num_trials=2,
        duration=3.0,
        burn_in=4.0,
    )
    found, _ = analyse("delay_phase", result, tmp_path, capsys)
    low, high = found["crossing_low"], found["crossing_high"]
    assert (low <= found["critical_balance"]).all()
    assert (high >= found["critical_balance"]).all()
    first = found["oscillation"].where(found["balance"] == high).max("balance")
    np.testing.assert_allclose(first.median("trial"), found["critical_frequency"], rtol=0.03)
    xr.testing.assert_equal(
        found["std_theory"].isnull(), found["balance"] >= found["critical_balance"]
    )


def test_noise_stabilises(tmp_path, capsys):
    result = recipe("noise_stabilises")(
        (0.1, 1.0, 3.0), num_units=400, num_trials=3, duration=5.0, burn_in=5.0
    )
    found, said = analyse("noise_stabilises", result, tmp_path, capsys)
    silent, best, loud = (found["rmse"].sel(noise=noise) for noise in (0.1, 1.0, 3.0))
    assert (silent > 0.3).all(), "oscillates: worse than the estimate 0"
    assert (best < 0.1).all()
    assert (loud > best).all()
    assert np.isnan(found["rmse_theory"].sel(noise=0.1))
    assert "lowest error at σ = 1" in said


def test_ramps_are_in_the_order_of_the_balance(tmp_path, capsys):
    result = recipe("hysteresis")(
        sources=("noise",),
        balances=(5.0, 15.0, 30.0),
        num_units=100,
        num_trials=2,
        hold=2.0,
        burn_in=4.0,
    )
    found, said = analyse("hysteresis", result, tmp_path, capsys)
    assert (found["std"].sel(balance=30.0) > 0.3).all(), "up and down"
    assert (found["std"].sel(balance=5.0) < 0.1).all()
    assert (found["crossing"] == 22.5).all()
    assert "width 0.0 (0.0 to 0.0)" in said
    assert "noise: linear theory 20.15" in said


def test_signals_that_move(tmp_path, capsys):
    result = recipe("tracking")(
        *((4.0, 10.0), (0.0, 0.1), (1, 4, 16)), duration=10.0, num_trials=2, num_units=400
    )
    found, said = analyse("tracking", result, tmp_path, capsys)
    for name in ("response", "tracking_error"):
        median = found[name].median("trial")
        np.testing.assert_allclose(median, found[f"{name}_theory"], atol=0.08)
    assert "b = 10, d = 0.1" in said


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("against_balance", {"sources": ("luck",)}, "luck"),
        ("against_balance", {"balances": (3.0, 1.0)}, r"balances=\(3.0, 1.0\) must be finite"),
        ("hysteresis", {"balances": (3.0, float("nan"))}, r"balances=\(3.0, nan\) must be finite"),
        ("delay_phase", {"balances": ()}, r"balances=\(\) must be .* at least one"),
        ("noise_stabilises", {"noises": (1.0, 1.0)}, "noises=.* rising"),
        ("scaling", {"sizes": (100, 50)}, "sizes=.* rising"),
        ("scaling", {"laws": ("b = N²",)}, "b = N²"),
        ("hysteresis", {"sources": ("luck",)}, "luck"),
        ("tracking", {"delays": (0.1,)}, "balances has 5, delays has 1"),
        ("delay_phase", {"delays": (0.1, 0.13)}, "whole number of steps"),
    ],
)
def test_bad_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        recipe(name)(**arguments)
