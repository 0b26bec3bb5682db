"""Figures of curl descent: what is drawn is what the dataset says."""

import numpy as np
import pytest
import xarray as xr

from neurofb.plot import (
    curl_spectra,
    escape_times,
    flip_loss_curves,
    lyapunov_exponents,
    phase_diagram,
)


def diagram(ratios=(0.2, 0.4, 0.5)):
    shape = (len(ratios), 3, 2)
    rng = np.random.default_rng(0)
    dims = ("ratio", "hidden_flips", "seed")
    found = xr.Dataset(
        {
            "final_loss": (dims, 10.0 ** rng.uniform(-12, 0, shape)),
            "growth_start": (dims, rng.normal(size=shape)),
            "growth_end": (dims, rng.normal(size=shape)),
            "boundary": (("ratio", "seed"), rng.uniform(size=shape[::2])),
            "line_ratio": ("vertex", np.linspace(0.1, 0.6, 5)),
            "line_fraction": ("vertex", np.linspace(1, 0, 5)),
        },
        {"ratio": list(ratios), "hidden_flips": [0.0, 0.3, 1.0], "seed": [0, 1]},
    )
    found["final_loss"][0, 1] = np.nan
    return found


def test_the_map_shows_medians_the_line_and_every_seed():
    found = diagram()
    axes = phase_diagram(found).axes[0]
    mesh = axes.collections[0].get_array()
    expected = found["final_loss"].median("seed").transpose("hidden_flips", "ratio").values
    np.testing.assert_allclose(np.ma.filled(mesh, np.nan).reshape(3, 3), expected)
    lines = {line.get_gid(): line for line in axes.lines}
    np.testing.assert_allclose(lines["theory"].get_ydata(), found["line_fraction"])
    np.testing.assert_allclose(lines["median"].get_ydata(), found["boundary"].median("seed"))
    assert sum(line.get_gid() == "seed" for line in axes.lines) == 2
    assert axes.get_xscale() == "linear"
    assert "large steps" not in lines


def test_wide_ranges_are_logarithmic_and_large_steps_are_marked():
    found = diagram((0.1, 1.0, 4.0))
    found["step_size_number"] = (found["final_loss"].dims, np.ones(found["final_loss"].shape))
    found["step_size_number"][2, 0] = 3.0
    axes = phase_diagram(found).axes[0]
    assert axes.get_xscale() == "log"
    marks = next(line for line in axes.lines if line.get_gid() == "large steps")
    assert (marks.get_xdata(), marks.get_ydata()) == ([4.0], [0.0])


def test_losses_and_their_theory():
    rng = np.random.default_rng(0)
    dims, shape = ("flip", "seed", "step"), (5, 2, 4)
    found = xr.Dataset(
        {"train_loss": (dims, rng.uniform(size=shape)), "linear_theory": (dims, np.ones(shape))},
        {"flip": list("abcde"), "seed": [0, 1], "step": [0, 1, 10, 100]},
    )
    panels = flip_loss_curves(found).axes
    assert [axes.get_visible() for axes in panels] == [True] * 5 + [False] * 3
    np.testing.assert_allclose(
        panels[4].lines[0].get_ydata(), found["train_loss"].sel(flip="e", seed=0)
    )
    assert sum(line.get_gid() == "theory" for line in panels[0].lines) == 2


def test_runs_that_were_cut_short_are_open_triangles_at_the_end():
    dims = ("activation", "gain", "flip", "seed")
    times = xr.DataArray(np.array([[[[90.0, 50.0, 90.0], [9.0, 8.0, 7.0]]]]), dims=dims)
    found = xr.Dataset({"hit_epoch": times, "censored": times == 90})
    found["median_epoch"] = xr.DataArray([[[np.inf, 8.0]]], dims=dims[:3])
    places = {"activation": ["relu"], "gain": [2.0], "flip": ["none", "1 flip"], "seed": [0, 1, 2]}
    axes = escape_times(found.assign_coords(places)).axes[0]
    by = {}
    for line in axes.lines:
        by.setdefault(line.get_gid(), []).append(line)
    assert [len(line.get_xdata()) for line in by["late"]] == [2, 0]
    assert [sorted(line.get_ydata()) for line in by["seed"]] == [[50], [7, 8, 9]]
    assert by["end"][0].get_ydata()[0] == 90
    assert len(axes.collections) == 1  # a median only where there is one


def test_exponents_have_their_errors():
    one = xr.DataArray([[0.01, 0.02], [0.0, 0.001]], dims=("condition", "seed"))
    found = xr.Dataset(dict.fromkeys(("exponent", "standard_error", "wandering"), one))
    found = found.assign_coords(condition=["a", "b"], seed=[0, 1])
    found.attrs["smallest_chaos"] = 0.001
    above, below = lyapunov_exponents(found).axes
    bars = above.containers[0]
    segments = bars[2][0].get_segments()
    np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments], 6 * one[:, 0])
    assert [text.get_text() for text in below.get_xticklabels()] == ["a", "b"]


def test_spectra_have_unit_area():
    values = np.random.default_rng(0).normal(size=(1, 2, 300))
    found = xr.Dataset(
        {
            "eigenvalues": (("flip", "seed", "eigenvalue"), values),
            "density": (("flip", "vertex"), np.ones((1, 3))),
            "density_at": (("flip", "vertex"), np.ones((1, 3))),
            "edge": ("flip", [2.0]),
        },
        {"flip": ["none"], "seed": [0, 1]},
    )
    axes = curl_spectra(found).axes[0]
    area = sum(bar.get_width() * bar.get_height() for bar in axes.patches)
    assert area == pytest.approx(1)


@pytest.mark.parametrize(
    "draw", [phase_diagram, curl_spectra, flip_loss_curves, escape_times, lyapunov_exponents]
)
def test_what_is_missing_is_named(draw):
    with pytest.raises(ValueError, match="dataset has no variable"):
        draw(xr.Dataset())
