"""Figures of tensor decompositions: what is drawn is what the dataset says."""

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import hard_phase_width, schedule_traces, tensor_errors, tensor_phase_diagram

LINES = ("algorithmic", "information", "spinodal")
BOTH = ["AMP", "AMP from the truth"]


def diagram():
    rng = np.random.default_rng(0)
    dims = ("condition", "prior_mean", "noise_variance", "seed", "algorithm")
    found = xr.Dataset(
        {
            "tensor_error": (dims, rng.uniform(size=(2, 3, 4, 2, 2))),
            "boundary": ((*dims[:2], *dims[3:]), rng.uniform(size=(2, 3, 2, 2))),
            "line_mean": ("vertex", np.linspace(0, 0.5, 5)),
        },
        {
            "condition": ["a", "b"],
            "prior_mean": [0.1, 0.2, 0.4],
            "noise_variance": [0.1, 0.2, 0.3, 0.4],
            "seed": [0, 1],
            "algorithm": BOTH,
        },
    )
    for number, name in enumerate(LINES):
        line = np.full((2, 5), 0.1 * (number + 1))
        line[:, -1] = np.nan
        found[f"line_{name}"] = (("condition", "vertex"), line)
    return found


def test_the_diagram_shows_medians_lines_and_every_seed():
    found = diagram()
    axes = tensor_phase_diagram(found).axes
    assert [one.get_title(loc="left") for one in axes[:3]] == [
        "a",
        "AMP: median error",
        "AMP from the truth: median error",
    ]
    second = axes[4]  # second row, AMP
    expected = found["tensor_error"].sel(condition="b", algorithm="AMP").median("seed")
    mesh = second.collections[0].get_array()
    np.testing.assert_allclose(
        np.ma.filled(mesh).reshape(4, 3), expected.transpose("noise_variance", "prior_mean")
    )
    seeds = [line for line in second.lines if line.get_gid() == "seed"]
    boundary = found["boundary"].sel(condition="b", algorithm="AMP")
    np.testing.assert_allclose(
        [line.get_ydata() for line in seeds], boundary.transpose("seed", ...)
    )
    dashed = [line for line in second.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == pytest.approx([0.1, 0.2, 0.3])


def test_the_width_of_the_hard_phase_is_information_less_algorithmic():
    found = diagram().isel(condition=0, prior_mean=0).rename(line_mean="line_ratio")
    found["line_ratio"] = ("vertex", [0.2, 0.5, 1.0, 2.0, 5.0])
    shaped = found["boundary"].expand_dims(shape_ratio=[0.5, 2.0])
    left, right = hard_phase_width(found.drop_vars("boundary").assign(boundary=shaped)).axes
    assert len([line for line in left.lines if line.get_gid() == "seed"]) == 4
    width = next(line for line in right.lines if line.get_gid() == "theory")
    np.testing.assert_allclose(width.get_ydata()[:4], 0.1)


def errors():
    rng = np.random.default_rng(1)
    found = xr.Dataset(
        {
            "tensor_error": (("noise_variance", "seed", "algorithm"), rng.uniform(size=(3, 2, 2))),
            "error_theory": (("noise_variance", "start"), rng.uniform(size=(3, 2))),
            "mean_error": 0.9,
            "algorithmic": 0.15,
            "information": 0.25,
        }
    )
    places = {"noise_variance": [0.1, 0.2, 0.3], "seed": [0, 1], "algorithm": BOTH}
    return found.assign_coords(places | {"start": ["prior", "truth"]})


def test_errors_have_theory_null_medians_and_every_seed():
    found = errors()
    (axes,) = tensor_errors(found).axes
    drawn = {}
    for line in axes.lines:
        drawn.setdefault(line.get_gid(), []).append(line.get_ydata())
    np.testing.assert_allclose(drawn["median"], found["tensor_error"].median("seed").T)
    assert len(drawn["seed"]) == 4
    np.testing.assert_allclose(drawn["null"], [[0.9, 0.9]])
    np.testing.assert_allclose(drawn["theory"][::-1], found["error_theory"].T)
    assert axes.get_yscale() == "linear"


def test_panels_leave_out_what_was_not_computed_and_large_errors_are_logarithmic():
    found = errors()
    other = found.copy(deep=True)
    other["tensor_error"][0] = np.nan
    other["tensor_error"][1] = 5.0
    both = xr.concat([found, other], "condition").assign_coords(condition=["a", "b"])
    figure = tensor_errors(both)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["a", "b"]
    medians = [line for line in shown[1].lines if line.get_gid() == "median"]
    assert all(len(line.get_ydata()) == 2 for line in medians)
    assert shown[1].get_yscale() == "log"


def test_traces_have_a_line_a_seed_and_theory():
    rng = np.random.default_rng(2)
    dims = ("noise_variance", "schedule", "seed", "sweep")
    found = xr.Dataset({"error_trace": (dims, rng.uniform(size=(2, 2, 3, 4)))})
    found["theory_trace"] = found["error_trace"].isel(seed=0) / 2
    found["fixed_error"] = ("noise_variance", [0.2, 0.4])
    places = {"noise_variance": [0.1, 0.2], "schedule": ["a", "b"], "seed": [0, 1, 2]}
    axes = schedule_traces(found.assign_coords(places | {"sweep": [1, 2, 3, 4]})).axes
    assert len(axes) == 4
    seeds = [line.get_ydata() for line in axes[1].lines if line.get_gid() == "seed"]
    np.testing.assert_allclose(seeds, found["error_trace"][0, 1])
    theory = next(line for line in axes[1].lines if line.get_gid() == "theory")
    np.testing.assert_allclose(theory.get_ydata(), found["theory_trace"][0, 1])


@pytest.mark.parametrize(
    "draw", [tensor_phase_diagram, hard_phase_width, tensor_errors, schedule_traces]
)
def test_a_missing_variable_is_named(draw):
    with pytest.raises(ValueError, match="dataset has no variable"):
        draw(xr.Dataset())
