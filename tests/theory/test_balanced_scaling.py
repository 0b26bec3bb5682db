"""Exponents of the error over balance and size, and the balance of least error."""

from typing import Any

import numpy as np
import pytest

from neurofb.theory import (
    mean_field,
    network_critical_balance,
    optimal_balance,
    optimal_total,
    readout_variance,
    scaling_law,
    total_error,
)


def slope(x: np.ndarray, y: Any) -> float:
    """Return the exponent of a power law."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def test_exponents_over_the_balance():
    balance = np.array([300.0, 1000.0, 3000.0])
    noise = [readout_variance(mean_field(b, noise=0.75), 1000) for b in balance]
    chaos = [readout_variance(mean_field(b, 2.0), 1000) for b in balance]
    assert slope(balance, noise) / 2 == pytest.approx(-0.5, abs=0.01)
    assert slope(balance, chaos) / 2 == pytest.approx(-1.0, abs=0.01)


@pytest.mark.parametrize(
    ("law", "scale", "bias", "std", "rmse"),
    [
        ("fixed", 5.0, 0.0, -0.5, None),
        ("sqrt", 1.0, -0.5, -0.75, None),
        ("proportional", 0.1, -1.0, -1.0, -1.0),
        (lambda num_units: 0.1 * num_units, 1.0, -1.0, -1.0, -1.0),
    ],
)
def test_exponents_over_the_number_of_neurons(
    law: Any, scale: float, bias: float, std: float, rmse: float | None
):
    num = np.geomspace(1e4, 1e5, 3)
    curve = scaling_law(law, num, scale=scale, noise=0.75, drive=0.2)
    assert slope(num, curve.bias) == pytest.approx(bias, abs=0.02)
    assert slope(num, curve.std) == pytest.approx(std, abs=0.02)
    if rmse is not None:
        assert slope(num, curve.rmse) == pytest.approx(rmse, abs=0.02)


def test_errors_over_the_number_of_neurons_in_our_tables():
    settings: dict[str, Any] = {"noise": 0.75, "drive": 0.2}
    curve = scaling_law("fixed", np.array([50, 1600]), scale=5, **settings)
    np.testing.assert_allclose(curve.rmse, [4.83e-2, 4.01e-2], rtol=2e-3)
    np.testing.assert_allclose(curve.std, [2.73e-2, 4.8e-3], rtol=8e-3)
    curve = scaling_law("sqrt", np.array([50, 1600]), **settings)
    np.testing.assert_allclose(curve.rmse, [3.82e-2, 6.33e-3], rtol=2e-3)
    curve = scaling_law("proportional", np.array([50, 200, 800, 1600]), scale=0.1, **settings)
    np.testing.assert_allclose(curve.rmse, [4.83e-2, 1.389e-2, 3.61e-3, 1.82e-3], rtol=2e-3)
    assert slope(curve.num_units[1:], curve.rmse[1:]) == pytest.approx(-1.0, abs=0.05)


def test_the_best_balance_moves_from_the_least_noise_to_the_threshold():
    settings: dict[str, Any] = {"noise": 1.0, "drive": 0.2}
    critical = network_critical_balance(0.1, **settings)
    num = [10, 1000, 10**5, 10**8]
    best, errors = np.array([optimal_total(each, 0.1, **settings) for each in num]).T
    assert np.all(np.diff(best) > 0)
    assert np.all(np.diff(errors) < 0)
    assert 0.97 * critical < best[-1] < critical
    floor = mean_field(critical, **settings).bias
    assert floor < errors[-1] < 1.05 * floor
    unbiased, _ = optimal_total(1000, 0.1, noise=1.0)
    gain = mean_field(unbiased, noise=1.0).gain
    assert unbiased == pytest.approx(float(optimal_balance(0.1, gain)), rel=0.02)
    for balance in (0.9 * best[1], 1.1 * best[1]):
        assert total_error(mean_field(balance, **settings), 1000, 0.1) > errors[1]


def test_bad_laws_and_delays():
    with pytest.raises(ValueError, match="law='cubic' must be one of fixed, sqrt, proportional"):
        scaling_law("cubic", 100)
    with pytest.raises(ValueError, match="scale=0 must be positive and finite"):
        scaling_law("sqrt", 100, scale=0)
    with pytest.raises(ValueError, match=r"delay=0\.0 must be positive and finite"):
        network_critical_balance(0.0)
    with pytest.raises(ValueError, match="num_units=-5 must be positive and finite"):
        optimal_total(-5, 0.1, noise=1.0)
