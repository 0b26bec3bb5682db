"""The delayed loop against numerical integrals, the table of its thresholds, and its limits."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from neurofb.theory import (
    correlation_transform,
    critical_balance,
    delay_integral,
    noise_gain,
    optimal_balance,
    tracking_error,
    tracking_transfer,
)

DELAYS = np.array([0.01, 0.05, 0.1, 0.3, 1.0, 3.0])
LOOPS = [(0.0, 3.0), (0.3, 0.5), (0.5, 20.0), (0.999, 1.0), (1.0, 2.0), (2.0, 1.0), (5.0, 0.1)]
LOOPS += [(14.0, 0.1), (30.0, 0.05), (0.2, 60.0)]


def integral(loop_gain: float, delay: float, rate: float | None = None) -> float:
    """Return ∫ dω/2π of the loop's gain, times the spectrum of e^(-rate |τ|) if there is a rate."""

    def power(w: float) -> float:
        spectrum = 1.0 if rate is None else 2 * rate / (rate**2 + w**2)
        return spectrum / abs(1 + 1j * w + loop_gain * np.exp(-1j * w * delay)) ** 2

    highest = 4000.0 / max(delay, 1.0)
    edges = np.concatenate([np.linspace(0, 60, 301), np.geomspace(60, highest, 200)[1:]])
    edges = edges[edges <= highest]
    inside = sum(quad(power, a, b, epsabs=0, epsrel=1e-9, limit=400)[0] for a, b in pairwise(edges))
    beyond = 1 / edges[-1] if rate is None else 2 * rate / (3 * edges[-1] ** 3)
    return (inside + beyond) / np.pi


@pytest.mark.parametrize(("loop_gain", "delay"), LOOPS)
def test_closed_form_of_the_delay_integral(loop_gain: float, delay: float):
    numerical = integral(loop_gain, delay)
    assert float(delay_integral(loop_gain, delay)) == pytest.approx(numerical, rel=1e-6)


@pytest.mark.parametrize(("loop_gain", "delay"), LOOPS)
def test_noise_with_a_memory_through_the_loop(loop_gain: float, delay: float):
    """∫ K(τ) e^(-s|τ|) dτ is twice the Laplace transform."""
    for rate in (1.0, 2.0, 7.5):
        closed = 2 * correlation_transform(np.array([rate]), loop_gain, delay)[0]
        assert closed == pytest.approx(integral(loop_gain, delay, rate), rel=1e-6)


def test_cases_of_the_delay_integral_without_functions():
    gains, delays = np.linspace(0, 50, 11), np.linspace(0, 40, 9)
    np.testing.assert_allclose(delay_integral(gains, 0.0), 1 / (2 * (1 + gains)), rtol=1e-14)
    np.testing.assert_allclose(delay_integral(1.0, delays), (1 + delays) / 4, rtol=1e-14)
    np.testing.assert_allclose(delay_integral(0.0, delays), 0.5, rtol=1e-14)
    near = delay_integral(1 + np.array([-1e-9, 1e-9]), 2.0)
    np.testing.assert_allclose(near, 0.75, rtol=1e-8)
    assert delay_integral(0.6, 1e5) == pytest.approx(1 / (2 * 0.8))  # no overflow: 1 / 2√(1 - B²)


def test_table_of_critical_and_optimal_balance():
    balance, frequency = critical_balance(DELAYS)
    table = [157.717, 32.0556, 16.3506, 5.8902, 2.2618, 1.2923]
    np.testing.assert_allclose(balance, table, rtol=3e-5)
    table = [157.714, 32.0399, 16.3200, 5.8047, 2.0288, 0.8186]
    np.testing.assert_allclose(frequency, table, rtol=1e-4)
    best = optimal_balance(DELAYS)
    np.testing.assert_allclose(best, [73.645, 14.518, 7.1276, 2.2020, 0.4878, 0.0503], rtol=6e-4)
    table = [0.01504, 0.07007, 0.12879, 0.28662, 0.46037, 0.49938]
    np.testing.assert_allclose(delay_integral(best, DELAYS), table, rtol=3e-4)


def test_the_variance_diverges_at_the_critical_balance_and_stays_infinite():
    critical, _ = critical_balance(DELAYS)
    below = delay_integral(critical * (1 - np.array([[1e-3], [1e-5]])), DELAYS)
    np.testing.assert_allclose(below[1] / below[0], 100, rtol=5e-3)  # as 1 / distance
    beyond = delay_integral(critical * np.array([[1.0], [1.2], [3.0], [5.0]]), DELAYS)
    assert np.all(np.isinf(beyond))  # the formula alone would be positive again for large gains


def test_the_critical_root_is_imaginary():
    balance, frequency = critical_balance(DELAYS)
    root = 1 + 1j * frequency + balance * np.exp(-1j * frequency * DELAYS)
    np.testing.assert_allclose(abs(root) / balance, 0, atol=1e-12)


def test_limits_of_short_delays():
    delay = 1e-6
    critical, frequency = critical_balance(delay)
    best = optimal_balance(delay)
    assert critical * delay == pytest.approx(np.pi / 2, rel=1e-5)
    assert 2 * np.pi / frequency == pytest.approx(4 * delay, rel=1e-5)
    assert best * delay == pytest.approx(0.739085, rel=1e-5)
    assert delay_integral(best, delay) / delay == pytest.approx(1.53192, rel=1e-5)
    assert critical / best == pytest.approx(2.1253, rel=2e-5)
    assert np.isinf(critical_balance(0.0)[0])
    assert np.isinf(optimal_balance(0.0))


def test_no_balance_is_better_than_the_optimal_one():
    best = optimal_balance(DELAYS)
    grid = best * np.linspace(0.5, 1.5, 201)[:, None]
    assert np.all(np.argmin(delay_integral(grid, DELAYS), axis=0) == 100)


def test_the_best_balance_where_the_closed_form_changes_its_branch():
    """At B = 1, ∂I/∂B = 0 reads 2 (d - d³/3) = (1 + d) (1 - d²), or (1 + d)³ = 4."""
    assert optimal_balance(4 ** (1 / 3) - 1) == pytest.approx(1.0, abs=1e-8)


def test_a_gain_divides_the_balance():
    for function in (optimal_balance, lambda *a: critical_balance(*a)[0]):
        np.testing.assert_allclose(function(0.1, np.array([0.5, 1.0])), function(0.1) * [2, 1])


def test_waterbed():
    """Over all frequencies the gain's logarithm is 0 on average (Bode); its peak is near ω_c."""
    w = np.linspace(0, 4000, 2_000_001)
    logarithm = np.log(noise_gain(w, 8.0, 0.1))
    assert abs(np.trapezoid(logarithm, w)) < 0.01 * np.trapezoid(abs(logarithm), w)
    peak = w[np.argmax(logarithm)]
    assert 0.7 < peak / float(critical_balance(0.1)[1]) < 1.3
    assert noise_gain(0.0, 8.0, 0.1) == pytest.approx(1 / 81)
    assert np.all(noise_gain(w[::1000], 8.0) < 1.0)


def test_tracking_of_a_sinusoid():
    """Against the loop integrated in time, Euler with a fine step."""
    gain, delay, omega, step = 6.0, 0.1, 3.0, 1e-4
    held = round(delay / step)
    time = step * np.arange(120_000)
    estimate = np.zeros(len(time))
    drive = gain * np.cos(omega * time)
    for k in range(len(time) - 1):
        past = estimate[k - held] if k >= held else 0.0
        estimate[k + 1] = estimate[k] + step * (drive[k] - estimate[k] - gain * past)
    last = time > time[-1] - 2 * np.pi / omega
    wave = np.exp(-1j * omega * time[last])
    simulated = 2 * np.mean(estimate[last] * wave)
    assert abs(simulated / complex(tracking_transfer(omega, gain, delay)) - 1) < 1e-3
    error = abs(np.cos(omega * time[last]) - estimate[last]).max()
    assert error == pytest.approx(float(tracking_error(omega, gain, delay)), rel=2e-3)


def test_errors_of_tracking():
    w = np.linspace(0, 50, 26)
    direct = abs(1 + 1j * w + 7 * (np.exp(-1j * w * 0.1) - 1)) / abs(
        1 + 1j * w + 7 * np.exp(-1j * w * 0.1)
    )
    np.testing.assert_allclose(tracking_error(w, 7.0, 0.1), direct, rtol=1e-12)
    assert abs(tracking_transfer(10.0, 9.0)) == pytest.approx(0.9 / np.sqrt(2))  # bandwidth 1 + B


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (delay_integral, (-0.1, 1.0), "loop_gain=-0.1 must be finite and at least 0"),
        (delay_integral, (1.0, np.nan), "delay=nan must be finite and at least 0"),
        (critical_balance, (-1.0,), "delay=-1.0 must be finite and at least 0"),
        (critical_balance, (1.0, 0.0), "gain=0.0 must be positive and finite"),
        (optimal_balance, (0.1, -2), "gain=-2 must be positive and finite"),
        (noise_gain, (np.inf, 1.0), "angular_frequency=inf must be finite"),
        (tracking_transfer, (1.0, -1.0), "loop_gain=-1.0 must be finite and at least 0"),
        (tracking_error, (1.0, 1.0, -1.0), "delay=-1.0 must be finite and at least 0"),
        (correlation_transform, (np.array([0.5]), 1.0), "must be finite and at least 1"),
    ],
)
def test_bad_input(function: Any, arguments: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
