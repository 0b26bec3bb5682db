import numpy as np
import pytest
import xarray as xr

from neurofb.measures.growth import growth_rate

STEP = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 300])


def curve(values):
    return xr.DataArray(np.array(values), {"step": STEP}, ("seed", "step"))


def test_growth_after_a_fall_and_pure_decay():
    falls = 1e-7 * np.exp(-1.0 * STEP) + 1e-13 * np.exp(0.05 * STEP)
    decays = 1e-4 * np.exp(-0.03 * STEP)
    found = growth_rate(curve([falls, decays]))
    np.testing.assert_allclose(found.values, [0.05, -0.03], rtol=1e-6)
    assert found.attrs["units"] == "1 / step"


def test_without_two_records_in_the_window_there_is_no_rate():
    jumps = np.where(STEP < 100, 1e-20, 1.0)
    jumps[5] = 1e-7
    assert np.isnan(growth_rate(curve([jumps, np.full(STEP.size, np.nan)]))).all()


def test_bad_windows_are_refused():
    with pytest.raises(ValueError, match="and high="):
        growth_rate(curve([STEP]), low=0.1, high=0.01)
    with pytest.raises(ValueError, match="dim='time' has no coordinate"):
        growth_rate(curve([STEP]), dim="time")
