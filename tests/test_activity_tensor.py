"""The study of activity as a tensor: recipe at tiny size, analysis, figures."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neurofb import labels, plot
from neurofb.measures import tensor_ranks
from neurofb.recipes import load_recipe

ROOT = Path(__file__).parents[1]
RECIPE = f"{ROOT / 'models/activity_tensor.py'}::activity_tensor"
ANALYSIS = f"{ROOT / 'analyses/activity_tensor.py'}::analyse"
TINY = {
    "layer": "retina_1",
    "num_seeds": 1,
    "num_steps": 2,
    "num_snapshots": 3,
    "num_images": 32,
    "num_trials": 3,
    "num_orientations": 2,
    "num_times": 6,
    "noise_ratios": (0.0, 10.0),
    "ranks": (2,),
    "shown_rank": 1,
}


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_ranks, "MAX_SWEEPS", 15)
        found = load_recipe(RECIPE)(**TINY)
    again = found[[name for name in found if "seed" in found[name].dims]].assign_coords(seed=[1])
    return xr.concat([found, again], "seed", data_vars="minimal", combine_attrs="override")


def test_the_recipe_gives_labelled_errors(result):
    error = result["held_out_error"]
    assert error.dims == ("seed", "condition", "algorithm", "noise_ratio", "rank")
    assert error.shape == (2, 4, 3, 2, 1)
    assert bool(np.isfinite(error).all())
    assert result["step"].values.tolist() == [0, 1, 2]
    assert result["unit_factor"].sizes["component"] == 1
    assert all("units" in variable.attrs for variable in result.variables.values())


def test_components_make_up_the_activity(result):
    size = (
        (result["unit_factor"] ** 2).mean("unit"),
        (result["stimulus_factor"] ** 2).mean("stimulus"),
    )
    assert np.allclose(size, 1)
    # of normalised activity the mean square is 1, of which rank one has a part
    assert 0.2 < float((result["step_factor"] ** 2).mean()) < 1.1


def test_shuffling_destroys_low_rank(result):
    clean = result["held_out_error"].sel(noise_ratio=0, rank=2, algorithm="ALS, random start")
    gap = clean.sel(condition="shuffled") - clean.sel(condition="trained")
    assert bool((gap > 0.02).all())


def test_the_analysis_draws_and_tells(result, tmp_path, capsys):
    labels.save(result, tmp_path / "result.zarr")
    found, figures = load_recipe(ANALYSIS)(labels.load(tmp_path / "result.zarr"))
    said = capsys.readouterr().out
    assert "noise × 10: AMP below ALS" in said
    assert found["statement_holds"].sizes["statement"] == 8
    best = result["held_out_error"].sel(algorithm="AMP").min("rank")
    assert np.allclose(found["best_error"].sel(algorithm="AMP"), best)
    assert set(figures) == {"activity_tensor", "activity_factors"}
    drawn = figures["activity_tensor"].axes[0]
    lines = {line.get_gid(): line.get_ydata() for line in drawn.lines if line.get_gid()}
    one = result.isel(condition=0, noise_ratio=0)
    medians = one["held_out_error"].sel(algorithm="AMP").median("seed")
    assert np.allclose(lines["AMP"], medians)
    assert np.allclose(lines["null"], one["error_of_mean"].median("seed"))


def test_another_dataset_is_refused():
    with pytest.raises(ValueError, match="no variable 'held_out_error'"):
        load_recipe(ANALYSIS)(xr.Dataset())
    with pytest.raises(ValueError, match="held_out_error"):
        plot.activity_errors(xr.Dataset())
    with pytest.raises(ValueError, match="unit_factor"):
        plot.activity_factors(xr.Dataset())
