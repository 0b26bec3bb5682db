"""The stationary state against closed forms, the values of chaos, and the equation itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import root_scalar
from scipy.special import erfinv

from neurofb.theory import (
    MeanField,
    chaos_boundary,
    lyapunov_of_mean_field,
    mean_field,
    scs_variance,
)
from neurofb.theory.balanced_autocovariance import fourier_step
from neurofb.theory.balanced_chaos import _levels
from neurofb.theory.hermite import hermite_coefficients

STATES: list[dict[str, Any]] = [
    {"disorder": 1.6},
    {"disorder": 1.6, "drive": 0.2},
    {"disorder": 1.6, "noise": 0.75, "drive": 0.2},
    {"disorder": 0.8, "noise": 1.5, "drive": 0.5, "nonlinearity": "erf"},
    {"disorder": 1.4, "drive": 0.1, "noise": 0.5, "readout": "normal"},
    {"disorder": 0.9, "drive": 0.4, "nonlinearity": lambda h: h / np.sqrt(1 + h**2)},
]


@pytest.mark.parametrize("settings", STATES)
def test_the_state_solves_the_equation(settings: dict[str, Any]):
    """Put into the iteration on a fine periodic grid it comes out again."""
    for step, num, tolerance in ((0.05, 8192, 4e-4), (0.025, 16384, 1e-4)):
        found = mean_field(10.0, **settings, num_lags=num, lag_step=step)
        noise = settings.get("noise", 0.0)
        arguments = (found.autocovariance, step, settings["disorder"], noise)
        after = fourier_step(found.rate_coefficients, *arguments)
        worst = abs(after - found.autocovariance).max() / found.variance
        assert worst < (tolerance if noise else 1e-7)  # the kink of noise costs step² on the grid
    assert found.autocovariance[0] == pytest.approx(found.variance, rel=1e-12)
    assert found.autocovariance[-1] == pytest.approx(found.frozen_variance, rel=1e-6, abs=1e-6)
    assert found.field == pytest.approx(10 * (found.drive - found.estimate), abs=1e-12)
    assert found.bias == pytest.approx(found.drive - found.estimate, abs=1e-12)


@pytest.mark.parametrize(("disorder", "gain"), [(1.2, 0.83019), (1.6, 0.61491), (2.0, 0.48682)])
def test_chaos_without_drive(disorder: float, gain: float):
    """Values of section 5 of our notes, and the closed condition that shares no step."""
    found = mean_field(10.0, disorder)
    known = {1.2: 0.24263, 1.6: 0.95054, 2.0: 1.92481}[disorder]
    assert found.variance == pytest.approx(known, abs=6e-6)
    assert found.variance == pytest.approx(scs_variance(disorder), rel=1e-10)
    assert found.gain == pytest.approx(gain, abs=6e-6)
    assert found.frozen_variance == found.estimate == found.bias == 0


def test_both_solvers_agree():
    for disorder, noise, tolerance in ((2.0, 0.0, 1e-9), (0.7, 0.5, 1e-4)):
        energy, fourier = (mean_field(1.0, disorder, noise, solver=each) for each in SOLVERS)
        assert fourier.variance == pytest.approx(energy.variance, rel=tolerance)
        difference = abs(fourier.autocovariance - energy.autocovariance).max()
        assert difference < 3 * max(tolerance, 1e-6)
        assert energy.converged
        assert fourier.converged
        assert fourier.num_iterations > 5 * energy.num_iterations


SOLVERS: tuple[Any, ...] = ("energy", "fourier")


def test_quiet_below_the_onset_of_chaos():
    for disorder in (0.0, 0.5, 0.99):
        for solver in SOLVERS[: 1 if disorder > 0.9 else 2]:
            found = mean_field(5.0, disorder, solver=solver)
            assert found.variance == pytest.approx(0, abs=1e-13)
            assert found.gain == pytest.approx(1.0, abs=1e-9)
            assert not np.any(found.autocovariance > 1e-13)


@pytest.mark.parametrize("noise", [0.1, 0.75, 3.0])
def test_noise_alone(noise: float):
    found = mean_field(7.0, noise=noise, drive=0.3)
    assert found.variance == noise**2 / 2
    np.testing.assert_allclose(
        found.autocovariance, noise**2 / 2 * np.exp(-found.lag), rtol=1e-12, atol=1e-15
    )
    assert found.rate_covariance[-1] == pytest.approx(found.estimate**2, rel=1e-9)


@pytest.mark.parametrize("drive", [0.2, 0.9, 1.5])
def test_bias_without_fluctuations(drive: float):
    """m = b (x - tanh m), by a root finder of its own."""
    expected = root_scalar(
        lambda m: m - 10 * (drive - np.tanh(m)), bracket=(0, 10 * drive), xtol=1e-14
    ).root
    found = mean_field(10.0, drive=drive)
    assert found.field == pytest.approx(expected, rel=1e-12)
    assert found.gain == pytest.approx(1 - np.tanh(expected) ** 2, rel=1e-6)
    assert found.slope_variance == pytest.approx(found.gain**2, rel=1e-9)
    assert mean_field(0.0, drive=drive).bias == drive  # nothing drives a network without balance


def test_bias_under_noise_at_the_settings_of_figure_1d():
    balance = [1.0, 3.0, 10.0, 30.0, 100.0]
    bias = [mean_field(each, noise=0.75, drive=0.2).bias for each in balance]
    np.testing.assert_allclose(bias, [0.11053, 0.05848, 0.02213, 0.00798, 0.00246], atol=6e-6)
    balance = [1.0, 3.0, 10.0, 30.0]
    bias = [mean_field(each, disorder=1.6, drive=0.2).bias for each in balance]
    np.testing.assert_allclose(bias, [0.1244, 0.0715, 0.0290, 0.0108], atol=6e-5)
    found = mean_field(10.0, disorder=1.6, noise=0.75, drive=0.2)
    assert found.bias == pytest.approx(0.02991, abs=6e-6)


@pytest.mark.parametrize("settings", [{"noise": 1.0}, {"disorder": 1.6}, {"disorder": 0.9}])
@pytest.mark.parametrize("readout", ["signs", "normal"])
def test_odd_in_the_drive(settings: dict[str, Any], readout: Any):
    right, left = (mean_field(4.0, drive=x, readout=readout, **settings) for x in (0.4, -0.4))
    assert left.estimate == pytest.approx(-right.estimate, rel=1e-10)
    assert left.field == pytest.approx(-right.field, rel=1e-10)
    assert left.variance == pytest.approx(right.variance, rel=1e-10, abs=1e-15)


def test_bias_times_balance_has_a_limit():
    """Large b: m* with E[φ(m* + √Δ z)] = x; for erf that is a closed average."""
    found = mean_field(1e6, noise=1.0, drive=0.4, nonlinearity="erf")
    scale = np.sqrt(np.pi) / 2
    limit = erfinv(0.4) * np.sqrt(1 + scale**2) / scale
    assert found.bias * 1e6 == pytest.approx(limit, rel=1e-5)
    closed = 1 / np.sqrt(1 + np.pi / 4)  # E[φ'] at m = 0
    assert mean_field(1.0, noise=1.0, nonlinearity="erf").gain == pytest.approx(closed, rel=1e-12)


def test_linear_network():
    """Δ(ω) = (σ² + g² x̂² 2π δ(ω)) / (1 + ω² - g²), all in closed form."""
    g, noise, drive, b = 0.8, 0.5, 0.3, 3.0
    found = mean_field(b, g, noise, drive, nonlinearity="linear")
    rate = np.sqrt(1 - g**2)
    estimate = b * drive / (1 + b)
    frozen = g**2 * estimate**2 / (1 - g**2)
    assert found.estimate == pytest.approx(estimate, rel=1e-12)
    assert found.frozen_variance == pytest.approx(frozen, rel=1e-9)
    expected = frozen + noise**2 / (2 * rate) * np.exp(-rate * found.lag)
    np.testing.assert_allclose(found.autocovariance, expected, rtol=1e-8)
    np.testing.assert_allclose(found.rate_covariance, expected + estimate**2, rtol=1e-8)
    assert found.gain == pytest.approx(1, rel=1e-12)


def test_normal_readout_by_averages_over_the_whole_current():
    """With w normal h = w m + δ is Gaussian of variance m² + Δ: x̂ = m E[φ'(h)]."""
    found = mean_field(5.0, noise=1.0, drive=0.4, readout="normal")
    whole = found.field**2 + found.variance
    z, p = np.polynomial.hermite_e.hermegauss(120)
    p = p / p.sum()
    h = np.sqrt(whole) * z
    slope = p @ (1 - np.tanh(h) ** 2)
    assert found.estimate == pytest.approx(found.field * slope, rel=1e-8)
    squared = found.variance / whole + (found.field * h / whole) ** 2  # E[w² | h]
    assert found.gain == pytest.approx(p @ (squared * (1 - np.tanh(h) ** 2)), rel=1e-8)
    assert found.rate_covariance[0] == pytest.approx(p @ np.tanh(h) ** 2, rel=1e-8)


def test_hermite_coefficients_give_correlated_averages():
    coefficients = hermite_coefficients(np.tanh, np.array([0.3]), 1.2)[0]
    x, p = np.polynomial.hermite_e.hermegauss(100)
    p = p / p.sum()
    rho = 0.6
    other = rho * x[:, None] + np.sqrt(1 - rho**2) * x
    direct = p @ (np.tanh(0.3 + 1.2 * x)[:, None] * np.tanh(0.3 + 1.2 * other)) @ p
    series = coefficients**2 @ rho ** np.arange(len(coefficients))
    assert series == pytest.approx(direct, rel=1e-9)


def test_zero_mode_of_chaos():
    """Shifting noise-free chaos in time costs nothing: Δ' is an odd wave of energy 0."""
    for disorder in (1.2, 2.0):
        odd, _ = _levels(mean_field(0.0, disorder), odd=True)
        assert odd == pytest.approx(0.0, abs=1e-9)
        assert lyapunov_of_mean_field(mean_field(0.0, disorder)) > 0


def test_lyapunov_exponent_of_states_at_rest():
    for disorder in (0.0, 0.5, 0.9):
        exponent = lyapunov_of_mean_field(mean_field(3.0, disorder))
        assert exponent == pytest.approx(disorder - 1, abs=1e-9)
    resting = mean_field(5.0, disorder=1.1, drive=1.0)
    assert resting.frozen_variance == resting.variance > 0
    slope = np.sqrt(resting.slope_variance)
    assert lyapunov_of_mean_field(resting) == pytest.approx(1.1 * slope - 1, abs=1e-12)
    noisy = [lyapunov_of_mean_field(mean_field(0.0, 1.6, each)) for each in (0.0, 0.5, 1.0)]
    assert noisy[0] > noisy[1] > 0 > noisy[2]  # noise ends chaos


def test_lyapunov_exponent_near_the_onset():
    """λ = (g - 1)² / 2 to leading order (Sompolinsky, Crisanti and Sommers 1988)."""
    found = mean_field(0.0, 1.05, num_lags=16384, lag_step=0.1)
    assert lyapunov_of_mean_field(found) == pytest.approx(0.05**2 / 2, rel=0.2)


@pytest.mark.parametrize(("drive", "beyond"), [(0.0, 1.25), (0.3, 1.05)])
def test_boundary_of_chaos(drive: float, beyond: float):
    boundary = chaos_boundary(drive, 10.0)
    assert boundary == pytest.approx(1.0, abs=1e-8) if drive == 0 else boundary > 1.1
    below, above = (mean_field(10.0, f * boundary, drive=drive) for f in (0.98, beyond))
    assert below.variance == below.frozen_variance
    assert above.variance > 1.0001 * above.frozen_variance
    assert lyapunov_of_mean_field(below) < 0 < lyapunov_of_mean_field(above)


def test_boundary_of_other_neurons():
    assert chaos_boundary(nonlinearity=lambda h: np.tanh(2 * h)) == pytest.approx(0.5, abs=1e-8)
    assert np.isinf(chaos_boundary(nonlinearity="linear"))


def test_a_short_grid_is_reported():
    with pytest.warns(RuntimeWarning, match="has not decayed within 5 membrane time constants"):
        mean_field(0.0, 1.3, num_lags=200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"balance": -1.0}, "balance=-1.0 must be finite and at least 0"),
        ({"disorder": np.nan}, "disorder=nan must be finite and at least 0"),
        ({"noise": -0.1}, "noise=-0.1 must be finite and at least 0"),
        ({"drive": np.inf}, "drive=inf must be finite"),
        ({"nonlinearity": "relu"}, "nonlinearity='relu' must be one of erf, linear, tanh"),
        ({"nonlinearity": np.cosh}, "must be odd: at"),
        ({"nonlinearity": np.sum}, "must return finite numbers in the shape"),
        ({"num_lags": 7}, "num_lags=7 must be even and at least 4"),
        ({"lag_step": 0}, "lag_step=0 must be positive and finite"),
        ({"nonlinearity": "linear", "disorder": 1.1, "noise": 0.1}, "disorder=1.1 has no station"),
        ({"nonlinearity": np.sinh, "disorder": 1.1}, "disorder=1.1 has no stationary state"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        mean_field(**{"balance": 1.0, **arguments})


@pytest.mark.parametrize("name", ["readout", "solver"])
def test_bad_choices(name: str):
    wrong: Callable[..., MeanField] = getattr(mean_field, "__wrapped__", mean_field)
    with pytest.raises(ValueError, match=f"{name}='other' must be"):
        wrong(1.0, **{name: "other"})
