"""Simulated balanced networks against numbers of the mean field, and their exponents.

The numbers are those of the mean field of infinitely many neurons with the closed loop's
fluctuations (our derivation), as computed apart from this library.
"""

import math

import numpy as np
import pytest

from neurofb.dynamics import BalancedNetwork, balanced_statistics

RUNS = ("matrix", "trial")


def of_runs(found):
    """Return bias, its standard error and the spread in time, over matrices and trials."""
    count = found.sizes["matrix"] * found.sizes["trial"]
    error = found.bias.std(RUNS, ddof=1) / np.sqrt(count)
    return found.bias.mean(RUNS).values, error.values, spread(found)


def spread(found):
    return np.sqrt((found["std"] ** 2).mean(RUNS)).values


def free(num_units, noise=0.75):
    """Return h as noise alone scatters it: a start that needs a short burn-in."""
    return noise * math.sqrt(0.5) * np.random.default_rng(1).standard_normal(num_units)


@pytest.mark.parametrize(
    ("balances", "step", "duration", "bias", "std"),
    [
        ((1, 3, 10), 0.005, 12.0, (0.11053, 0.05848, 0.02213), (8.614e-3, 6.256e-3, 3.856e-3)),
        ((30, 100), 5e-4, 1.5, (0.00798, 0.00246), (2.321e-3, 1.292e-3)),
    ],
)
def test_noise_gives_the_bias_and_the_spread_of_the_mean_field(balances, step, duration, bias, std):
    networks = [BalancedNetwork(num_units=1400, balance=b, noise=0.75) for b in balances]
    found = balanced_statistics(
        networks,
        0.2,
        duration=duration,
        time_step=step,
        burn_in=1.0,
        num_trials=24,
        start=free(1400),
    )
    mean, error, std_found = of_runs(found)
    assert np.all(np.abs(mean - bias) < 3 * error)
    assert np.all(error < 0.03 * np.array(bias))
    np.testing.assert_allclose(std_found, std, rtol=0.05)


def test_error_falls_with_the_number_of_neurons_as_fast_as_the_balance_grows():
    laws = {"b = 5": lambda n: 5.0, "b = √N": math.sqrt, "b = N/10": lambda n: n / 10}
    spreads, errors = {}, {}
    for law, balance in laws.items():
        for num_units in (200, 1600):
            network = BalancedNetwork(num_units=num_units, balance=balance(num_units), noise=0.75)
            step = 0.05 / network.balance
            found = balanced_statistics(
                network,
                0.2,
                duration=1600 * step,
                time_step=step,
                burn_in=800 * step,
                num_trials=20,
                start=free(num_units),
                seed=num_units,
            )
            spreads[law, num_units] = spread(found)
            errors[law, num_units] = np.sqrt((found.rmse**2).mean()).item()
    slopes = [
        np.log(of[law, 1600] / of[law, 200]) / np.log(8)
        for of, law in ((spreads, "b = 5"), (spreads, "b = √N"), (errors, "b = N/10"))
    ]
    np.testing.assert_allclose(slopes, [-0.5, -0.75, -1], atol=0.05)
    assert errors["b = 5", 1600] > 0.85 * errors["b = 5", 200]  # a bias stays
    assert errors["b = N/10", 1600] == pytest.approx(1.82e-3, rel=0.06)


def test_delayed_feedback_oscillates_above_the_critical_balance_at_its_frequency():
    # d = 0.1, σ = 0.75: gain 0.8114, critical loop gain 16.3506 at ω = 16.32
    critical = 16.3506 / 0.8114
    networks = [
        BalancedNetwork(num_units=400, balance=share * critical, noise=0.75, delay=0.1)
        for share in (0.45, 0.8, 1.2)
    ]
    found = balanced_statistics(
        networks,
        duration=25.0,
        time_step=0.002,
        burn_in=4.0,
        num_trials=6,
        segment=25.0,
        start=free(400),
    )
    std = spread(found) * math.sqrt(400 / 1400)  # page: 1400 neurons
    np.testing.assert_allclose(std[:2], [5.98e-3, 7.86e-3], rtol=0.1)
    assert spread(found)[2] == pytest.approx(0.577, rel=0.03)
    spectrum = found.spectrum.mean(RUNS)
    peak = spectrum.angular_frequency.values[spectrum[2].argmax("angular_frequency")]
    assert peak == pytest.approx(16.32, rel=0.02)
    width = float(spectrum.angular_frequency[1])
    near = spectrum.sel(angular_frequency=slice(15, 18)).sum("angular_frequency") * width / np.pi
    share = near.values / spread(found) ** 2
    assert share[0] < 0.2 < 0.9 < share[2]  # below, the power is spread out


@pytest.mark.slow
def test_chaos_is_suppressed_as_the_mean_field_says():
    # the variance differs widely among matrices: many small ones tell more than a few large ones
    theory = np.array([1.833e-2, 1.204e-2, 5.442e-3]) * np.sqrt(1000 / 250)
    networks = [BalancedNetwork(num_units=250, balance=b, disorder=2.5) for b in (1, 3, 10)]
    found = balanced_statistics(
        networks, duration=14.0, time_step=0.005, burn_in=6.0, num_trials=4, num_matrices=32, seed=5
    )
    variance = (found.rmse**2).mean("trial")  # the mean is known to be zero
    mean = variance.mean("matrix").values
    error = variance.std("matrix", ddof=1).values / np.sqrt(32)
    assert np.all(abs(mean - theory**2) < 4 * error)
    assert np.all(error < 0.15 * mean)
    np.testing.assert_allclose(np.sqrt(mean / mean[0]), theory / theory[0], rtol=0.1)


@pytest.mark.slow
def test_noise_and_chaos_together():
    network = BalancedNetwork(num_units=1000, balance=10.0, disorder=1.6, noise=0.75)
    found = balanced_statistics(
        network, 0.2, duration=16.0, time_step=0.005, burn_in=5.0, num_trials=8, num_matrices=2
    )
    mean, _, std = of_runs(found)
    assert mean == pytest.approx(0.02991, rel=0.05)
    assert std == pytest.approx(4.78e-3, rel=0.08)
