import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from neurofb.plot import (
    accuracy_against_error_rank,
    example_rank_study,
    measures_by_category,
    rank_over_depth,
    rank_over_epochs,
)


def line(axes, gid):
    return next(line for line in axes.lines if line.get_gid() == gid)


@pytest.fixture
def study() -> xr.Dataset:
    return example_rank_study()


def test_a_panel_a_condition_and_a_line_a_rule(study):
    figure = rank_over_depth(study)
    assert len(figure.axes) == 9
    assert figure.axes[5].get_title(loc="left") == "Muon, batch norm"
    at = {"optimiser": "Adam", "normalisation": "none"}
    axes, here = figure.axes[1], study.sel(at)
    for rule in ("BP", "FA"):
        end = here.sel(rule=rule).isel(epoch=-1)
        mean = end.error_rank_normalised.mean("seed")
        np.testing.assert_allclose(line(axes, rule).get_ydata(), mean)
        np.testing.assert_allclose(
            line(axes, f"raw {rule}").get_ydata(), end.error_rank.mean("seed")
        )
    seeds = np.array([one.get_ydata() for one in axes.lines if one.get_gid() == "seed"])
    fa = here.error_rank_normalised.sel(rule="FA").isel(epoch=-1)
    np.testing.assert_allclose(seeds[3:], fa.transpose("seed", "layer"))
    start = here.error_rank_normalised.isel(epoch=0).mean(["rule", "seed"])
    np.testing.assert_allclose(line(axes, "start").get_ydata(), start)
    assert line(axes, "output").get_ydata()[0] == 9
    assert line(axes, "ceiling").get_ydata()[0] == 256
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        f"{r} {100 * float(here.test_accuracy.sel(rule=r).mean()):.0f} %" for r in here.rule.values
    ]


def test_the_legend_names_what_is_drawn_each_in_a_style_of_its_own(study):
    extra = study.isel(rule=[1]).assign_coords(rule=["FA slow"])
    extra = extra.map(lambda values: values * np.nan if "rule" in values.dims else values)
    wide = xr.concat([study, extra], "rule", data_vars="minimal")
    legend = rank_over_depth(wide).legends[0]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [
        *("BP", "FA", "seed", "raw error, mean"),
        *("before training (row-normalised, mean of rules)", "classes − 1", "highest possible"),
    ]
    lines = legend.get_lines()
    assert lines[1].get_color() == "#D55E00"
    assert len({line.get_linestyle() for line in lines[3:]}) == 4
    assert lines[4].get_linestyle() == line(rank_over_depth(wide).axes[0], "start").get_linestyle()
    texts = [text.get_text() for text in rank_over_epochs(wide).legends[0].get_texts()]
    assert texts == ["BP", "FA", "classes − 1", "highest possible"]


def test_axes_say_where_the_output_is_and_which_rank(study):
    axes = rank_over_depth(study).axes
    assert axes[6].get_xlabel() == "layer (output behind 6)"
    assert axes[0].get_ylabel() == "effective rank (entropy)"
    del study.attrs["definition"]
    assert rank_over_epochs(study).axes[0].get_ylabel() == "effective rank"


def test_what_was_not_run_is_blank_and_left_out(study):
    study["error_rank_normalised"].loc[{"optimiser": "SGD", "normalisation": "layer"}] = np.nan
    study["error_rank_normalised"].loc[{"normalisation": "batch"}] = np.nan
    del study.attrs["num_classes"]
    figure = rank_over_depth(study, rows="optimiser", columns="normalisation", raw=False)
    assert len(figure.axes) == 6
    assert [axes.axison for axes in figure.axes] == [True, False, True, True, True, True]
    gids = {one.get_gid() for one in figure.axes[0].lines}
    assert gids == {"start", "ceiling", "BP", "FA", "seed"}


def test_a_run_that_diverged_ends_where_it_was_last_measured(study):
    at = {"optimiser": "SGD", "normalisation": "none", "rule": "FA"}
    study["error_rank_normalised"].loc[at | {"epoch": slice(2, None)}] = np.nan
    left = study.error_rank_normalised.sel(at)
    drawn = line(rank_over_depth(study).axes[0], "FA").get_ydata()
    np.testing.assert_allclose(drawn, left.sel(epoch=1).mean("seed"))
    axes = rank_over_epochs(study).axes[0]
    np.testing.assert_allclose(line(axes, "FA").get_xdata(), [0, 1])


def test_curves_over_epochs_are_those_of_one_layer(study):
    figure = rank_over_epochs(study, layer="hidden_3")
    assert "hidden_3" in figure.legends[0].get_title().get_text()
    here = study.error_rank_normalised.sel(layer="hidden_3", rule="FA", optimiser="SGD")
    values = here.sel(normalisation="none").transpose("epoch", "seed")
    axes = figure.axes[0]
    np.testing.assert_allclose(line(axes, "FA").get_ydata(), values.mean("seed"))
    seeds = np.array([one.get_ydata() for one in axes.lines if one.get_gid() == "seed"])
    np.testing.assert_allclose(seeds[3:], values.T)
    last = line(rank_over_epochs(study).axes[0], "FA").get_ydata()[-1]
    assert last < values.mean("seed")[-1]
    with pytest.raises(ValueError, match="layer='stem' is not in the dataset, which has hidden_1"):
        rank_over_epochs(study, layer="stem")


def test_every_run_is_a_marker(study):
    last = study.isel(layer=-1)
    start = {f"{n}_start": last[n].isel(epoch=0) for n in ("error_rank", "error_rank_normalised")}
    end = last.isel(epoch=-1).assign(start)
    end["test_accuracy"].loc[{"rule": "FA", "optimiser": "SGD", "seed": 1}] = np.nan
    figure = accuracy_against_error_rank(end)
    for axes, name in zip(figure.axes, ("error_rank", "error_rank_normalised"), strict=True):
        one = end.sel(rule="FA", optimiser="Muon", normalisation="batch")
        drawn = line(axes, "FA, Muon, batch")
        np.testing.assert_allclose(drawn.get_xydata().T, [one[name], one.test_accuracy])
        assert drawn.get_color() == "#D55E00"
        assert line(axes, "chance").get_ydata()[0] == 0.1
        lost = [one.get_xdata() for one in axes.lines if one.get_gid() == "lost"]
        expected = end[name].sel(rule="FA", optimiser="SGD", seed=1).values
        np.testing.assert_allclose(np.concatenate(lost), expected)
    shapes = {line(figure.axes[0], f"BP, {o}, none").get_marker() for o in end.optimiser.values}
    fills = {
        line(figure.axes[0], f"BP, SGD, {n}").get_fillstyle() for n in end.normalisation.values
    }
    assert len(shapes) == len(fills) == 3
    with pytest.raises(ValueError, match="name at least one measure"):
        accuracy_against_error_rank(end, measures=())
    none = end.where((end.optimiser != "Adam") & (end.normalisation != "layer"))
    figure = accuracy_against_error_rank(none.assign(end[list(start)]))
    texts = {text.get_text() for text in figure.legends[0].get_texts()} - {" "}
    kinds = {"colour: rule", "shape: optimiser", "filling: normalisation"}
    runs = {"BP", "FA", "SGD", "Muon", "no normalisation", "batch norm"}
    assert texts == kinds | runs | {"range before training", "chance"}
    with pytest.raises(ValueError, match="no variable 'error_rank_start'"):
        accuracy_against_error_rank(end.drop_vars("error_rank_start"))


def test_categories_side_by_side():
    values = np.array(
        [[[0.8, 0.9], [0.4, 0.6], [np.nan] * 2], [[0.5, 0.5], [np.nan] * 2, [0.7, np.nan]]]
    )
    dims = ("rule", "control", "seed")
    names = {"rule": ["BP", "FA"], "control": ["none", "truncate 1", "polar"], "seed": [0, 1]}
    data = {"rank": (dims, 100 * values), "rank_null": ("rule", [30.0, 20.0])}
    study = xr.Dataset({"test_accuracy": (dims, values), "test_accuracy_null": 0.1, **data}, names)
    pair = {"across": "control", "columns": "rule"}
    figure = measures_by_category(study, ["test_accuracy", "rank"], **pair)
    bp, fa, bp_rank, fa_rank = figure.axes
    ticks = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in (bp_rank, fa_rank)]
    assert ticks == [["none", "truncate 1"], ["none", "polar"]]
    dots = [dots for dots in bp.collections if dots.get_gid() == "truncate 1"]
    np.testing.assert_allclose(dots[0].get_offsets(), [[0.85, 0.4], [1.15, 0.6]])
    assert line(bp, "null").get_ydata()[0] == 0.1
    assert [line(axes, "null").get_ydata()[0] for axes in (bp_rank, fa_rank)] == [30, 20]
    np.testing.assert_allclose(line(fa, "lost").get_xdata(), [1.15])
    assert not [one for one in bp.lines if one.get_gid() == "lost"]
    assert fits(figure)
    with pytest.raises(ValueError, match="name at least one measure"):
        measures_by_category(study, [], **pair)


def fits(figure):
    """Tell whether the legend lies within the figure."""
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    box, page = legend.get_window_extent(), figure.bbox
    return box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0


def test_legends_fit_on_narrow_figures(study):
    few = study.isel(optimiser=[0], normalisation=[0])
    assert fits(rank_over_depth(few.isel(optimiser=[0])))
    assert fits(rank_over_epochs(few))
    last = study.isel(layer=-1, epoch=-1).assign(error_rank_start=study.error_rank.isel(epoch=0))
    assert fits(accuracy_against_error_rank(last, measures=("error_rank",)))
