"""Labels of conditions back to dims, on made-up labels."""

import numpy as np
import pytest
import xarray as xr

from neurofb.unfold import by_condition, configurations, unfold

PATTERN = r"(?P<width>\d+) units, rate (?P<learning_rate>[\d.e-]+)"


def study(*names):
    values = xr.DataArray(np.arange(2.0 * len(names)).reshape(-1, 2), dims=("condition", "seed"))
    coords = {"condition": list(names), "seed": [3, 4], "rule": ("condition", ["x"] * len(names))}
    return xr.Dataset({"loss": values}, coords)


def test_numbers_are_numbers_and_sorted_and_texts_in_their_order():
    found = unfold(study("10 units, rate 1e-3", "9 units, rate 0.01", "other"), PATTERN)
    assert found.loss.dims == ("width", "learning_rate", "seed")
    assert found.width.values.tolist() == [9, 10]
    assert found.learning_rate.values.tolist() == [0.001, 0.01]
    np.testing.assert_array_equal(found.loss.sel(seed=4), [[np.nan, 3], [1, np.nan]])
    assert found.learning_rate.attrs["long_name"] == "learning rate"
    assert "rule" not in found.coords
    found = unfold(study("VGG, b", "MLP, a", "MLP, b"), "(?P<network>.*), (?P<rule>.*)")
    assert found.network.values.tolist() == ["VGG", "MLP"]
    assert found.rule.values.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<colour>.*)", "its groups must be some of network, rule"),
        (".*", "its groups must be some of"),
        ("(?P<rule>x)", "matches no condition; those are: a 1; a 2"),
        ("(?P<rule>a).*", "gives conditions the same name"),
    ],
)
def test_patterns_that_do_not_fit(pattern, message):
    with pytest.raises(ValueError, match=message):
        unfold(study("a 1", "a 2"), pattern)


def test_a_study_without_configurations():
    with pytest.raises(ValueError, match="no attribute neurofb_config"):
        configurations(xr.Dataset())


def test_full_rank_has_no_number():
    rules = xr.Dataset(coords={"rule": ["LDFA full, local", "dLDFA r=10"]})
    np.testing.assert_array_equal(by_condition(rules).feedback_rank, [np.nan, 10])
