"""Frequencies of oscillations, of sinusoids whose frequency is known."""

import numpy as np
import pytest
import xarray as xr

from neurofb.measures import oscillation_frequency

TIME = np.arange(4000) * 0.01


@pytest.mark.parametrize("rate", [2.0, 6.283, 16.32, 57.3])
def test_sinusoids_between_the_points_of_the_spectrum(rate):
    phases = np.linspace(0, 6, 5)
    trace = 0.4 * np.sin(rate * TIME[:, None] + phases) + 3.0
    found = oscillation_frequency(xr.DataArray(trace, {"time": TIME}, ("time", "trial")))
    assert found.dims == ("trial",)
    np.testing.assert_allclose(found, rate, atol=2 * np.pi / 40 / 50)


def test_a_square_wave_has_its_fundamental_and_noise_hides_nothing():
    noise = np.random.default_rng(0).normal(size=TIME.size)
    trace = np.sign(np.sin(5.0 * TIME)) + noise
    found = oscillation_frequency(xr.DataArray(trace, {"time": TIME}, ("time",)))
    assert float(found) == pytest.approx(5.0, rel=2e-3)


def test_a_constant_has_no_frequency():
    trace = xr.DataArray(np.ones(100), {"time": np.arange(100.0)}, ("time",))
    assert np.isnan(oscillation_frequency(trace))


@pytest.mark.parametrize("time", [np.arange(5.0), np.arange(20.0) ** 2, -np.arange(20.0)])
def test_other_times_are_refused(time):
    trace = xr.DataArray(np.ones(time.size), {"time": time}, ("time",))
    with pytest.raises(ValueError, match="equal rising steps"):
        oscillation_frequency(trace)
