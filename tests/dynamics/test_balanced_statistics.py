"""Moments and spectra of balanced networks: those of the course in time, and of a known process."""

from functools import partial

import numpy as np
import pytest
import torch

from neurofb.dynamics import BalancedNetwork, balanced_statistics, simulate_balanced
from neurofb.dynamics.balanced_statistics import Spectrum

NOISY = BalancedNetwork(num_units=30, balance=3.0, noise=0.75)
EDGES = ((0, 33), (33, 67), (67, 100))
simulate = partial(simulate_balanced, duration=1.0, time_step=0.01)
statistics = partial(balanced_statistics, duration=1.0, time_step=0.01)


def test_statistics_are_the_moments_of_the_course():
    networks = [NOISY, BalancedNetwork(num_units=30, balance=1.0, noise=0.2, delay=0.02)]
    options = {"num_trials": 3, "num_matrices": 2, "burn_in": 0.2}
    course = simulate(networks, [0.2, np.sin], **options)
    error = (course.input_signal - course.estimate).astype(float).transpose(*course.estimate.dims)
    for chunk in (9, 1000):
        found = statistics(networks, [0.2, np.sin], **options, chunk=chunk)
        assert found.rmse.dims == ("condition", "matrix", "trial")
        np.testing.assert_allclose(found.bias, error.mean("time"), atol=1e-9)
        np.testing.assert_allclose(found["std"], error.std("time"), atol=1e-8)
        np.testing.assert_allclose(found.rmse, np.sqrt((error**2).mean("time")), atol=1e-8)
        parts = statistics(networks, [0.2, np.sin], **options, chunk=chunk, num_windows=3)
        assert parts.rmse.dims == ("condition", "matrix", "trial", "time")
        np.testing.assert_allclose(
            parts["std"], np.stack([error[..., a:b].std("time") for a, b in EDGES], -1), atol=1e-8
        )
        np.testing.assert_allclose(parts.time, [error.time[a:b].mean() for a, b in EDGES])
    ramp = statistics(NOISY, balance=lambda t: 1 + t, num_windows=2)
    np.testing.assert_allclose(ramp.balance, [1.245, 1.745])


def test_spectrum_integrates_to_the_variance_and_is_that_of_a_filtered_noise():
    network = BalancedNetwork(num_units=10, balance=2.0, noise=1.0, nonlinearity="linear")
    found = balanced_statistics(
        network, duration=60.0, time_step=0.02, num_trials=40, burn_in=3.0, segment=20.0
    )
    spectrum = found.spectrum.mean(("matrix", "trial"))
    width = float(spectrum.angular_frequency[1])
    assert width == pytest.approx(2 * np.pi / 20)
    variance = float((found["std"] ** 2).mean())
    assert float(spectrum.sum() * width / np.pi) == pytest.approx(variance, rel=0.05)
    slow = spectrum.sel(angular_frequency=slice(0.5, 8))
    lorentzian = 1 / 10 / (9 + slow.angular_frequency**2)
    assert abs(slow / lorentzian - 1).mean() < 0.12
    assert abs(slow.mean() / lorentzian.mean() - 1) < 0.05
    values = torch.randn(500, 2, dtype=torch.float64)
    whole, pieces = Spectrum(64, 0.1), Spectrum(64, 0.1)
    whole.add(values)
    for piece in values.split(37):
        pieces.add(piece)
    torch.testing.assert_close(whole.mean(), pieces.mean())
    assert whole.num_segments == pieces.num_segments == 14
    shifted = Spectrum(64, 0.1)
    shifted.add(values + 5.0)
    torch.testing.assert_close(shifted.mean(), whole.mean())
