import numpy as np
import pytest
import xarray as xr

from neurofb.plot.size import accuracy_against_size


def test_lines_are_means_where_there_are_values() -> None:
    values = np.array([[[0.5, 0.7, np.nan], [0.7, 0.9, np.nan]], [[np.nan] * 2 + [0.8]] * 2])
    names = {"condition": ["BP, by width", "LDFA, by rank"], "seed": [0, 1], "size": [10, 64, 512]}
    dataset = xr.Dataset({"test_accuracy": (("condition", "seed", "size"), values)}, names)
    axes = accuracy_against_size(dataset).axes[0]
    first, second = axes.lines
    np.testing.assert_allclose(first.get_xydata(), [[10, 0.6], [64, 0.8]])
    np.testing.assert_allclose(second.get_xydata(), [[512, 0.8]])
    assert [len(dots.get_offsets()) for dots in axes.collections] == [4, 2]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["10", "64", "512"]
    with pytest.raises(ValueError, match="no dim 'size'"):
        accuracy_against_size(dataset.isel(size=0))
