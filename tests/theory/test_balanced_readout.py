"""Fluctuations of finite networks: closed forms, our tables, and draws of networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neurofb.theory import (
    MeanField,
    critical_balance,
    delay_integral,
    mean_field,
    network_critical_balance,
    readout_spectrum,
    readout_variance,
    total_error,
)

NOT_THE_LAGS: dict[str, Any] = {"num_lags": 4, "lag_step": 100.0}


def deviation(state: MeanField, num_units: int, delay: float = 0.0, **options: Any) -> float:
    """Return the standard deviation of the readout."""
    return float(np.sqrt(readout_variance(state, num_units, delay, **options)))


@pytest.mark.parametrize("balance", [0.0, 0.7, 5.0, 200.0])
@pytest.mark.parametrize("readout", ["signs", "normal"])
def test_linear_network_with_noise(balance: float, readout: Any):
    """Var = σ² / (2 N (1 + b)), and with a delay σ² I / N; for every readout of variance 1."""
    state = mean_field(balance, noise=0.6, nonlinearity="linear", readout=readout)
    exact = 0.6**2 / (2 * 50 * (1 + balance))
    assert readout_variance(state, 50).item() == pytest.approx(exact, rel=1e-12)
    delayed = 0.6**2 / 50 * delay_integral(balance, 0.004)
    assert readout_variance(state, 50, 0.004).item() == pytest.approx(float(delayed), rel=1e-12)


def test_linear_network_with_disorder():
    """x̂ is driven by N independent currents of spectrum g² C + σ²; a short formula without delay.

    (1 + ω²) S = σ² (1 + ω²) / (1 - g² + ω²), over (1 + B)² + ω²: two Lorentzians.
    """
    g, noise, b = 0.9, 0.5, 4.0
    state = mean_field(b, g, noise, 0.3, nonlinearity="linear")
    slow, fast = np.sqrt(1 - g**2), 1 + b
    share = (1 - slow**2) / (fast**2 - slow**2)
    exact = noise**2 * (share / (2 * slow) + (1 - share) / (2 * fast))
    moving = readout_variance(state, 1, frozen=False).item()
    assert moving == pytest.approx(exact, rel=1e-6)
    frozen = readout_variance(state, 1).item() - moving
    assert frozen == pytest.approx(state.frozen_variance / (1 + b) ** 2, rel=1e-6)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 2.0])
def test_no_disorder_is_the_limit_of_little(delay: float):
    """The closed sum over powers against the integral over frequencies."""
    none, little = (mean_field(0.9 if delay == 2 else 12.0, g, 1.2, 0.4) for g in (0.0, 1e-7))
    closed, integrated = (readout_variance(each, 1, delay).item() for each in (none, little))
    assert integrated == pytest.approx(closed, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [{"noise": 0.75}, {"disorder": 1.8}, {"disorder": 1.2, "noise": 1.0}]
)
def test_the_spectrum_adds_up_to_the_variance(settings: dict[str, Any]):
    state = mean_field(10.0, **settings, drive=0.1, num_lags=16384)
    w = np.arange(0, 1000, 0.01)
    spectrum = readout_spectrum(state, 7, w, 0.05)
    total = np.trapezoid(spectrum, w) / np.pi + spectrum[-1] * w[-1] / np.pi  # tail 1/ω²
    expected = readout_variance(state, 7, 0.05, frozen=False).item()
    assert total == pytest.approx(expected, rel=2e-5)


def test_the_resonance_at_the_threshold_is_resolved():
    """Noise and disorder, 0.01 % below the critical balance: against a fine sum around ω_c."""
    settings: dict[str, Any] = {"disorder": 1.2, "noise": 0.75}
    critical, frequency = critical_balance(0.1, mean_field(0.0, **settings).gain)
    state = mean_field(0.9999 * float(critical), **settings)
    w = np.concatenate([np.arange(0, 1000, 0.01), float(frequency) + np.arange(-1, 1, 1e-5)])
    w = np.unique(w)
    spectrum = readout_spectrum(state, 1, w, 0.1)
    total = np.trapezoid(spectrum, w) / np.pi
    assert readout_variance(state, 1, 0.1, frozen=False).item() == pytest.approx(total, rel=1e-4)


def test_noise_at_the_settings_of_figure_1d():
    expected = [8.614e-3, 6.256e-3, 3.856e-3, 2.321e-3, 1.292e-3]
    found = [deviation(mean_field(b, noise=0.75, drive=0.2), 1400) for b in (1.0, 3, 10, 30, 100)]
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_chaos_in_our_tables():
    found = [deviation(mean_field(b, 2.5), 1000) for b in (1.0, 3.0, 10.0, 30.0)]
    np.testing.assert_allclose(found, [1.833e-2, 1.204e-2, 5.442e-3, 2.113e-3], rtol=4e-4)
    found = [deviation(mean_field(b, 1.6), 1000) for b in (0.0, 1.0, 10.0)]
    np.testing.assert_allclose(found, [1.962e-2, 1.230e-2, 2.802e-3], rtol=4e-4)


def test_chaos_with_a_drive_in_our_tables_is_that_within_a_network():
    """The tables of our notes leave out the frozen part, which is larger."""
    states = [mean_field(b, 1.6, 0.0, 0.2) for b in (1.0, 3.0, 10.0, 30.0)]
    found = [deviation(each, 1000, frozen=False) for each in states]
    np.testing.assert_allclose(found, [1.070e-2, 5.23e-3, 1.80e-3, 6.1e-4], rtol=6e-3)
    assert all(deviation(each, 1000) > 1.15 * low for each, low in zip(states, found, strict=True))
    both = mean_field(10.0, 1.6, 0.75, 0.2)
    assert deviation(both, 1000, frozen=False) == pytest.approx(4.78e-3, rel=6e-3)


def test_delay_in_our_tables():
    state = mean_field(1.0, noise=0.75)
    critical = float(critical_balance(0.1, state.gain)[0])
    assert state.gain == pytest.approx(0.8114, abs=6e-5)
    assert critical == pytest.approx(20.15, abs=6e-3)
    shares = [0.1, 0.2, 0.45, 0.8, 0.9, 0.95]
    found = [deviation(mean_field(f * critical, noise=0.75), 1400, 0.1) for f in shares]
    expected = [7.78e-3, 6.65e-3, 5.98e-3, 7.86e-3, 1.055e-2, 1.455e-2]
    np.testing.assert_allclose(found, expected, rtol=8e-4)
    assert np.isinf(deviation(mean_field(1.05 * critical, noise=0.75), 1400, 0.1))


def test_noise_stabilises_a_delayed_loop():
    noise = [0.75, 1.0, 1.25, 1.5, 2.0, 3.0]
    states = [mean_field(20.0, noise=each, drive=0.2) for each in [0.5, *noise]]
    errors = [total_error(each, 1400, 0.1).item() for each in states]
    assert np.isinf(errors[0])
    np.testing.assert_allclose(
        errors[1:], [0.0199, 0.0170, 0.0178, 0.0190, 0.0220, 0.0283], atol=6e-5
    )
    critical = [network_critical_balance(0.1, noise=each) for each in (0.0, 0.5, 1.0, 2.0)]
    assert np.all(np.diff(critical) > 0)
    assert network_critical_balance(0.1, 2.5) > 2 * critical[0]  # chaos raises it too
    assert critical[0] == pytest.approx(float(critical_balance(0.1)[0]), rel=1e-9)


def fixed_points(num_units: int, balance: float, drive: float, num_networks: int) -> np.ndarray:
    """Return the estimates of networks without noise with normal readouts, by Newton's method."""
    w = np.random.default_rng(0).normal(size=(num_networks, num_units))
    m = np.full(num_networks, 0.3)
    for _ in range(40):
        rates = np.tanh(w * m[:, None])
        gain = (w**2 * (1 - rates**2)).mean(axis=1)
        m = m - (m - balance * (drive - (w * rates).mean(axis=1))) / (1 + balance * gain)
    return (w * np.tanh(w * m[:, None])).mean(axis=1)


def test_networks_with_normal_readouts_differ():
    estimates = fixed_points(400, 5.0, 0.4, num_networks=4000)
    state = mean_field(5.0, drive=0.4, readout="normal", **NOT_THE_LAGS)
    variance = readout_variance(state, 400).item()
    assert estimates.mean() == pytest.approx(state.estimate, abs=1.5 / 400)
    assert estimates.var() == pytest.approx(variance, rel=3 * np.sqrt(2 / 4000))
    assert readout_variance(state, 400, frozen=False) == 0


def test_networks_with_disorder_at_rest_differ():
    """Below the onset of chaos every network has a fixed point of its own."""
    num, balance, g, drive = 150, 2.0, 0.8, 0.5
    generator = np.random.default_rng(1)
    estimates = []
    for _ in range(300):
        weights = g * generator.normal(size=(num, num)) / np.sqrt(num)
        h = np.zeros(num)
        for _ in range(150):
            rates = np.tanh(h)
            h += 0.25 * (weights @ rates + balance * (drive - rates.mean()) - h)
        estimates.append(np.tanh(h).mean())
    state = mean_field(balance, g, 0.0, drive)
    expected = deviation(state, num)
    assert np.mean(estimates) == pytest.approx(
        state.estimate, abs=3 * expected / np.sqrt(300) + 1e-3
    )
    assert np.std(estimates) == pytest.approx(expected, rel=3 / np.sqrt(600) + 0.02)


def test_shapes():
    state = mean_field(5.0, noise=1.0)
    num, delay = np.array([[100], [400]]), np.array([0.0, 0.1, 0.0])
    found = readout_variance(state, num, delay)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[0], 4 * found[1])
    assert found[0, 0] == found[0, 2] == readout_variance(state, 100)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (readout_variance, (0,), "num_units=0.0 must be positive and finite"),
        (total_error, (10, -0.1), "delay=-0.1 must be finite and at least 0"),
        (readout_spectrum, (10, np.ones(2), 1.0), "the network oscillates, its loop gain"),
    ],
)
def test_bad_input(function: Callable[..., Any], arguments: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        function(mean_field(10.0, noise=0.5), *arguments)
