"""The surface's figure on made-up numbers: what stands in cells, where seeds and nulls lie."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from neurofb.plot import symmetry_surface
from neurofb.plot.surface import exact_column

MEASURE = "rotational_symmetry"
ROUTES, WIDTHS, RANKS, SEEDS = ["exact", "stepwise", "direct"], [2, 4], [1, 2, 4], [0, 1]
DIMS = ("route", "bottleneck", "rank", "seed")


@pytest.fixture
def surface() -> xr.Dataset:
    """Symmetry of 0.1 × the place in the grid; the last rank of direct lies below its null."""
    values = 0.1 + 0.01 * np.arange(36).reshape(3, 2, 3, 2)
    asked = np.ones((3, 2, 3, 2), bool)
    asked[0] = np.array([[0, 1, 0], [0, 0, 1]])[..., None]
    asked[1] = np.array([[1, 1, 0], [1, 1, 1]])[..., None]
    values = np.where(asked, values, np.nan)
    one = xr.DataArray(values, dims=DIMS, attrs={"long_name": "symmetry"})
    dataset = xr.Dataset(
        {
            MEASURE: one,
            f"{MEASURE}_untrained": 0 * one + 0.05,
            f"{MEASURE}_noise_low": 0 * one + 0.07,
            f"{MEASURE}_noise_high": 0 * one + 0.09,
            f"{MEASURE}_median": one.mean("seed"),
            f"{MEASURE}_num_above_noise": (one > 0).sum("seed"),
            f"{MEASURE}_num_above_untrained": (one > 0).sum("seed") * 0,
            "status": (DIMS, np.where(asked, 1, -1)),
            "test_accuracy": 0 * one + 0.9,
        },
        {"route": ROUTES, "bottleneck": WIDTHS, "rank": RANKS, "seed": SEEDS},
    )
    dataset[f"{MEASURE}_num_above_noise"].loc[{"route": "direct", "rank": 4}] = 1
    return dataset


def cell_texts(axes: Axes) -> dict[tuple[int, int], str]:
    """Return the large text of each cell of a map: (rank's place, bottleneck's place) → text."""
    found = {}
    for text in axes.texts:
        x, y = text.get_position()
        if float(text.get_fontsize()) > 6:
            found[round(float(x)), round(float(y))] = text.get_text()
    return found


def empty(axes: Axes) -> np.ndarray:
    """Tell which cells of a map have no colour."""
    image = axes.images[0].get_array()
    assert image is not None
    return np.ma.getmaskarray(np.ma.asarray(image))


def test_numbers_stand_in_their_cells_and_absent_ones_are_empty(surface: xr.Dataset) -> None:
    exact, stepwise, direct = symmetry_surface(surface).axes[:3]
    assert [axes.get_title(loc="left") for axes in (exact, stepwise, direct)] == ROUTES
    middle = surface[f"{MEASURE}_median"]
    assert cell_texts(exact) == {
        (0, 0): f"{middle.values[0, 0, 1]:.2f}",
        (0, 1): f"{middle.values[0, 1, 2]:.2f}",
    }
    assert set(cell_texts(stepwise)) == {(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)}
    assert cell_texts(stepwise)[1, 1] == f"{middle.values[1, 1, 1]:.2f}"
    assert empty(stepwise).tolist() == [[False, False, True], [False, False, False]]
    assert [label.get_text() for label in exact.get_xticklabels()] == ["BP"]


def test_a_ring_marks_where_not_every_seed_exceeds_the_null(surface: xr.Dataset) -> None:
    direct = symmetry_surface(surface).axes[2]
    ringed = {place for place, text in cell_texts(direct).items() if "○" in text}
    assert ringed == {(2, 0), (2, 1)}
    small = [text.get_text() for text in direct.texts if float(text.get_fontsize()) < 6]
    assert sorted(set(small)) == ["1/2  90%", "2/2  90%"]
    direct = symmetry_surface(surface, null="untrained").axes[2]
    assert all("○" in text for text in cell_texts(direct).values())


def test_cells_without_a_number_say_why_and_are_never_zero(surface: xr.Dataset) -> None:
    for rank, state in ((1, 0), (2, 2), (4, 1)):
        at = {"route": "direct", "bottleneck": 2, "rank": rank}
        surface["status"].loc[at] = state
        for name in (MEASURE, f"{MEASURE}_median"):
            surface[name].loc[at] = np.nan
    figure = symmetry_surface(surface)
    direct = figure.axes[2]
    texts = cell_texts(direct)
    assert [texts[place, 0] for place in range(3)] == ["…", "failed", "no unit"]
    assert [patch.get_gid() for patch in direct.patches] == ["pending", "failed", "no unit"]
    assert empty(direct)[0].all()
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left") == "bottleneck 2")
    assert not [
        dots
        for dots in panel.collections
        if dots.get_gid() == "direct" and np.size(dots.get_offsets())
    ]


def test_every_seed_is_a_dot_over_the_nulls(surface: xr.Dataset) -> None:
    figure = symmetry_surface(surface)
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left") == "bottleneck 4")
    for route in ("stepwise", "direct"):
        dots = next(found for found in panel.collections if found.get_gid() == route)
        drawn = np.asarray(dots.get_offsets())
        expected = surface[MEASURE].sel(route=route, bottleneck=4).values.ravel()
        np.testing.assert_allclose(drawn[:, 1], expected)
        assert np.ptp(drawn[:, 0]) == pytest.approx(2)
    noise = next(patch for patch in panel.patches if patch.get_gid() == "noise")
    assert isinstance(noise, Rectangle)
    assert (noise.get_y(), noise.get_y() + noise.get_height()) == pytest.approx((0.07, 0.09))
    untrained = next(line for line in panel.lines if line.get_gid() == "untrained")
    np.testing.assert_allclose(np.asarray(untrained.get_ydata(), float), 0.05)


def test_statements_are_rows_of_seeds(surface: xr.Dataset) -> None:
    surface = surface.assign(
        statement_difference=(("statement", "seed"), [[0.5, 0.2], [0.1, -0.2]]),
        statement_holds=("statement", [True, False]),
        statement_num_agreeing=("statement", [2, 1]),
        statement_num_seeds=("statement", [2, 2]),
    ).assign_coords(statement=["a rises", "b falls"])
    axes = symmetry_surface(surface).axes[-1]
    words = [label.get_text() for label in axes.get_yticklabels()]
    assert words == ["a rises: HOLDS, 2 of 2", "b falls: does not hold, 1 of 2"]
    rows = [np.asarray(dots.get_offsets()).tolist() for dots in axes.collections]
    assert rows == [[[0.5, 1.0], [0.2, 1.0]], [[0.1, 0.0], [-0.2, 0.0]]]
    without = symmetry_surface(surface, statements=False)
    assert len(without.axes) == len(symmetry_surface(surface).axes) - 1


def test_backpropagation_has_one_rank_a_bottleneck(surface: xr.Dataset) -> None:
    column = exact_column(surface)
    np.testing.assert_array_equal(column["rank"], [2, 4])
    values = surface[MEASURE].sel(route="exact").values
    np.testing.assert_array_equal(column[MEASURE], [values[0, 1], values[1, 2]])
    only = symmetry_surface(surface.sel(route=["direct"]))
    assert only.axes[0].get_title(loc="left") == "direct"


@pytest.mark.parametrize("name", [MEASURE, f"{MEASURE}_num_above_noise", "status"])
def test_missing_variable_is_named(surface: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        symmetry_surface(surface.drop_vars(name))
