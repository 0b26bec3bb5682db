import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from neurofb.plot import receptive_field_montage
from neurofb.plot.cells import select_units
from neurofb.plot.style import STATUS_MARKS


def tiles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def tile_values(axes: Axes, number: int) -> np.ndarray:
    frame = tiles(axes)[number]
    left, top = round(frame.get_x() + 0.5), round(frame.get_y() + 0.5)
    canvas = np.ma.filled(axes.images[0].get_array(), np.nan)
    size = round(frame.get_width())
    return canvas[top : top + size, left : left + size]


def test_a_cell_per_condition_and_seed(study: xr.Dataset) -> None:
    figure = receptive_field_montage(study)
    assert len(figure.axes) == 6 * 2
    assert [axes.get_title() for axes in figure.axes[:6]] == study["condition"].values.tolist()
    assert [axes.get_ylabel() for axes in figure.axes[::6]] == ["seed 0", "seed 1"]


def test_each_unit_has_its_own_symmetric_scale_with_white_zero(study: xr.Dataset) -> None:
    study["receptive_field"] = study["receptive_field"] * (10.0 ** (study["unit"] - 4))
    axes = receptive_field_montage(study).axes[0]
    assert axes.images[0].get_clim() == (-1.0, 1.0)
    assert np.allclose(axes.images[0].cmap(0.5)[:3], 1.0, atol=0.04)
    largest = [np.abs(tile_values(axes, number)).max() for number in range(7)]
    assert np.allclose(largest, 1.0)
    assert np.all(tile_values(axes, 7) == 0.0)  # the dead unit


def test_tiles_show_the_units_in_order_of_status_then_measure(study: xr.Dataset) -> None:
    cell = study.isel(condition=0, seed=0)
    ok = cell.where(cell["status"] == "ok", drop=True)
    first = int(ok["unit"][int(ok["rotational_symmetry"].argmax("unit"))])
    expected = cell["receptive_field"].sel(unit=first).values
    drawn = tile_values(receptive_field_montage(study).axes[0], 0)
    assert np.allclose(drawn, expected / np.abs(expected).max())


def test_failed_units_are_framed_and_explained_and_absent_ones_blank(study: xr.Dataset) -> None:
    figure = receptive_field_montage(study)
    frames = {str(tile.get_gid()): tile for tile in tiles(figure.axes[0])}
    for status in ("dead", "silent", "unmoved"):
        assert to_hex(frames[status].get_edgecolor()) == to_hex(STATUS_MARKS[status][0])
        assert frames[status].get_linewidth() > frames["ok"].get_linewidth()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [text.split()[0] for text in texts] == ["unmoved", "silent", "dead"]
    assert len(tiles(figure.axes[4])) == 4  # narrow: four units, the rest absent
    assert figure.axes[4].get_xlabel() == "4/4 count"
    assert figure.axes[0].get_xlabel() == "5/8 count"


def test_a_unit_without_finite_values_is_a_grey_framed_tile(failed: xr.Dataset) -> None:
    axes = receptive_field_montage(failed).axes[6 + 2]
    assert len(tiles(axes)) == 8
    assert {tile.get_gid() for tile in tiles(axes)} == {"dead"}
    assert all(to_hex(tile.get_facecolor()) == "#d9d9d9" for tile in tiles(axes))


def test_sample_is_even_over_the_sorted_units() -> None:
    cell = xr.Dataset(
        {
            "status": ("unit", np.array(["dead"] * 4 + ["ok"] * 12, dtype=object)),
            "score": ("unit", np.arange(16.0)),
        }
    )
    chosen = select_units(cell, num_units=4, sort_by="score")
    assert chosen == [13, 9, 5, 1]  # ranks 2, 6, 10 of the ok units; one of the four dead ones


def test_channels(study: xr.Dataset) -> None:
    field = study["receptive_field"]
    one = study.assign(receptive_field=field.expand_dims("channel", axis=3))
    assert receptive_field_montage(one).get_suptitle() == "Receptive fields"
    three = study.assign(receptive_field=xr.concat([0.1 * field, -field, 0 * field], "channel"))
    figure = receptive_field_montage(three)
    assert "3 channels" in figure.get_suptitle()
    expected = tile_values(receptive_field_montage(study).axes[0], 0)
    assert np.allclose(tile_values(figure.axes[0], 0), -expected)


def test_one_condition_one_seed(study: xr.Dataset) -> None:
    figure = receptive_field_montage(study.isel(condition=[2]), seeds=[1], num_units=3)
    assert len(figure.axes) == 1
    assert len(tiles(figure.axes[0])) == 3


@pytest.mark.parametrize("name", ["receptive_field", "status", "rotational_symmetry"])
def test_missing_variable_is_named(study: xr.Dataset, name: str) -> None:
    with pytest.raises(ValueError, match=f"no variable '{name}'"):
        receptive_field_montage(study.drop_vars(name))


def test_bad_arguments_are_named(study: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"seed=7 is not in the dataset; it has \[0, 1\]"):
        receptive_field_montage(study, seeds=[7])
    with pytest.raises(ValueError, match=r"seeds=\[\] is empty"):
        receptive_field_montage(study, seeds=[])
    with pytest.raises(ValueError, match="num_units=0 must be at least 1"):
        receptive_field_montage(study, num_units=0)
    with pytest.raises(ValueError, match="no dim 'unit'"):
        receptive_field_montage(study.isel(unit=0))
    study["status"][0, 0, 0] = "asleep"
    with pytest.raises(ValueError, match="status='asleep' is unknown; allowed: ok, "):
        receptive_field_montage(study)


def test_one_run_is_drawn_without_condition_and_seed(study: xr.Dataset) -> None:
    one = study.isel(condition=0, seed=0)
    for run in (one, one.drop_vars(["condition", "seed"])):
        figure = receptive_field_montage(run, num_units=4)
        assert len(figure.axes) == 1
        assert figure.axes[0].get_xlabel() == "5/8 count"
