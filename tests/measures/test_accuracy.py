"""Accuracies against a reference, and the rank that is enough."""

import numpy as np
import pytest
import xarray as xr

from neurofb.measures.accuracy import against_reference, last_value, sufficient_rank
from neurofb.measures.statements import statements

BP = xr.DataArray([0.9, 0.8], {"seed": [0, 1]}, ("seed",))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.89, 0.81], "within"),
        ([0.88, 0.78], "behind"),
        ([0.92, 0.82], "ahead"),
        ([0.90, 0.78], "mixed"),
        ([0.90, np.nan], "mixed"),
        ([np.nan, np.nan], ""),
    ],
)
def test_verdict_of_one_point(values, verdict):
    accuracy = xr.DataArray([values], {"rule": ["a"], "seed": [0, 1]}, ("rule", "seed"))
    found = against_reference(accuracy, BP)
    assert found.verdict.item() == verdict
    np.testing.assert_allclose(found.difference[0], 100 * (np.array(values) - BP.values))


def test_seeds_are_paired_by_label():
    found = against_reference(xr.DataArray([0.5, 0.5], {"seed": [1, 0]}, ("seed",)), BP)
    np.testing.assert_allclose(found.difference.sel(seed=[0, 1]), [-40, -30])
    assert float(found.sd) == 0
    assert float(found.sd_difference) == pytest.approx(np.sqrt(50))


def test_one_seed_gives_no_verdict():
    one = BP.isel(seed=[0])
    assert against_reference(one, one).verdict.item() == "mixed"


def test_last_value_of_shorter_runs():
    nan = np.nan
    curve = xr.DataArray([[1, 2, 3.0], [1, 2, nan], [1, nan, 3], [nan] * 3], dims=("run", "epoch"))
    np.testing.assert_array_equal(last_value(curve), [3, 2, 3, nan])


def test_rank_that_is_enough_is_the_smallest_within_a_point():
    accuracy = xr.DataArray(
        [[0.5, 0.79], [0.89, 0.5], [0.5, 0.8]],
        {"rank": [1, 2, 4], "seed": [0, 1]},
        ("rank", "seed"),
    )
    np.testing.assert_array_equal(sufficient_rank(accuracy, BP), [2, 1])
    np.testing.assert_array_equal(sufficient_rank(accuracy, BP, 0.005), [np.nan, 4])


def test_no_statement():
    with pytest.raises(ValueError, match="at least one"):
        statements([])
