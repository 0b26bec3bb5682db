"""Figures of SSA on made-up numbers."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from neurofb.plot.cost import cost_bars
from neurofb.plot.grouped import grouped_rows
from neurofb.plot.ssa import (
    METHOD_COLOURS,
    accuracy_against_parameters,
    angle_curves,
    method_colour,
)

SIZES = {"BP": 200, "DFA": 200, "SSA-DFA r=0.5": 150, "SSA-DFA r=0.1": 30}


def dots(axes: Axes, gid: str) -> np.ndarray:
    return np.concatenate([c.get_offsets() for c in axes.collections if c.get_gid() == gid])


@pytest.fixture
def table() -> xr.Dataset:
    values = np.array([[0.9, 0.88], [0.8, 0.82], [0.81, 0.83], [0.79, 0.85]])
    names = {"condition": list(SIZES), "seed": [0, 1]}
    data = {"test_accuracy": (("condition", "seed"), values)}
    return xr.Dataset(data, names).assign_coords(num_parameters=("condition", [*SIZES.values()]))


def test_every_method_has_a_colour_of_its_own():
    assert len(set(METHOD_COLOURS.values())) == len(METHOD_COLOURS)
    assert method_colour("SSA-FA r=0.5, tracking") == METHOD_COLOURS["tracking"]
    assert method_colour("SSA-FA, SGD 0.02, retract") == METHOD_COLOURS["SSA-FA"]


def test_seeds_stand_at_the_number_of_parameters(table):
    axes = accuracy_against_parameters(table).axes[0]
    for name, size in SIZES.items():
        seeds = table["test_accuracy"].sel(condition=name)
        np.testing.assert_allclose(dots(axes, name), [[size, value] for value in seeds])
    assert {text.get_text() for text in axes.texts} == set(SIZES)
    level = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert level[:2] == pytest.approx([0.89, 0.81]), "ceiling and null"
    joined = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert [30, 150] in joined, "the ranks of one method"


def test_a_study_without_ceiling_or_null_is_drawn(table):
    figure = accuracy_against_parameters(table.isel(condition=[2, 3]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["seed", "mean"]
    with pytest.raises(ValueError, match="no variable 'num_parameters'"):
        accuracy_against_parameters(table.drop_vars("num_parameters"))


def test_angles_of_layers_that_have_any():
    values = np.zeros((2, 2, 3, 3))
    values[1, :, :, :2] = [[90, 89], [80, 70], [60, np.nan]]
    names = {"condition": ["BP", "DFA"], "seed": [0, 1], "epoch": [0, 1, 2]}
    names["layer"] = ["hidden_1", "hidden_2", "readout"]
    dims = ("condition", "seed", "epoch", "layer")
    study = xr.Dataset({"gradient_angle": (dims, values)}, names)
    figure = angle_curves(study)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["hidden_1", "hidden_2"]
    mean = next(line for line in figure.axes[0].lines if line.get_gid() == "DFA")
    np.testing.assert_allclose(mean.get_ydata(), [90, 80, 60])
    assert len(angle_curves(study, layers=["readout"]).axes) == 1
    with pytest.raises(ValueError, match="no layer 'hidden_9'; the dataset has hidden_1"):
        angle_curves(study, layers=["hidden_9"])
    with pytest.raises(ValueError, match="gradient_angle is 0 or NaN in all of readout"):
        angle_curves(study.sel(layer=["readout"]))


def test_a_rank_has_one_line_style_in_every_method():
    names = ["DFA", "SSA-DFA r=0.5", "SSA-DFA r=0.25", "SSA-DFA r=0.1", "SSA-FA r=0.5"]
    names += ["SSA-FA r=0.1", "SSA-FA r=0.5, tracking"]
    dims = ("condition", "seed", "epoch", "layer")
    coords = {"condition": names, "seed": [0], "epoch": [0, 1], "layer": ["hidden_1"]}
    study = xr.Dataset({"gradient_angle": (dims, np.full((7, 1, 2, 1), 80.0))}, coords)
    drawn = {one.get_gid(): one.get_linestyle() for one in angle_curves(study).axes[0].lines}
    full, half, quarter, tenth = (drawn[name] for name in names[:4])
    assert full == "-"
    assert len({full, half, quarter, tenth}) == 4
    assert [drawn[name] for name in names[4:]] == [half, tenth, half]


def test_costs_are_shares_of_the_reference():
    names = {"condition": ["BP", "SSA-DFA r=0.5"]}
    costs = xr.Dataset({"a": ("condition", [4.0, 6.0]), "b": ("condition", [0.0, 2.0])}, names)
    figure = cost_bars(costs, parts={"a": "b"})
    assert len(figure.axes) == 1
    assert [text.get_text() for text in figure.axes[0].texts] == ["100 %", "150 %"]
    hatched = [bar for bar in figure.axes[0].patches if bar.get_hatch()]
    ends = [(bar.get_x(), bar.get_width()) for bar in hatched]
    assert (100.0, 50.0) in ends
    with pytest.raises(ValueError, match="reference='FA'"):
        cost_bars(costs, reference="FA")


def test_rows_that_diverged_are_crossed_and_have_no_dot():
    values = np.array([[0.8, 0.9], [np.nan, np.nan], [0.7, np.nan]])
    when = np.where(np.isnan(values), [[0, 0], [37, 12], [0, 5]], np.nan)
    names = {"condition": ["a", "b", "c"], "seed": [0, 1]}
    dims = ("condition", "seed")
    study = xr.Dataset({"test_accuracy": (dims, values), "diverged_at": (dims, when)}, names)
    study = study.assign_coords(
        group=("condition", ["SSA-DFA", "SSA-DFA", "SVD-BP"]),
        label=("condition", ["retract", "none", "none"]),
    )
    figure = grouped_rows(study, reference="retract", chance=0.1)
    axes = figure.axes[0]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert ticks == ["SSA-DFA", "retract", "none", "SVD-BP", "none"]
    assert len([line for line in axes.lines if line.get_gid() == "diverged"]) == 2
    written = [text.get_text() for text in axes.texts]
    assert "2 of 2 diverged by update 37" in written
    assert "1 of 2 diverged by update 5" in written
    assert len(dots(axes, "none")) == 1, "one seed of three runs was left"
    np.testing.assert_allclose(dots(axes, "retract")[:, 0], [0.8, 0.9])
    reference = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "reference"]
    assert reference == pytest.approx([0.85])
    with pytest.raises(ValueError, match="no variable 'group'"):
        grouped_rows(study.drop_vars("group"))
