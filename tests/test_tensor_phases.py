"""Recipes of tensor phases at tiny size, through their analyses to figures; what they stand on."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels
from neurofb.plot import save_figure
from neurofb.recipes import load_recipe, recipe_names
from neurofb.tensor_study import failing_noise, planted_errors, signal_found
from neurofb.tensor_theory import theory_errors, theory_line
from neurofb.tensors import GaussianPrior

ROOT = Path(__file__).parents[1]
PRIOR = GaussianPrior(mean=0.4)


def recipe(name):
    for file in ("tensor_phases", "tensor_algorithms"):
        if name in recipe_names(ROOT / f"models/{file}.py"):
            return load_recipe(f"{ROOT}/models/{file}.py::{name}")
    raise LookupError(name)


def analyse(name, result, tmp_path, capsys):
    """Run an analysis on a saved and loaded result; draw its figures."""
    path = labels.save(result, tmp_path / "result.nc")
    function = load_recipe(f"{ROOT}/analyses/tensor_phases.py::{name}")
    found, figures = function(labels.load(path))
    labels.save(found, tmp_path / "analysis.nc")
    for key, figure in figures.items():
        save_figure(figure, tmp_path / f"{key}.png", found, dpi=40)
    for key, values in found.variables.items():
        assert {"units", "long_name"} <= set(values.attrs), key
    return found, figures, capsys.readouterr().out


def test_a_seeds_numbers_do_not_depend_on_what_else_is_asked_for():
    few = {"shape": (14, 12, 10), "priors": PRIOR, "precision": "float64"}
    together = planted_errors(
        noise_variances=[0.05, 0.1], seeds=[3, 4], algorithms=["AMP", "ALS, random start"], **few
    )
    alone = planted_errors(
        noise_variances=[0.1], seeds=[4], algorithms=["ALS, random start"], **few
    )
    same = together.sel(noise_variance=[0.1], seed=[4], algorithm=["ALS, random start"])
    np.testing.assert_array_equal(alone["tensor_error"], same["tensor_error"])
    assert together["overlap"].sel(algorithm="AMP").notnull().all()
    assert together["overlap"].sel(algorithm="ALS, random start").isnull().all()


def test_every_algorithm_finds_a_signal_with_hardly_any_noise():
    starts = ("random start", "SVD start", "start at the prior mean")
    names = ["AMP", "AMP from the truth", *(f"ALS, {start}" for start in starts)]
    names.append("ALS from the truth")
    found = planted_errors((15, 14, 13), PRIOR, [1e-6], algorithms=names, seeds=[0])
    assert (found["tensor_error"] < 1e-5).all()
    assert found["algorithm"].values.tolist() == names


def test_least_squares_fits_noise_in_proportion_and_message_passing_does_not():
    found = planted_errors(
        (20, 20, 20),
        GaussianPrior(mean=0.2),
        [0.2, 0.4],
        algorithms=["AMP", "ALS, random start"],
        seeds=[0],
        precision="float64",
        null=True,
    )
    least_squares = found["null_size"].sel(algorithm="ALS, random start", seed=0).values
    assert least_squares[1] / least_squares[0] == pytest.approx(2, rel=1e-3)
    assert least_squares[0] > 0.8
    assert (found["null_size"].sel(algorithm="AMP") < 0.05).all()


def test_theory_has_the_numbers_of_state_evolution():
    found = theory_errors((220, 220, 220), GaussianPrior(mean=0.2), [0.05, 0.10, 0.17, 0.31])
    prior, truth = (found["error_theory"].sel(start=start) for start in ("prior", "truth"))
    np.testing.assert_allclose(prior, [0.133, 0.266, 1.000, 1.000], atol=6e-4)
    np.testing.assert_allclose(truth, [0.133, 0.266, 0.455, 1.000], atol=6e-4)
    assert found["mean_error"].item() == pytest.approx(1 - 0.04**3 / 1.04**3)
    assert found["information"].item() == pytest.approx(0.2763, abs=1e-3)
    overlap = found["overlap_theory"].sel(start="prior", noise_variance=0.05)
    np.testing.assert_allclose(overlap, 0.992, atol=1e-3)
    line = theory_line((1, 1, 1), GaussianPrior(mean=0.2), [0.05, 0.1])
    at = line["line_noise"].values
    assert np.interp(0.05, at, line["line_error"].sel(start="truth")) == pytest.approx(
        0.133, abs=1e-3
    )


def test_what_counts_as_found_and_where_seeds_begin_to_fail():
    error = np.array([[0.1, 0.6, 0.6, 0.96], [0.1, 0.8, 0.5, 0.98]])
    found = xr.Dataset({"tensor_error": (("seed", "noise_variance"), error), "mean_error": 1.0})
    theory = [[0.1, 0.1], [1.0, 0.4], [1.0, 1.0], [1.0, 1.0]]
    found["error_theory"] = (("noise_variance", "start"), theory)
    found = found.assign_coords(noise_variance=[0.1, 0.2, 0.3, 0.4], start=["prior", "truth"])
    assert signal_found(found).values.tolist() == [[True] * 4, [True, False, True, False]]
    hard = failing_noise(found.assign(algorithmic=0.2))
    np.testing.assert_allclose(hard, [0.4, 0.15])
    assert failing_noise(found.assign(algorithmic=np.nan)).isnull().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"algorithms": ["ALS"]},
            "algorithms='ALS' must be one of AMP, AMP from the truth,",
        ),
        ({"noise_variances": [0.2, 0.1]}, r"noise_variances=\[0.2, 0.1\] must be one or more, ris"),
        ({"noise_variances": []}, r"noise_variances=\[\] must be one or more, rising"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        planted_errors(**{"shape": (4, 4, 4), "priors": PRIOR, "noise_variances": [0.1]} | wrong)


def test_the_phase_diagram_has_theorys_sides(tmp_path, capsys):
    result = recipe("phases")(
        (0.1, 0.5), (0.01, 0.1, 0.45), zero_axes=(0,), side=40, num_seeds=1, num_vertices=3
    )
    found, figures, said = analyse("phases", result, tmp_path, capsys)
    error = found["tensor_error"].median("seed").sel(condition="every axis has the mean")
    # prior mean 0.1 is hard at noise 0.1 (easy below 0.04), 0.5 has no transition
    assert (error.sel(noise_variance=0.01) < 0.1).all()
    assert float(error.sel(prior_mean=0.5, noise_variance=0.1, algorithm="AMP")) < 0.3
    assert (
        float(error.sel(prior_mean=0.1, noise_variance=0.1, algorithm="AMP from the truth")) < 0.4
    )
    assert float(error.sel(prior_mean=0.1, noise_variance=0.45, algorithm="AMP")) > 0.97
    lines = found["line_information"].sel(condition="every axis has the mean").values
    assert lines[0] == pytest.approx(0.228973, abs=1e-5)  # mean 0
    assert np.isnan(lines[-1])
    assert "easy: AMP from the truth finds the signal in" in said
    assert len(figures["phases"].axes) == 4


def test_the_hard_phase_is_widest_in_cubic_tensors(tmp_path, capsys):
    result = recipe("shapes")((0.5, 1.0), 0.2, (0.1, 0.4), side=24, num_seeds=1, num_vertices=5)
    found, figures, said = analyse("shapes", result, tmp_path, capsys)
    np.testing.assert_allclose(found["line_ratio"], np.geomspace(0.1, 10, 5))
    width = (found["line_information"] - found["line_algorithmic"]).values
    np.testing.assert_allclose(width[[0, 2, 4]], [0.041, 0.123, 0.044], atol=1.1e-3)
    assert "the hard phase is widest, 0.123" in said
    assert "at a ratio of 1.000" in said
    assert (found["boundary"] <= 0.4).all()
    assert len(figures["shapes"].axes) == 2


def test_large_tensors_are_compared_with_theory(tmp_path, capsys):
    found, figures, said = analyse(
        "large", recipe("large")(40, 0.4, (0.05, 0.1), num_seeds=2), tmp_path, capsys
    )
    assert (abs(found["tensor_error"] - found["error_theory"].sel(start="prior")) < 0.06).all()
    assert "theory, prior" in said
    assert len(figures["large"].axes) == 1


def test_message_passing_beats_least_squares_on_the_same_tensors(tmp_path, capsys):
    names = ("AMP", "ALS, start at the prior mean", "ALS from the truth")
    result = recipe("against_als")(30, 0.4, (0.1, 0.2), algorithms=names, num_seeds=2)
    found, figures, said = analyse("against_als", result, tmp_path, capsys)
    amp = found["tensor_error"].sel(algorithm="AMP")
    assert (amp < found["tensor_error"].sel(algorithm="ALS from the truth")).all()
    assert found["statement_holds"].sum() >= 2
    assert "size of what is found in noise alone" in said
    assert "noise 0.1: AMP's error is below that of ALS from the truth: holds (2 of 2" in said
    assert len(figures["against_als"].axes) == 1


def test_problems_of_other_ranks_orders_and_priors(tmp_path, capsys):
    names = ("rank 2", "three kinds of priors")
    result = recipe("mixed")(names, algorithms=("AMP from the truth",), shrink=0.3, num_seeds=1)
    found, figures, said = analyse("mixed", result, tmp_path, capsys)
    assert found["condition"].values.tolist() == list(names)
    computed = found["tensor_error"].notnull().all(("seed", "algorithm"))
    assert computed.sum("noise_variance").values.tolist() == [4, 4]
    rank_2 = found.sel(condition="rank 2", start="prior", noise_variance=0.1)
    assert rank_2["error_theory"].item() == pytest.approx(0.197, abs=1e-3)
    assert "three kinds of priors" in said
    assert sum(axes.get_visible() for axes in figures["mixed"].axes) == 2


def test_all_axes_at_once_oscillate_unless_damped(tmp_path, capsys):
    result = recipe("schedules")(60, 0.4, (0.03,), num_seeds=1, num_sweeps=40)
    found, figures, said = analyse("schedules", result, tmp_path, capsys)
    converged = found["converged"].sum("seed").isel(noise_variance=0).values
    assert (converged[0], converged[1]) == (1, 0)
    swing = found["swing"].isel(noise_variance=0)
    assert (swing.sel(schedule="parallel") > 100 * swing.sel(schedule="sequential")).all()
    theory = found["theory_trace"].isel(noise_variance=0)
    fixed = found["fixed_error"].item()
    np.testing.assert_allclose(theory.isel(schedule=[0, 1], sweep=-1), fixed, atol=1e-6)
    assert theory.isel(schedule=2).isnull().all()
    assert "converged" in said
    assert len(figures["schedules"].axes) == 3


def test_a_result_of_another_recipe_is_refused():
    function = load_recipe(f"{ROOT}/analyses/tensor_phases.py::phases")
    with pytest.raises(ValueError, match="no 'prior_mean': it is the result of another recipe"):
        function(xr.Dataset({"line_algorithmic": 0.0}))


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("tensor_phases.py::phases", {"zero_axes": (5,)}, "zero_axes=5 must be one of 0, 1, 2"),
        ("tensor_algorithms.py::mixed", {"names": ("foo",)}, "names='foo' must be one of"),
        ("activity_tensor.py::activity_tensor", {"noise_ratios": (-1.0,)}, "noise_ratios="),
    ],
)
def test_settings_that_cannot_be_are_named(recipe, settings, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(f"{ROOT / 'models'}/{recipe}")(**settings)
