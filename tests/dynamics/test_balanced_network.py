"""Balanced networks: identities, what a trial's numbers depend on, labels."""

import json
from functools import partial

import numpy as np
import pytest
import xarray as xr

from neurofb.dynamics import BalancedNetwork, balanced_statistics, simulate_balanced

NOISY = BalancedNetwork(num_units=30, balance=3.0, noise=0.75)
simulate = partial(simulate_balanced, duration=1.0, time_step=0.01)


@pytest.mark.parametrize("readout", ["signs", "normal"])
def test_variance_of_linear_units_is_that_of_the_discrete_loop(readout):
    networks = [
        BalancedNetwork(num_units=20, balance=b, noise=0.75, nonlinearity="linear", readout=readout)
        for b in (0.0, 1.0, 3.0, 10.0)
    ]
    step, kwargs = 0.005, {"num_trials": 300, "num_matrices": 2, "start": "zero"}
    found = balanced_statistics(networks, duration=4.0, time_step=step, burn_in=4.0, **kwargs)
    gains = np.array(
        [(network.weights(0, m)[1] ** 2).mean() for network in networks for m in (0, 1)]
    )
    gains = gains.reshape(4, 2)
    loop = found.balance.values[:, None] * gains
    leak = np.exp(-step)
    remembered = leak - (1 - leak) * loop
    variance = 0.75**2 / 2 * gains / 20 * (1 - leak**2) / (1 - remembered**2)
    squares = found.rmse**2  # the mean is known to be zero
    error = squares.std("trial") / np.sqrt(300)
    assert np.all(np.abs(squares.mean("trial") - variance) < 4 * error)
    assert np.all(error < 0.09 * variance)
    continuous = 0.75**2 / 2 * gains / 20 / (1 + loop)
    np.testing.assert_allclose(variance, continuous, rtol=0.5 * step * (1 + loop.max()) + 0.01)


def test_units_that_are_not_fed_back_have_half_the_variance_of_the_noise():
    free = BalancedNetwork(num_units=500, balance=0.0, noise=0.75)
    found = simulate(free, time_step=0.5, burn_in=10.0, num_trials=20, keep_units=500)
    potential = found.potential.isel(time=-1).values  # time_step is long: the step is exact
    assert potential.var() == pytest.approx(0.75**2 / 2, rel=0.04)


def test_without_noise_it_settles_where_bias_is_the_field_over_the_balance():
    # x - x̂ = m / b with m = b (x - tanh m), found here by bisection
    networks = [BalancedNetwork(num_units=11, balance=b) for b in (0.5, 4.0, 10.0)]
    found = balanced_statistics(networks, 0.2, duration=1.0, time_step=0.005, burn_in=30.0)
    for balance, bias in zip((0.5, 4.0, 10.0), found.bias.values.ravel(), strict=True):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            below = middle < balance * (0.2 - np.tanh(middle))
            low, high = (middle, high) if below else (low, middle)
        assert bias == pytest.approx(low / balance, rel=1e-4)
    assert np.all(found["std"] < 1e-6)


def test_feedback_arrives_after_the_delay():
    network = BalancedNetwork(num_units=1, balance=2.0, delay=0.5, nonlinearity="linear")
    found = simulate_balanced(
        network, 1.0, duration=1.0, time_step=0.001, start="zero", dtype="float64"
    )
    early = found.estimate.sel(time=slice(0, 0.4995)).squeeze()
    np.testing.assert_allclose(early, 2 * (1 - np.exp(-early.time)), atol=1e-12)  # open loop
    late = found.estimate.sel(time=slice(0.5, None)).squeeze()
    past = late.time - 0.5  # then ẍ̂ is driven by the open loop of before: closed form
    closed = 2 * (1 - np.exp(-late.time)) - 4 * (1 - np.exp(-past) - past * np.exp(-past))
    np.testing.assert_allclose(late, closed, atol=3e-3)
    assert abs(late[-1] - 2 * (1 - np.exp(-0.999))) > 0.2


def test_tracks_a_sinusoid_as_the_linear_transfer_says():
    networks = [
        BalancedNetwork(num_units=3, balance=8.0, delay=d, nonlinearity="linear")
        for d in (0.0, 0.05)
    ]
    omega = 5.0
    found = simulate_balanced(
        networks,
        lambda t: np.sin(omega * t),
        duration=5.027,  # four periods
        time_step=0.001,
        burn_in=8.0,
        dtype="float64",
    )
    assert found.sizes["delay"] == 2
    wave = np.exp(-1j * omega * found.time)
    amplitude = 2j * (found.estimate * wave).mean("time").squeeze()
    for delay, value in zip((0.0, 0.05), amplitude.values, strict=True):
        expected = 8 / (1 + 1j * omega + 8 * np.exp(-1j * omega * delay))
        assert abs(value - expected) < 0.01 * abs(expected)


def test_odd_under_the_sign_of_signal_and_start():
    networks = [BalancedNetwork(num_units=30, balance=3.0, disorder=1.6, delay=0.02)] * 2
    start = np.random.default_rng(0).normal(size=(1, 1, 4, 30))
    start = np.concatenate([start, -start], axis=1)
    found = simulate(networks, [0.2, -0.2], start=start, num_trials=4, num_matrices=2)
    assert found.estimate.dims[0] == "drive"
    np.testing.assert_allclose(found.estimate[0], -found.estimate[1], atol=1e-6)
    assert found.estimate.std() > 0.01


def test_two_signals_are_coded_at_once():
    network = BalancedNetwork(
        num_units=40, balance=5.0, num_signals=2, readout="normal", nonlinearity="linear"
    )
    signal = np.array([0.3, -0.2])
    found = balanced_statistics(
        network, lambda t: signal, duration=1.0, time_step=0.005, burn_in=20.0, num_matrices=3
    )
    assert found.bias.dims == ("matrix", "trial", "signal")
    for matrix in range(3):
        _, readout = network.weights(0, matrix)
        gram = readout.T @ readout / 40  # x̂ = G m with m = b (x - x̂)
        bias = signal - gram @ np.linalg.solve(np.eye(2) + 5 * gram, 5 * signal)
        np.testing.assert_allclose(found.bias[matrix, 0], bias, atol=1e-6)
    pair, single = (
        BalancedNetwork(num_units=400, balance=5.0, noise=0.75, num_signals=k) for k in (2, 1)
    )
    options = {"duration": 5.0, "time_step": 0.008, "burn_in": 4.0, "num_trials": 60, "seed": 3}
    spread = [(balanced_statistics(n, **options).rmse ** 2).mean("trial") for n in (pair, single)]
    np.testing.assert_allclose(spread[0].values, spread[1].values * np.ones((1, 2)), rtol=0.12)


@pytest.mark.parametrize("disorder", [0.0, 0.9])
def test_numbers_of_a_trial_depend_on_seed_matrix_and_trial_alone(disorder):
    network = BalancedNetwork(
        num_units=35, balance=3.0, noise=0.5, disorder=disorder, delay=0.03, readout="normal"
    )
    whole = simulate(network, np.sin, num_trials=3, num_matrices=2, burn_in=0.3, seed=4)
    options = {"num_trials": 3, "num_matrices": 2, "burn_in": 0.3, "seed": 4}
    for change in ({"chunk": 1}, {"chunk": 17}, {"keep_units": 35}, {"duration": 1.7}):
        again = simulate(network, np.sin, **options, **change)
        xr.testing.assert_equal(whole.estimate, again.estimate.isel(time=slice(100)))
    rare = simulate(network, np.sin, **options, record_every=7, keep_units=2, chunk=10)
    xr.testing.assert_equal(rare.estimate, whole.estimate[..., ::7])
    assert rare.potential.sizes == {"matrix": 2, "trial": 3, "time": 15, "unit": 2}

    fewer = simulate(network, np.sin, burn_in=0.3, seed=4)
    np.testing.assert_allclose(fewer.estimate, whole.estimate[:1, :1], atol=2e-6)
    double = simulate(network, np.sin, **options, dtype="float64")
    np.testing.assert_allclose(double.estimate, whole.estimate, atol=2e-6)
    others = [
        network,
        BalancedNetwork(num_units=35, balance=1.0, noise=0.2, disorder=0.5, readout="normal"),
    ]
    batch = simulate(others, np.sin, **options)
    assert batch.estimate.dims[0] == "condition"
    np.testing.assert_allclose(batch.estimate[0], whole.estimate, atol=2e-6)
    alone = simulate(others[1], np.sin, **options)
    np.testing.assert_allclose(batch.estimate[1], alone.estimate, atol=2e-6)

    other = simulate(network, np.sin, **(options | {"seed": 5}))
    assert abs(other.estimate - whole.estimate).max() > 0.01
    for dim in ("matrix", "trial"):
        assert abs(whole.estimate.diff(dim)).max("time").min() > 0.005


@pytest.mark.parametrize(("noise", "start"), [(0.75, "zero"), (0.0, "normal")])
def test_every_trial_of_every_matrix_has_noise_and_start_of_its_own(noise, start):
    free = BalancedNetwork(num_units=400, balance=0.0, noise=noise)
    options = {"num_trials": 3, "num_matrices": 2, "start": start, "keep_units": 400}
    found = simulate(free, duration=0.2, **options)
    potential = found.potential.isel(time=-1).values.reshape(6, 400)
    assert abs(np.corrcoef(potential) - np.eye(6)).max() < 0.25  # 5 standard errors
    random = BalancedNetwork(num_units=50, balance=0.0, disorder=1.0)
    matrices = [random.weights(*number)[0] for number in ((0, 0), (0, 1), (1, 0))]
    assert abs(np.corrcoef([np.ravel(each) for each in matrices]) - np.eye(3)).max() < 0.1


def test_a_function_an_array_and_a_number_drive_alike():
    times = np.arange(100) * 0.01
    ramp = 1 + 2 * times
    found = [
        simulate(NOISY, signal, balance=balance, num_trials=2)
        for signal, balance in ((np.cos, lambda t: 1 + 2 * t), (np.cos(times), ramp))
    ]
    xr.testing.assert_equal(*(each.estimate for each in found))
    np.testing.assert_allclose(found[0].balance, ramp)
    np.testing.assert_allclose(found[0].input_signal, np.cos(times))
    constant = simulate(NOISY, 0.2, burn_in=0.5)
    held = simulate(NOISY, np.full(100, 0.2), burn_in=0.5, balance=3.0)
    np.testing.assert_array_equal(constant.estimate, held.estimate)


@pytest.mark.parametrize(
    "signal", [np.append(0.6, np.zeros(99)), lambda t: 0.6 if t < -0.005 else 0.0]
)
def test_the_burn_in_has_the_first_value_of_an_array_and_negative_times(signal):
    network = BalancedNetwork(num_units=3, balance=2.0, nonlinearity="linear")
    found = simulate(network, signal, burn_in=20.0, chunk=300).estimate.squeeze()
    assert found[0] == pytest.approx(0.4, abs=1e-5)
    assert found[-1] == pytest.approx(0.4 * np.exp(-0.99 * 3), rel=0.06)


def test_labels_say_what_was_simulated(tmp_path):
    networks = [BalancedNetwork(num_units=20, balance=b, noise=0.75) for b in (1.0, 2.0)]
    found = simulate(networks, 0.2, num_trials=2, keep_units=3)
    assert found.estimate.dims == ("balance", "matrix", "trial", "time")
    assert found.input_signal.dims == ("time",)
    assert found.balance.values.tolist() == [1, 2]
    assert {name: float(found[name]) for name in ("noise", "disorder", "delay", "drive")} == {
        "noise": 0.75, "disorder": 0, "delay": 0, "drive": 0.2
    }  # fmt: skip
    config = json.loads(found.attrs["neurofb_config"])
    assert config["networks"][1]["balance"] == 2
    assert config["time_step"] == 0.01
    for name in found.variables:
        assert {"units", "long_name"} <= set(found[name].attrs) or name == "unit"
    found.to_netcdf(tmp_path / "found.nc")
    single = simulate(networks[:1], 0.2)
    assert single.estimate.dims[0] == "condition"
    assert simulate(networks[0], 0.2).estimate.dims == ("matrix", "trial", "time")


def cubic(h):
    return h - 0.01 * h**3


def test_any_odd_function_is_a_nonlinearity():
    own = BalancedNetwork(num_units=20, balance=2.0, noise=0.3, nonlinearity=cubic)
    linear = BalancedNetwork(num_units=20, balance=2.0, noise=0.3, nonlinearity="linear")
    found = simulate(own, 0.2)
    difference = abs(found.estimate - simulate(linear, 0.2).estimate).max()
    assert 1e-5 < difference < 0.1
    assert json.loads(found.attrs["neurofb_config"])["networks"][0]["nonlinearity"] == "cubic"
