import warnings

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import scan_curves, scan_measure, scan_status
from neurofb.plot.scan import MOST_PANELS


def make(axes: dict[str, list], *, more: dict[str, int] | None = None) -> xr.Dataset:
    shape = [len(values) for values in axes.values()]
    extra = more or {}
    values = np.arange(np.prod([*shape, *extra.values()]), dtype=float)
    status = np.ones(shape, dtype=np.int8)
    return xr.Dataset(
        {
            "loss": ((*axes, *extra), values.reshape(*shape, *extra.values())),
            "status": (tuple(axes), status),
        },
        {**axes, **{dim: np.arange(size) for dim, size in extra.items()}},
    )


def lines(axes, gid: str) -> list:
    return [line for line in axes.lines if line.get_gid() == gid]


def test_every_cell_is_a_dot_and_lines_are_medians_over_seeds() -> None:
    scan = make({"rank": [1, 2, 4], "rule": ["a", "b"], "seed": [0, 1, 2]})
    (axes,) = scan_measure(scan, "loss").axes
    dots = [np.asarray(c.get_offsets()) for c in axes.collections if c.get_gid() == "seed"]
    assert sorted(np.concatenate(dots)[:, 1]) == sorted(scan["loss"].values.ravel())
    for line, rule in zip(lines(axes, "median"), ["a", "b"], strict=True):
        assert np.array_equal(line.get_ydata(), scan["loss"].sel(rule=rule).median("seed"))
    assert "log scale" in axes.get_xlabel()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]


def test_numbers_lie_on_x_wherever_they_stand() -> None:
    scan = make({"rule": ["a", "b"], "rank": [1, 2, 3], "seed": [0]})
    figure = scan_measure(scan, "loss")
    assert figure.axes[0].get_xlabel() == "rank"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["rule a", "rule b"]


def test_words_run_down_the_page() -> None:
    (axes,) = scan_measure(make({"rule": ["a", "b"], "seed": [0, 1]}), "loss").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlabel() == "loss"
    assert np.array_equal(lines(axes, "median")[0].get_xdata(), [0.5, 2.5])


def test_a_rank_of_zero_has_a_place() -> None:
    (axes,) = scan_measure(make({"rank": [0, 1, 2, 32], "seed": [0]}), "loss").axes
    assert axes.get_xlabel() == "rank (evenly spaced)"
    assert np.array_equal(lines(axes, "median")[0].get_xdata(), [0, 1, 2, 3])


def test_further_axes_are_panels_and_what_is_left_out_is_said() -> None:
    few = scan_measure(make({"a": [1, 2], "b": [1, 2], "c": [1, 2, 3]}), "loss")
    assert [axes.get_title() for axes in few.axes] == ["c 1", "c 2", "c 3"]
    many = scan_measure(make({"a": [1, 2], "b": [1, 2], "c": list(range(40))}), "loss")
    assert len(many.axes) == MOST_PANELS
    assert many.legends[0].get_title().get_text() == "12 of 40 panels"
    assert (many.axes[0].get_title(), many.axes[-1].get_title()) == ("c 0", "c 39")


def test_nulls_are_drawn_behind() -> None:
    scan = make({"rank": [1, 2, 4], "seed": [0, 1]})
    scan["loss_untrained"] = scan["loss"] * 0 - 7.0
    figure = scan_measure(scan, "loss")
    null = lines(figure.axes[0], "median")[0]
    assert null.get_linestyle() == "--"
    assert set(null.get_ydata()) == {-7.0}
    assert figure.legends[0].get_texts()[0].get_text() == "untrained network"


def test_cells_without_a_value_are_left_out_silently(tmp_path) -> None:
    scan = make({"rank": [1, 2, 4], "rule": ["$a$", "$\\frac$"], "seed": [0, 1]})
    scan["loss"][1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = scan_measure(scan, "loss")
        figure.savefig(tmp_path / "figure.png")  # a dollar in a label is no mathematics
    assert len(lines(figure.axes[0], "median")[0].get_ydata()) == 2


def test_one_cell_and_one_axis_of_seeds() -> None:
    assert len(scan_measure(make({"rank": [3]}), "loss").axes) == 1
    (axes,) = scan_measure(make({"rank": [3], "seed": [5, 6]}), "loss").axes
    assert axes.get_xlabel() == "seed"


def test_curves_of_every_seed() -> None:
    scan = make({"rank": [1, 2], "rule": ["a", "b"], "seed": [0, 1]}, more={"step": 4})
    figure = scan_curves(scan, "loss")
    assert [axes.get_title() for axes in figure.axes] == ["rule a", "rule b"]
    drawn = [line.get_ydata() for line in lines(figure.axes[1], "seed")]
    assert np.array_equal(drawn, scan["loss"].sel(rule="b").values.reshape(4, 4))
    assert len(lines(figure.axes[1], "median")) == 2


def test_curves_against_the_epoch_without_seeds() -> None:
    figure = scan_curves(make({"rank": [1, 2]}, more={"epoch": 3}), "loss", along="epoch")
    assert [len(axes.lines) for axes in figure.axes] == [2]


def test_status_says_every_state_by_more_than_colour() -> None:
    scan = make({"rank": [1, 2], "rule": ["a", "b"], "seed": [0, 1]})
    scan["status"][0, 0] = [2, 0]
    scan["status"][1, 1, 1] = -1
    figure = scan_status(scan)
    (axes,) = figure.axes
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["absent: not asked for (1)", "pending (1)", "done (5)", "failed (1)"]
    (crosses,) = axes.lines
    assert np.array_equal(crosses.get_xydata(), [[0, 0]])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1 · a", "1 · b", "2 · a", "2 · b"]


def test_a_large_grid_keeps_labels_apart() -> None:
    (axes,) = scan_status(make({"a": list(range(100)), "seed": list(range(100))})).axes
    assert 10 <= len(axes.get_yticklabels()) <= 50


@pytest.mark.parametrize("draw", [scan_measure, scan_curves])
def test_what_cannot_be_drawn_is_refused(draw) -> None:
    scan = make({"rank": [1, 2]}, more={"step": 2})
    with pytest.raises(ValueError, match="no variable 'other'"):
        draw(scan, "other")
    with pytest.raises(ValueError, match="no finite value of 'loss'"):
        draw(scan * np.nan, "loss")


def test_status_without_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="no variable 'status'"):
        scan_status(xr.Dataset())
    with pytest.raises(ValueError, match="status without cells"):
        scan_status(xr.Dataset({"status": 1}))
