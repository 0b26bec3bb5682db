import numpy as np
import pytest
import xarray as xr

from neurofb.measures.survival import median_time, survival_curve


def test_kaplan_and_meiers_own_example():
    """Kaplan & Meier 1958: deaths at 0.8, 3.1, 5.4, 9.2; losses at 1.0, 2.7, 7.0, 12.1."""
    times = np.array([0.8, 1.0, 2.7, 3.1, 5.4, 7.0, 9.2, 12.1])
    lost = np.isin(times, (1.0, 2.7, 7.0, 12.1))
    events, left = survival_curve(times, lost)
    assert events.tolist() == [0.8, 3.1, 5.4, 9.2]
    np.testing.assert_allclose(left, np.cumprod([7 / 8, 4 / 5, 3 / 4, 1 / 2]))


def test_without_losses_it_is_the_empirical_distribution():
    times = np.random.default_rng(0).permutation(np.repeat(np.arange(1.0, 8), 3))
    events, left = survival_curve(times, np.zeros(times.size, bool))
    np.testing.assert_allclose(left, [(times > t).mean() for t in events], atol=1e-12)


def test_runs_cut_at_one_end_count_as_infinite_in_the_median():
    rng = np.random.default_rng(1)
    times = rng.exponential(size=(6, 4, 9))
    cut = np.minimum(times, 1.0)
    found = median_time(
        xr.DataArray(cut, dims=("rule", "gain", "seed")),
        xr.DataArray(times > 1.0, dims=("rule", "gain", "seed")),
    )
    middle = np.median(np.where(times > 1, np.inf, times), axis=-1)
    assert found.dims == ("rule", "gain")
    assert np.isinf(middle).any()
    assert np.isfinite(middle).any()
    np.testing.assert_array_equal(found.values, middle)


def test_a_time_that_is_no_time_is_refused():
    with pytest.raises(ValueError, match="censored True"):
        survival_curve(np.array([1.0, np.nan]), np.array([False, True]))
    with pytest.raises(ValueError, match=r"shape \(2,\), censored \(1,\)"):
        survival_curve(np.array([1.0, 2.0]), np.array([True]))
    times = xr.DataArray([1.0], dims="seed")
    with pytest.raises(ValueError, match="dim='run' is none of times' dims: seed"):
        median_time(times, times > 2, dim="run")
