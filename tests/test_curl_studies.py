"""The recipes of curl descent at tiny size, through their analyses to figures."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.curl_phase import curl_phase
from neurofb.plot import phase_diagram, save_figure
from neurofb.recipes import load_recipe, recipe_names
from neurofb.theory import critical_hidden_fraction

ROOT = Path(__file__).parents[1]
FEW = {"num_seeds": 2, "total": 50}


def recipe(name):
    for file in ("curl_descent", "curl_escape", "curl_exponents"):
        if name in recipe_names(ROOT / f"models/{file}.py"):
            return load_recipe(f"{ROOT}/models/{file}.py::{name}")
    raise LookupError(name)


def analyse(name, result, tmp_path, capsys):
    """Run an analysis on a saved and loaded result; draw its figures."""
    path = labels.save(result, tmp_path / "result.nc")
    function = load_recipe(f"{ROOT}/analyses/curl_descent.py::{name}")
    found, figures = function(labels.load(path))
    labels.save(found, tmp_path / "analysis.nc")
    for key, figure in figures.items():
        save_figure(figure, tmp_path / f"{key}.png", found, dpi=40)
    for key, values in found.variables.items():
        assert {"units", "long_name"} <= set(values.attrs) or key in found.indexes, key
    return found, figures, capsys.readouterr().out


def scan(function, name, values, **more):
    """Run a recipe for each value, joined as a scan joins its cells."""
    cells = [function(**{name: value}, **more).expand_dims({name: [value]}) for value in values]
    return xr.concat(cells, name, combine_attrs="override")


def test_the_hidden_phase_diagram_has_theorys_sides(tmp_path, capsys):
    settings = {"fractions": (0.0, 0.15, 0.5, 1.0), "learning_rate": 0.1, "num_steps": 1200, **FEW}
    cells = scan(recipe("phase_hidden"), "ratio", (0.14, 0.3, 1.0), **settings)
    found, figures, said = analyse("phase", cells, tmp_path, capsys)
    np.testing.assert_allclose(found["ratio"], [6 / 44, 12 / 38, 1.0])
    line = critical_hidden_fraction(found["ratio"].values)
    np.testing.assert_allclose(found["critical_fraction"], line)
    # c = 0.14: all may be flipped; c = 1: none
    assert (found["boundary"].isel(ratio=0) == 1).all()
    assert (found["boundary_high"].isel(ratio=2) <= 0.16).all()  # 4 of 25
    certain = abs(found["growth_start"]) > 0.1
    assert bool((found["left"] == (found["growth_start"] > 0)).where(certain, True).all())
    assert float(found["recovered"].sum()) == 0
    assert (found["final_loss"].where(found["growth_start"] < -0.1, 0) < 1e-20).all()
    assert (found["final_loss"].where(found["growth_start"] > 0.2, 1) > 1e-3).all()
    assert list(figures) == ["phase_hidden_flips"]
    assert "the sign of the eigenvalue with kept norms foretells" in said


def test_readout_flips_recover_by_moving_to_another_solution(tmp_path, capsys):
    settings = {"fractions": (0.0, 0.1, 0.5, 1.0), "num_steps": 3000, **FEW}
    cells = scan(recipe("phase_readout"), "ratio", (0.1, 0.2), **settings)
    found, _, said = analyse("phase", cells, tmp_path, capsys)
    half, full = found.sel(readout_flips=0.5), found.sel(readout_flips=1.0)
    assert (half["eigenvalue_start"] > 0.5).all()
    assert (half["loss_rise"] > 1e3).all()
    assert (half["final_loss"] < 1e-6).all()
    assert (half["growth_end"] < 0).all()
    assert half["recovered"].all()
    assert (full["final_loss"] > 0.1).all()
    assert not found["left"].sel(readout_flips=[0.0, 0.1]).any()
    assert "of 8 runs from unstable solutions 4 ended" in said


def test_random_starts_and_single_neurons_run():
    found = recipe("phase_hidden")(
        ratio=0.1, total=12, fractions=(0.0, 1.0), num_seeds=1, num_steps=50, start="random"
    )
    assert found["flipped_fraction"].values.tolist() == [0.0, 1.0]
    assert found["realised_ratio"].item() == pytest.approx(1 / 11)


def test_losses_follow_the_eigenvalues(tmp_path, capsys):
    result = recipe("loss_curves")(
        hidden=(0.0, 0.9), readout=(0.0, 0.0), num_seeds=2, num_steps=1500, num_hidden=60
    )
    found, figures, _ = analyse("loss_curves", result, tmp_path, capsys)
    stable, unstable = found.isel(flip=0), found.isel(flip=1)
    np.testing.assert_allclose(stable["rate_end"], stable["rate_end_theory"], rtol=0.2)
    np.testing.assert_allclose(unstable["rate_start"], unstable["rate_start_theory"], rtol=0.2)
    assert (unstable["rate_start"] > 0).all()
    assert len(figures["loss_curves"].axes) == 2


def test_spectra_lie_under_their_density(tmp_path, capsys):
    result = recipe("spectrum")((0.3, 0.5), (0.3, 0.0), (0.0, 0.1), num_inputs=120)
    found, figures, said = analyse("spectra", result, tmp_path, capsys)
    np.testing.assert_allclose(found["largest"].mean("seed"), found["edge"], atol=0.25)
    for flip in range(2):
        one = found.isel(flip=flip)
        at, density = one["density_at"].values, one["density"].values
        below = np.concatenate([[0], np.cumsum(np.diff(at) * (density[1:] + density[:-1]) / 2)])
        for share in (0.25, 0.5, 0.75):
            quantile = np.quantile(one["eigenvalues"], share)
            assert np.interp(quantile, at, below) == pytest.approx(share, abs=0.03)
    assert "hidden 0.3" in said
    assert len(figures["spectra"].axes) == 2


def test_larger_networks_become_unstable_nearer_to_the_line(tmp_path, capsys):
    result = recipe("finite_size")((0.4,), (40, 400), num_seeds=4)
    found, figures, _ = analyse("finite_size", result, tmp_path, capsys)
    gap = abs(found["boundary"].mean("seed") - found["critical_fraction"]).values[0]
    assert gap[1] < gap[0]
    assert figures == {}


def test_escape_counts_what_was_cut_short_as_later(tmp_path, capsys):
    function = recipe("saddle_escape")
    cells = [
        function(activation, gain, num_train=1000, num_seeds=2, num_epochs=60).expand_dims(
            activation=[activation], gain=[gain]
        )
        for activation, gain in (("linear", 4.0), ("linear", 2.0))
    ]
    result = xr.combine_by_coords(cells, combine_attrs="override")
    result["censored"] = result["censored"].astype(float)  # as a scan stores it
    found, figures, said = analyse("saddle_escape", result, tmp_path, capsys)
    times, cut = found["hit_epoch"], found["censored"]
    assert (times.where(cut, 60) == 60).all()
    assert cut.sel(flip="10 flips").all()
    assert not cut.sel(flip="none", gain=4.0).any()
    assert np.isinf(found["median_epoch"].sel(flip="10 flips")).all()
    assert re.search(r"10 flips +>60 +>60 +> 60", said)
    assert "linear, g = 4: 1 flip faster than no flip" in said
    assert [a.get_title(loc="left") for a in figures["escape"].axes] == [
        "linear, g = 2",
        "linear, g = 4",
    ]


def test_exponents_of_order_and_of_nothing(tmp_path, capsys):
    settings = {"num_hidden": (12, 12), "hidden": (0.0, 0.5), "readout": (0.0, 0.0)}
    result = recipe("lyapunov")(num_inputs=6, **settings, num_seeds=2, duration=24.0, burn_in=90.0)
    found, figures, said = analyse("lyapunov", result, tmp_path, capsys)
    order = found.isel(condition=0)
    assert order["condition"].item() == "6-12-1, no flips"
    np.testing.assert_allclose(order["exponent"], 0, atol=1e-5)
    np.testing.assert_allclose(order["exponent_half"], 0, atol=1e-5)
    assert not order["chaotic"].any()
    assert "6-12-1, no flips: 0 of 2 seeds are chaotic" in said
    assert len(figures["lyapunov"].axes) == 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("phase_hidden", {"fractions": (0.0, 1.5)}, "must be a fraction"),
        ("phase_hidden", {"fractions": (0.5, 0.0)}, "must rise"),
        ("phase_hidden", {"ratio": -1.0}, "ratio=-1.0 must be above 0"),
        ("loss_curves", {"hidden": (0.1,)}, "hidden has 1, readout has 7"),
        ("spectrum", {"ratios": ()}, "ratios has 0, hidden has 8"),
        ("lyapunov", {"readout": (0.5,)}, "readout has 1"),
    ],
)
def test_bad_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        recipe(name)(**arguments)


def test_other_datasets_are_refused():
    with pytest.raises(ValueError, match="is no phase diagram"):
        curl_phase(xr.Dataset({"loss": ("step", [1.0])}))
    function = load_recipe(f"{ROOT}/analyses/curl_descent.py::saddle_escape")
    with pytest.raises(ValueError, match="no dim 'activation'"):
        function(xr.Dataset())


def test_cells_that_are_not_done_are_left_out():
    cells = scan(
        recipe("phase_hidden"), "ratio", (0.2, 0.4), fractions=(0.0, 1.0), num_steps=100, **FEW
    )
    holes = cells.where(cells["ratio"] < 0.3)
    found = curl_phase(holes)
    assert found.sizes["ratio"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(phase_diagram(found).axes) == 6
    with pytest.raises(ValueError, match="no cell of the scan is done"):
        curl_phase(cells.where(cells["ratio"] > 1))
