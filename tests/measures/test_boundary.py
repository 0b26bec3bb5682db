import numpy as np
import pytest
import xarray as xr

from neurofb.measures.boundary import distance_to_line, failing_boundary

FRACTIONS = [0.0, 0.1, 0.3, 1.0]


def failed(rows):
    return xr.DataArray(np.array(rows) == 1, {"hidden_flips": FRACTIONS}, ("seed", "hidden_flips"))


def test_the_boundary_lies_between_the_last_success_and_the_first_failure():
    found = failing_boundary(failed([[0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]]), "hidden_flips")
    np.testing.assert_allclose(found["boundary"], [0.2, 0.65, 0.05])
    np.testing.assert_allclose(found["boundary_low"], [0.1, 0.3, 0.0])
    np.testing.assert_allclose(found["boundary_high"], [0.3, 1.0, 0.1])


def test_all_or_nothing():
    found = failing_boundary(failed([[0, 0, 0, 0], [1, 1, 1, 1]]), "hidden_flips")
    np.testing.assert_allclose(found["boundary"], [1.0, 0.0])


def test_a_dim_without_order_is_refused():
    with pytest.raises(ValueError, match="dim='seed' needs a coordinate"):
        failing_boundary(failed([[0, 0, 0, 0]]), "seed")


def test_distances_to_a_parabola():
    x = np.linspace(0, 1, 2001)
    y = 1 - x**2
    points = np.array([0.3, 0.7]), np.array([0.75, 0.75])
    along_x, along_y = distance_to_line(*points, x, y)
    np.testing.assert_allclose(along_x, points[0] - 0.5, atol=1e-6)
    np.testing.assert_allclose(along_y, points[1] - (1 - points[0] ** 2), atol=1e-6)


def test_level_parts_count_with_their_nearest_point_and_beyond_the_ends_there_is_none():
    line = np.array([0.0, 0.4, 0.6, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    along_x, along_y = distance_to_line(
        np.array([0.2, 0.45, 0.9, 0.5]), np.array([1.0, 1.0, 0.0, 1.2]), *line
    )
    np.testing.assert_allclose(along_x, [0.0, 0.05, 0.0, np.nan], atol=1e-12)
    np.testing.assert_allclose(along_y, [0.0, 0.25, 0.0, 0.7], atol=1e-12)
    with pytest.raises(ValueError, match="never rises"):
        distance_to_line(np.ones(1), np.ones(1), np.arange(3.0), np.arange(3.0))
